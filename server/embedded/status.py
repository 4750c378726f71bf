"""What runs from a home, as a file there: for `ratchet doctor` and `ratchet replay` in other processes."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from server.embedded.child import ChildStatus
from server.embedded.layout import Layout
from server.embedded.lock import holder


class Running(NamedTuple):
    """The Ratchet that has a home: its process, its parts, and where its server listens, "" while it does not."""

    pid: int
    parts: list[ChildStatus]
    address: str


def write(layout: Layout, parts: Sequence[ChildStatus], address: str = "") -> None:
    """Whole or not at all."""
    staged = layout.status.with_suffix(f".{os.getpid()}")
    state = {"address": address, "parts": [asdict(part) for part in parts]}
    staged.write_text(json.dumps(state, default=str))
    staged.replace(layout.status)


def read(home: Path) -> Running | None:
    """The Ratchet that runs from `home`; None when none runs."""
    layout = Layout.of(home)
    try:
        pid = holder(layout.lock)
        if pid is None:
            return None
        state = json.loads(layout.status.read_text())
    except (OSError, ValueError):
        return None
    parts = [ChildStatus(**{**part, "log": Path(part["log"]) if part["log"] else None}) for part in state["parts"]]
    return Running(pid, parts, state["address"])
