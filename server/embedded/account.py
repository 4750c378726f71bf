"""Who runs Postgres: it refuses to run as root."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from server.embedded.errors import UnsupportedMachine


@dataclass(frozen=True, slots=True)
class Account:
    """An entry of the user database, without its other groups."""

    name: str
    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Whether the mode bits let this account cross the directories on the way to `path`, and read it if a file."""
        path = path.resolve()
        return all(self._may_pass(step) for step in (path, *path.parents))

    def _may_pass(self, step: Path) -> bool:
        found = step.stat()
        wanted = stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else stat.S_IROTH
        if found.st_uid == self.uid:
            wanted <<= 6
        elif found.st_gid == self.gid:
            wanted <<= 3
        return found.st_mode & wanted == wanted


def postgres_account(data: Path) -> Account | None:
    """The account for Postgres, or None for our own. An existing data directory decides: it stays with its owner."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(_name(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise UnsupportedMachine(
        "Postgres does not run as root and there is no user postgres or nobody: run Ratchet as an ordinary user."
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
