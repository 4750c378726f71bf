"""Retires releases, and removes their files from Triton's repository once nobody can need them. The trainer's own stay.

All that removing goes by is read again at each look: whoever leads next goes on where the last leader died.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from server.errors import ReleaseInUse, told
from server.rollout.registry import Published, Retired
from server.rollout.store import Rollouts
from triton_models.removal import clear, digest_of, take_out

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two looks."""

Needed = Callable[[str], str]
"""Why this deployment needs a release whatever the rollouts say, a sentence; "": it does not."""


async def retire(release: str, rollouts: Rollouts, is_needed: Needed) -> tuple[Published, bool]:
    """Has a release serve nobody any more; gives it, and whether it was retired before.

    Raises ReleaseNotFound, ReleaseInUse, Unavailable.
    """
    found = await rollouts.release(release)
    champion = (await rollouts.champions()).get(found.kind)
    crowned = champion is not None and champion.release == release
    if found.retired_at is None and not crowned and (sentence := is_needed(release)):
        raise ReleaseInUse(sentence)
    return await rollouts.retire(release)


class Remover:
    """`is_gone`: whether no replica has a release, or is about to. `linger`: seconds that its calls may still take once
    it is retired. `names`: the leases of who uses a model, a replay's for instance."""

    def __init__(
        self,
        rollouts: Rollouts,
        repository: Path,
        *,
        is_gone: Callable[[str], bool],
        is_needed: Needed,
        names: Callable[[str], Sequence[str]],
        linger: float,
    ) -> None:
        self._rollouts, self._repository = rollouts, repository
        self._is_gone, self._is_needed, self._names = is_gone, is_needed, names
        self._linger = timedelta(seconds=linger)
        self._foreign: set[str] = set()

    async def look(self) -> None:
        """Takes out what may go, then deletes what was taken out, by whomever. Raises Unavailable."""
        retired = await self._rollouts.retired(self._linger)
        for each in await asyncio.to_thread(self._present, retired):
            if not self._is_needed(each.release) and self._is_gone(each.release):
                await self._remove(each)
        await asyncio.to_thread(clear, self._repository)

    def _present(self, retired: Sequence[Retired]) -> list[Retired]:
        """Those whose files are here. What has such a name and is another release, or none, is not ours to remove."""
        found = []
        for each in retired:
            digest = digest_of(self._repository / each.release)
            if digest == each.digest:
                found.append(each)
            elif digest is not None and each.release not in self._foreign:
                self._foreign.add(each.release)
                log.warning("%s is retired, but its folder holds another release, and stays", each.release)
        return found

    async def _remove(self, retired: Retired) -> None:
        name, failures = retired.release, list[OSError]()

        def take() -> None:
            try:
                take_out(self._repository / name)
            except OSError as error:  # no fault of the store that waits for us
                failures.append(error)

        done = await self._rollouts.while_retired(name, self._names(name), take)
        if failures:
            log.warning("%s is retired, and its files can't be removed yet: %s", name, told(failures[0]))
        elif done:
            log.info("%s is retired, and its files leave %s", name, self._repository)
