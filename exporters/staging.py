"""A release's directory appears whole or not at all."""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from exporters.errors import ExportError, explained
from triton_models.manifest import fsync_directory

PARTIAL: Final = ".partial"
"""At the end of the name of a directory that is being filled."""


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A directory to fill, renamed to `out` at the end; removed when the body fails. `out` must not exist."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} exists already: choose another --out, or remove it.")
    with explained(f"{out} can't be written"):
        out.parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=PARTIAL, dir=out.parent))
    try:
        yield directory
        with explained(f"{out} can't be written"):
            directory.chmod(0o755)
            _sync(directory)
            directory.rename(out)
            fsync_directory(out.parent)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def discard(out: Path) -> None:
    """Removes it, and what processes that were killed while they filled it left beside it."""
    for path in (out, *out.parent.glob(f".{glob.escape(out.name)}.*{PARTIAL}")):
        shutil.rmtree(path, ignore_errors=True)


def _sync(directory: Path) -> None:
    """What is named must be there after a power cut too."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            fsync_directory(path)
    fsync_directory(directory)


def now() -> str:
    """The time as RFC 3339."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def code_version() -> str:
    """The installed Ratchet's version, or that of an unknown checkout."""
    try:
        return version("ratchet")
    except PackageNotFoundError:
        return "0+unknown"
