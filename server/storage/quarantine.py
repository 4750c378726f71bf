"""What of the spool could not go to Postgres and was set aside: takes a user's rows out of it.

A refused row is whole, and tells whose it is. Damaged bytes don't: people must look at them.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from server.storage.spool import DAMAGED, REFUSED, SEGMENT

_STAGING = ".staging"


@dataclass(frozen=True, slots=True)
class Examined:
    """`erased`: rows that were taken out. `busy`: files that may still grow. `unreadable`: files that hold what nobody
    can attribute."""

    erased: int = 0
    busy: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def erase(directory: Path, tenant: str, user: str, last_response: UUID) -> Examined:
    """Takes the user's rows up to `last_response` out of the spool's refused ones. Each file changes wholly or not at
    all. For a thread. Raises OSError."""
    if not directory.is_dir():
        return Examined()
    erased, busy, unreadable = 0, [], [path.name for path in sorted(directory.glob(f"*.{DAMAGED}"))]
    with _alone(directory):
        for staging in directory.glob(f"*{_STAGING}"):  # of a process that was killed
            staging.unlink()
        for path in sorted(directory.glob(f"*.{REFUSED}")):
            if path.with_suffix(SEGMENT).exists():
                busy.append(path.name)
                continue
            kept, gone, unclear = _sorted(path.read_bytes().splitlines(keepends=True), tenant, user, last_response)
            erased += gone
            unreadable += [path.name] * unclear
            if gone:
                _replace(path, b"".join(kept))
    return Examined(erased, tuple(busy), tuple(unreadable))


def _sorted(lines: list[bytes], tenant: str, user: str, last: UUID) -> tuple[list[bytes], int, bool]:
    """The lines that stay, how many go, and whether there is one that can't be read."""
    kept, unclear = [], False
    for line in lines:
        try:
            columns = json.loads(line.decode("utf-8", "surrogatepass"))["columns"]
            owner, response = (columns["tenant_id"], columns["user_id"]), UUID(columns["response_id"])
        except (AttributeError, KeyError, TypeError, ValueError):
            kept.append(line)
            unclear = True
            continue
        if owner != (tenant, user) or response > last:
            kept.append(line)
    return kept, len(lines) - len(kept), unclear


def _replace(path: Path, data: bytes) -> None:
    if not data:
        path.unlink()
        return
    staging = path.with_name(path.name + _STAGING)
    staging.touch(mode=0o600)
    with staging.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One process at a time; the directory's changes are durable at the end."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        os.fsync(file)
    finally:
        os.close(file)
