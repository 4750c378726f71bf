"""What can keep the embedded parts from starting. Each text is one sentence that says what to do."""

import shutil
from pathlib import Path

from server.errors import ConfigurationError


class EmbeddedError(ConfigurationError):
    """An embedded part can't run on this machine as it is."""


class UnsupportedMachine(EmbeddedError):
    """The operating system, processor or C library can't run the embedded binaries."""


class PartMissing(EmbeddedError):
    """A binary, library or environment that `./run setup` installs is not there, or does not work."""


class NoLibpython(EmbeddedError):
    """The Python of the Triton environment has no shared library, which Triton's Python backend links."""


class HomeUnusable(EmbeddedError):
    """RATCHET_HOME can't be read, written or reached by the account that needs it."""


class HomeInUse(EmbeddedError):
    """Another Ratchet runs from the same RATCHET_HOME."""

    def __init__(self, home: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{home} is in use by {holder}: stop that Ratchet, or set RATCHET_HOME to another directory for this one."
        )
        self.pid = pid


NEEDED_MB = 256
"""Room for a new database, logs and the spool; models need more, and their loader says so."""


class DiskFull(EmbeddedError):
    """Too little space is left where the data must go."""

    def __init__(self, where: Path) -> None:
        free = shutil.disk_usage(where).free >> 20
        super().__init__(
            f"The disk of {where} has {free} MB left and Ratchet needs {NEEDED_MB} MB: "
            "free some space, or set RATCHET_HOME to a directory on a larger disk."
        )


def require_space(where: Path) -> int:
    """The free megabytes of the disk. Raises DiskFull. Blocks."""
    free = shutil.disk_usage(where).free >> 20
    if free < NEEDED_MB:
        raise DiskFull(where)
    return free


class ChildFailed(EmbeddedError):
    """A part ended, or hung, while it was starting."""

    def __init__(self, name: str, how: str, last_line: str, log: Path) -> None:
        said = f', its last words: "{last_line}"' if last_line else ""
        super().__init__(f"{name} {how} while starting{said}; read {log}, then start again.")
        self.last_line = last_line
