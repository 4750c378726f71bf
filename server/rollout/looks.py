"""Keeps what was seen last of each rollout or experiment, for people and for their commands.

They are looked at each second, of which few say something new; each that is written is some kB of new rows and WAL.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from server.rollout.registry import Looked

AGAIN = 10.0
"""Seconds after which what has not changed is written again, so that it is seen to be looked at."""

Write = Callable[[str, Looked], Awaitable[None]]


class Looks:
    """Those of one leader. `write` keeps a look by its rollout or experiment; whatever it raises, `keep` raises."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._written: dict[str, Looked] = {}

    async def keep(self, name: str, looked: Looked) -> None:
        """Has it written, if it says more than the one before, or that was long ago."""
        before = self._written.get(name)
        if before is None or _says_more(before, looked):
            await self._write(name, looked)
            self._written[name] = looked

    def only(self, names: Sequence[str]) -> None:
        """Forgets all but these."""
        self._written = {name: self._written[name] for name in names if name in self._written}


def _says_more(before: Looked, looked: Looked) -> bool:
    """A clock that was set back counts as a long time."""
    passed = (looked.at - before.at).total_seconds()
    return not 0 <= passed < AGAIN or replace(before, at=looked.at) != looked
