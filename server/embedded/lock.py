"""One Ratchet per home: an advisory lock that the kernel drops with the process, whatever ends it."""

import fcntl
import os
from pathlib import Path

from server.embedded.errors import HomeInUse


class HomeLock:
    """Held from construction to `release`. Raises HomeInUse, which names the holder."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise HomeInUse(path.parent, _written_pid(path)) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the home back; the file stays."""
        os.close(self._file)


def holder(path: Path) -> int | None:
    """The process that holds the lock file `path`; None when nobody does."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _written_pid(path)
    finally:
        os.close(file)
    return None


def _written_pid(path: Path) -> int | None:
    text = path.read_text().strip()
    return int(text) if text.isdecimal() else None
