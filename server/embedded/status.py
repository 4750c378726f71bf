"""The state of the embedded parts as a file, for `ratchet doctor` in another process."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from server.embedded.child import ChildStatus
from server.embedded.layout import Layout
from server.embedded.lock import holder


def write(layout: Layout, parts: Sequence[ChildStatus]) -> None:
    """Whole or not at all."""
    staged = layout.status.with_suffix(f".{os.getpid()}")
    staged.write_text(json.dumps([asdict(part) for part in parts], default=str))
    staged.replace(layout.status)


def read(home: Path) -> tuple[int, list[ChildStatus]] | None:
    """The pid of the Ratchet that runs from `home`, and its parts; None when none runs."""
    layout = Layout.of(home)
    try:
        pid = holder(layout.lock)
        if pid is None:
            return None
        parts = json.loads(layout.status.read_text())
    except (OSError, ValueError):
        return None
    return pid, [ChildStatus(**{**part, "log": Path(part["log"]) if part["log"] else None}) for part in parts]
