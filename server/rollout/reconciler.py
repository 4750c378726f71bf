"""Makes what the Triton replicas have loaded what the rollouts want, and tells Postgres how that stands.

What is wanted follows from the stored champions and rollouts alone (`effects.loaded`), so a new leader, or one that
just came back, does the same. Each replica is brought there by itself, as a restarted one is brought back.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from server.errors import ConfigurationError, ReleaseNotFound, Unavailable, told
from server.models import LOAD_SECONDS
from server.rollout import effects
from server.rollout.loading import Wish
from server.rollout.registry import Champion, ReplicaModel
from server.rollout.replicas import Replica
from server.rollout.store import Rollouts
from server.rollout.tending import Tending
from server.rollout.types import Kind

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""What a look waits for the replicas; slower ones go on by themselves and are told of at the next look."""
REPORT_EVERY = 5.0
"""Seconds after which what has not changed is reported again, so that it is seen to be looked after."""
FOREIGN_SECONDS = 60.0
"""How long a model that was no release of ours counts as none."""
RESTORE_AFTER = 5.0
"""Seconds that a leader gets to see to a replica before others do."""
STEP = 0.05
UNREADABLE = (ValueError, KeyError, TypeError)
"""What reading raises of what a newer server wrote."""

InUse = Callable[[str, str], Awaitable[bool]]
"""Whether somebody else, a replay or a server with other settings, uses a model of the Triton at an address. Raises
Unavailable."""


