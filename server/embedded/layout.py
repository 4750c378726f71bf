"""The paths below RATCHET_HOME.

Two things can't live below every home: a socket's path is limited to 107 bytes, and Triton hands paths to a shell without
quoting them. When the home is too long or holds such characters, sockets and links go to a directory of ours in /tmp.
"""

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from server.embedded.errors import HomeUnusable

LONGEST_SOCKET = "postgres/.s.PGSQL.5432"
SOCKET_LIMIT = 107
PLAIN = re.compile(r"[A-Za-z0-9_./@%+=:,-]+")


@dataclass(frozen=True, slots=True)
class Layout:
    """All paths are absolute; `tag` is 8 hex digits that belong to this home and user alone."""

    home: Path
    tag: str
    run: Path

    @classmethod
    def of(cls, home: Path) -> "Layout":
        home = home.expanduser().resolve()
        tag = hashlib.sha256(f"{os.geteuid()}:{home}".encode()).hexdigest()[:8]
        inside = home / "run"
        fits = len(os.fsencode(inside / LONGEST_SOCKET)) <= SOCKET_LIMIT
        run = inside if fits and PLAIN.fullmatch(str(inside)) else Path(f"/tmp/ratchet-{tag}")
        return cls(home, tag, run)

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def postgres(self) -> Path:
        return self.home / "postgres"

    @property
    def postgres_data(self) -> Path:
        return self.postgres / "18"

    @property
    def postgres_socket(self) -> Path:
        """The directory of the socket, which Postgres names itself."""
        return self.run / "postgres"

    @property
    def valkey_socket(self) -> Path:
        return self.run / "valkey.sock"

    @property
    def status(self) -> Path:
        return self.home / "status.json"

    @property
    def shm_prefix(self) -> str:
        """How the names of this home's segments in /dev/shm begin."""
        return f"ratchet_{self.tag}_"

    def make(self) -> None:
        """Creates the directories. Raises HomeUnusable with one sentence."""
        # Root's directories can be crossed, not listed: Postgres runs below them under another account.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            if not self.home.exists():
                self.home.mkdir(parents=True)
            if self.home.stat().st_uid == os.geteuid():
                self.home.chmod(mode)
            for directory in (self.logs, self.models, self.postgres):
                directory.mkdir(exist_ok=True, mode=mode)
            _make_private(self.run, mode)
            _probe(self.home)
        except OSError as error:
            raise HomeUnusable(
                f"RATCHET_HOME {self.home} can't be used ({error.strerror or error}): "
                "set RATCHET_HOME to a directory that you may write to."
            ) from error


def _make_private(directory: Path, mode: int) -> None:
    """Like mkdir, but refuses what somebody else put there: /tmp is everybody's."""
    directory.mkdir(exist_ok=True, mode=mode)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(1, f"{directory} belongs to somebody else")
    directory.chmod(mode)


def _probe(directory: Path) -> None:
    probe = directory / f".probe-{os.getpid()}"
    probe.write_bytes(b"")
    probe.unlink()
