"""What a new release is called: reward-000007 comes after the greatest number that is known."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from trainer.database import Connection

_LOCK: Final = 0x52454C
"""Any constant of our own: one trainer at a time takes a number."""
_TAKEN: Final = "SELECT release FROM training_runs WHERE release <> '' UNION SELECT release_path FROM training_runs"
_NUMBERED: Final = re.compile(r"reward-(\d{1,12})")


def next_name(known: Iterable[str]) -> str:
    """The first name after those that are numbered; others don't count."""
    numbers = [int(found[1]) for name in known if (found := _NUMBERED.fullmatch(name))]
    return f"reward-{max(numbers, default=0) + 1:06d}"


async def place(connection: Connection, releases: Path, former: str, known: Iterable[str]) -> Path:
    """The directory below `releases` for a run's release: the one that an earlier attempt took, or a new one.

    Nobody else is given it before the connection's transaction ends; by then it must be in the run's row.
    """
    if former and Path(former).parent == releases:
        return Path(former)
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    taken = [Path(row[0]).name for row in await connection.fetch(_TAKEN)]
    return releases / next_name([*known, *taken, *_names(releases)])


def _names(releases: Path) -> list[str]:
    return [path.name for path in releases.iterdir()] if releases.is_dir() else []