class Reconciler:
    """All replicas. `look` is for the one process that leads; `bring` and `restore` are harmless beside it.

    `repository`: Triton's, seen from here. `static_models`: what the settings name besides and no rollout changes, such
    as the embedding. `stand_ins`: what answers here, by kind, while no replica takes the stored champion. `linger`:
    seconds that a champion's calls may still take after the next one answers. `reports`: whether `look` writes what it
    finds; a process with a fake of its own does not. What is `in_use` is not unloaded.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        rollouts: Rollouts,
        repository: Path,
        static_models: Sequence[str] = (),
        *,
        stand_ins: Mapping[Kind, str] | None = None,
        linger: float = 0.0,
        reports: bool = True,
        in_use: InUse | None = None,
    ) -> None:
        self._rollouts, self._reports, self._in_use = rollouts, reports, in_use
        self._static = {name: Wish(LOAD_SECONDS, essential=True) for name in static_models}
        self._desired: Mapping[str, Wish] = self._static
        self._stand_ins, self._linger = dict(stand_ins or {}), timedelta(seconds=linger)
        self._crowned: Mapping[Kind, Champion] = {}
        self._leads = False
        self._skew = timedelta(0)
        self._tended = [Tending(replica, repository, self._now) for replica in replicas]
        self._looks: dict[Tending, asyncio.Task[None]] = {}
        self._foreign: dict[str, float] = {}
        self._reported: tuple[list[ReplicaModel], float] = ([], float("-inf"))

    @property
    def addresses(self) -> list[str]:
        """The replicas'."""
        return [tended.replica.address for tended in self._tended]

    async def look(self) -> None:
        """One look, for a second or so: begins to load what is missing, unloads what serves nobody any more, reports.

        While Postgres is away, or has what this version can't read, it restores what was wanted last, and unloads
        nothing.
        """
        try:
            await self._read()
            await self._take_over()
        except (Unavailable, *UNREADABLE) as error:
            log.warning("what is to be loaded can't be read, what was is kept: %s", told(error))
            await self._tend(unload=False)
            return
        await self._tend(unload=True)
        if self._reports:
            await self._report()

    async def restore(self) -> None:
        """For who does not lead: begins to load again what a replica has lost, when no leader has done so within
        RESTORE_AFTER; at once while Postgres is away, for then nobody may lead. Unloads nothing, writes nothing.

        Who can't read what is wanted now restores what is essential only: a leader who can may have done with the rest.
        """
        self._leads, patience, desired = False, RESTORE_AFTER, self._essential
        try:
            await self._read()
            desired = self._desired
        except Unavailable:
            patience = 0.0
        except UNREADABLE as error:
            log.warning("what is to be loaded can't be read, what was is kept: %s", told(error))
        await self._tend(unload=False, patience=patience, desired=desired)

    async def bring(self, models: Sequence[str]) -> None:
        """Loads these besides: returns once a replica answers with all of them, right or not; others may follow, but
        for a champion that has just become it: until each replica has that, users are better off with the one before.

        For a process that starts. Raises ConfigurationError once no replica can: a sentence.
        """
        with contextlib.suppress(Unavailable, *UNREADABLE):
            await self._read()
        self._desired = {**dict.fromkeys(models, Wish(LOAD_SECONDS, essential=True)), **self._desired}
        while not self._have(models):
            await self._tend(unload=False)
            troubles = [tended.trouble(models) for tended in self._tended]
            if all(troubles):
                raise ConfigurationError(" ".join(troubles))
            await asyncio.sleep(STEP)

    def _have(self, models: Sequence[str]) -> bool:
        """Whether a replica answers with all of them; while one is a new champion, each that may do so."""
        serving = [all(map(one.serves, models)) for one in self._tended]
        begun = [each.since for each in self._crowned.values() if each.release in models]
        if any(self._now() - since < timedelta(seconds=LOAD_SECONDS) for since in begun):
            may = [there or not one.trouble(models) for one, there in zip(self._tended, serving, strict=True)]
            return any(serving) and may == serving
        return any(serving)

    @property
    def _essential(self) -> Mapping[str, Wish]:
        """What users have, of what was wanted last."""
        return {name: wish for name, wish in self._desired.items() if wish.essential}

    def is_gone(self, release: str) -> bool:
        """Whether each replica was asked, and none has the release, or is to have it."""
        return release not in self._desired and all(tended.lacks(release) for tended in self._tended)

    async def close(self) -> None:
        """Ends what goes on in the background."""
        for task in self._looks.values():
            task.cancel()
        await asyncio.gather(*self._looks.values(), return_exceptions=True)
        await asyncio.gather(*(tended.close() for tended in self._tended))

    async def _read(self) -> None:
        """What is wanted now. Raises Unavailable."""
        champions, active = await self._rollouts.champions(), await self._rollouts.active()
        now = await self._rollouts.now()
        self._skew = now - datetime.now(UTC)
        desired = dict(self._static)
        for champion in champions.values():
            desired[champion.release] = Wish(LOAD_SECONDS, essential=True)
            if champion.kind in self._stand_ins and self._is_refused(champion.release):
                desired[self._stand_ins[champion.kind]] = Wish(LOAD_SECONDS, essential=True)
        for rollout in active:
            for name in sorted(effects.loaded(rollout, now)):
                desired.setdefault(name, Wish(rollout.plan.load_seconds, essential=name == rollout.champion))
        self._desired = dict(sorted(desired.items(), key=lambda item: not item[1].essential))
        self._crowned = champions

    def _is_refused(self, champion: str) -> bool:
        """Whether replicas refuse it and none has it."""
        return any(one.refuses(champion) for one in self._tended) and not any(
            one.serves(champion) for one in self._tended
        )

    async def _take_over(self) -> None:
        """Where another process led before, what it found holds: a rollout must not pause for a change of leaders.

        Raises Unavailable.
        """
        if not self._leads:
            known = await self._rollouts.replicas()
            for tended in self._tended:
                tended.adopt(known)
        self._leads = True

    async def _tend(self, *, unload: bool, patience: float = 0.0, desired: Mapping[str, Wish] | None = None) -> None:
        """Looks at all replicas side by side, and waits for LOOK_SECONDS at most. `desired`: all, if it is None."""
        wanted = self._desired if desired is None else desired
        for tended in self._tended:
            before = self._looks.get(tended)
            if before is not None and not before.done():
                continue
            work = self._look_at(tended, wanted, unload=unload, patience=patience)
            self._looks[tended] = asyncio.create_task(work)
        await asyncio.wait(self._looks.values(), timeout=LOOK_SECONDS)

    async def _look_at(self, tended: Tending, wanted: Mapping[str, Wish], *, unload: bool, patience: float) -> None:
        owned = partial(self._owned, tended) if unload else None
        try:
            await tended.look(wanted, owned, patience)
        except Unavailable as error:
            log.warning("what may be unloaded can't be read, it is kept: %s", told(error))
        except Exception:  # a defect of ours must not end what keeps the models up
            log.exception("looking after Triton at %s failed", tended.replica.address)

    async def _owned(self, tended: Tending, model: str) -> bool:
        """Whether a model that is not wanted is a release of ours, and the champion of its kind is there instead, for
        so long that nobody's calls need this one. There is everywhere: before that, no server need have followed it."""
        if monotonic() < self._foreign.get(model, 0.0):
            return False
        try:
            found = await self._rollouts.release(model)
        except ReleaseNotFound:
            self._foreign[model] = monotonic() + FOREIGN_SECONDS
            return False
        crowned = self._crowned.get(found.kind)
        since = self._everywhere_since(crowned.release) if crowned is not None else None
        if crowned is None or since is None or self._now() < max(since, crowned.since) + self._linger:
            return False
        return self._in_use is None or not await self._in_use(tended.replica.address, model)

    def _everywhere_since(self, release: str) -> datetime | None:
        """Since when each replica that is not away has the release; None: one does not."""
        since = [tended.since(release) for tended in self._tended if not tended.away]
        known = [each for each in since if each is not None]
        return max(known) if known and len(known) == len(since) else None

    async def _report(self) -> None:
        """Writes how releases stand, once each replica was asked: one that is not known yet is one all the same."""
        if not all(tended.known for tended in self._tended):
            return
        rows = [row for tended in self._tended for row in tended.rows(self._now())]
        bare, (before, at) = [replace(row, checked_at=row.since) for row in rows], self._reported
        if bare == before and monotonic() - at < REPORT_EVERY:
            return
        await self._rollouts.report(rows, self.addresses)
        self._reported = bare, monotonic()

    def _now(self) -> datetime:
        """Postgres's time, as far as it is known."""
        return datetime.now(UTC) + self._skew
