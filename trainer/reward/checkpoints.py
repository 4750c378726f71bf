"""Checkpoints that a kill -9 can't tear: written aside, synced, renamed, and marked COMPLETE last."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from triton_models.manifest import fsync_directory, write_whole

PREFIX: Final = "checkpoint-"
COMPLETE: Final = "COMPLETE"
STATE: Final = "state.pt"


def write(home: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Keeps `state` (tensors and plain values) as the newest checkpoint in `home`, and removes older ones."""
    target = home / f"{PREFIX}{step:010d}"
    aside = home / f".{target.name}.{os.getpid()}"
    for left in (aside, target):
        shutil.rmtree(left, ignore_errors=True)
    aside.mkdir()
    with (aside / STATE).open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    fsync_directory(aside)
    aside.rename(target)
    write_whole(target / COMPLETE, str((target / STATE).stat().st_size).encode())
    fsync_directory(home)
    clear(home, target)
    return target


def newest(home: Path) -> Path | None:
    """The newest whole checkpoint; None: there is none."""
    return max(filter(_is_whole, home.glob(f"{PREFIX}*")), default=None)


def read(checkpoint: Path) -> dict[str, Any]:
    """What was given to `write`, its tensors on the CPU."""
    state: dict[str, Any] = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    return state


def clear(home: Path, kept: Path | None = None) -> None:
    """Removes all checkpoints but `kept`, torn ones too."""
    for path in (*home.glob(f"{PREFIX}*"), *home.glob(f".{PREFIX}*")):
        if path != kept:
            # The marker first: what is half removed must not look whole.
            (path / COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    try:
        return int((path / COMPLETE).read_text()) == (path / STATE).stat().st_size
    except (OSError, ValueError):
        return False
