"""The paths below RATCHET_HOME.

Two things can't live below every home: a socket's path is limited to 107 bytes, and Triton hands paths to a shell
without quoting them. When the home is too long or holds such characters, sockets and links go to a directory of ours
in /tmp.
"""

import hashlib
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from server.embedded.errors import HomeUnusable

LONGEST_SOCKET = "postgres/.s.PGSQL.5432"
SOCKET_LIMIT = 107
PLAIN = re.compile(r"[A-Za-z0-9_./@%+=:,-]+")


@dataclass(frozen=True, slots=True)
class Layout:
    """Absolute paths. `run` holds sockets and links; `tag` is 8 hex digits of this home and user alone."""

    home: Path
    tag: str
    run: Path
    lock: Path
    logs: Path
    models: Path
    status: Path
    postgres: Path
    postgres_data: Path
    postgres_socket: Path
    """The directory of the socket, which Postgres names itself."""
    valkey_socket: Path
    shm_prefix: str
    """How the names of this home's segments in /dev/shm begin."""

    @classmethod
    def of(cls, home: Path) -> "Layout":
        """The layout of a home that need not exist yet."""
        home = home.expanduser().resolve()
        tag = hashlib.sha256(f"{os.geteuid()}:{home}".encode()).hexdigest()[:8]
        run = _run_directory(home, tag)
        return cls(
            home=home,
            tag=tag,
            run=run,
            lock=home / "lock",
            logs=home / "logs",
            models=home / "models",
            status=home / "status.json",
            postgres=home / "postgres",
            postgres_data=home / "postgres" / "18",
            postgres_socket=run / "postgres",
            valkey_socket=run / "valkey.sock",
            shm_prefix=f"ratchet_{tag}_",
        )

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

    def clear(self) -> None:
        """Leaves nothing outside the home once all parts have stopped."""
        if not self.run.is_relative_to(self.home):
            shutil.rmtree(self.run, ignore_errors=True)


def _run_directory(home: Path, tag: str) -> Path:
    inside = home / "run"
    fits = len(os.fsencode(inside / LONGEST_SOCKET)) <= SOCKET_LIMIT
    # Not $TMPDIR, which may be long itself; _make_private refuses what somebody else put there.
    return inside if fits and PLAIN.fullmatch(str(inside)) else Path(f"/tmp/ratchet-{tag}")  # noqa: S108


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
