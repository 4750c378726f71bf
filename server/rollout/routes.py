"""Who answers which turn, in this process: champions and rollouts as Postgres has them, heard of by LISTEN and read
again each second; releases are opened off the event loop when they first appear.

A process that has not heard from Postgres for STALE_SECONDS serves its champions alone: its turns are in no experiment.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from server.deliberation import Judges, Policy
from server.errors import RatchetError, ReleaseNotFound, Unavailable, told
from server.experiments.store import Running
from server.experiments.types import Experiment
from server.rollout.registry import Assignment
from server.rollout.routed import Routed
from server.rollout.store import Rollouts
from server.rollout.table import Champions, Known, Opened, Table
from server.rollout.types import Kind
from server.stages.scoring import Reward
from server.types import Turn

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two readings when nothing is heard."""
STALE_SECONDS = 5.0
AGAIN_SECONDS = 10.0
"""After so long a release that could not be opened is tried again."""
UNFOLLOWED_SECONDS = 10.0
"""What a rollout's champion may take to be opened before it is said that nobody is part of the rollout here."""
READY_EVERY = 0.25
"""Seconds between two questions whether the inference server answers for a new champion."""
NOTES = 64
"""Calls without a reply whose notes may be under way; more are dropped."""
STOP_SECONDS = 1.0

Digest = Callable[[str, str], bytes]
"""What stands for a tenant's user."""
Listen = Callable[[Callable[[], None]], Awaitable[None]]
"""Calls back at each change, for ever."""
OpenPolicy = Callable[[str], Awaitable[Policy]]
OpenReward = Callable[[str], Awaitable[Reward]]
Answers = Callable[[str], Awaitable[bool]]
"""Whether the inference server answers for a release."""


class Routes:
    """`server.rollout.routed.Router` as the store has it. `judges`: without the rewards that are routed.

    `open_policy` and `open_reward` open a release by its name; they raise RatchetError. A champion that no rollout
    brought, as one of other settings, is followed once it `answers`, which may raise Unavailable. `listen` hurries the
    reading up; without it changes are seen within a second or two. Without `experiments` nobody is part of one.
    """

    def __init__(
        self,
        store: Rollouts,
        champions: Champions,
        judges: Judges,
        *,
        open_policy: OpenPolicy,
        open_reward: OpenReward,
        answers: Answers,
        digest: Digest,
        listen: Listen | None = None,
        experiments: Running | None = None,
    ) -> None:
        self._store, self._judges, self._digest, self._listen = store, judges, digest, listen
        self._experiments = experiments
        self._open_policy, self._open_reward, self._answers = open_policy, open_reward, answers
        policy, reward = champions.policy, champions.reward
        self._opened = Opened({policy.release.id: policy}, {reward.release.id: reward})
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._known = Known({Kind.POLICY: policy.release.id, Kind.REWARD: reward.release.id})
        self._table = Table(self._known, self._opened, judges, champions)
        self._heard = -STALE_SECONDS
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._notes: set[asyncio.Task[None]] = set()
        self._unfollowed: dict[str, float] = {}
        self._told: set[str] = set()

    @property
    def policy(self) -> Policy:
        """The champion."""
        return self._table.champions.policy

    @property
    def reward(self) -> Reward:
        """The champion."""
        return self._table.champions.reward

    @property
    def stale(self) -> bool:
        """Whether what is known is too old to assign anybody by it."""
        return asyncio.get_running_loop().time() - self._heard > STALE_SECONDS

    async def start(self) -> None:
        """Reads, opens what is to be open, and goes on doing so. Raises StoreUnavailable."""
        await self._read()
        if opening := [task for name, task in self._opening.items() if name in self._tried]:
            await asyncio.wait(opening)
        self._tasks = [asyncio.create_task(self._keep_reading())]
        if self._listen is not None:
            self._tasks.append(asyncio.create_task(self._hear(self._listen)))

    async def stop(self) -> None:
        """Ends the reading; what is being noted gets a second."""
        if self._notes:
            await asyncio.wait(self._notes, timeout=STOP_SECONDS)
        tasks = [*self._tasks, *self._opening.values(), *self._notes]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)

    def of(self, turn: Turn) -> Routed:
        """Who answers the turn."""
        table = self._table
        return table.alone if table.has_parts and self.stale else table.of(turn)

    def failed(self, turn: Turn, assignments: Sequence[Assignment], reason: str) -> None:
        """Notes that the turn got no reply, in the background."""
        if not assignments:
            return
        if len(self._notes) >= NOTES:
            log.warning("a call without a reply is not noted: too many are being noted")
            return
        # All tries of a request are one unit.
        who = turn.user_id or turn.session_id or turn.request_id or str(turn.response_id)
        digest = self._digest(turn.tenant_id, who)
        task = asyncio.create_task(self._note(turn.tenant_id, digest, assignments, reason))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _note(self, tenant: str, digest: bytes, assignments: Sequence[Assignment], reason: str) -> None:
        try:
            await self._store.failed(tenant, digest, assignments, reason)
        except RatchetError as error:
            log.warning("a call without a reply is not noted: %s", told(error))
        except Exception:
            log.exception("a call without a reply is not noted")

    async def _hear(self, listen: Listen) -> None:
        while True:
            try:
                await listen(self._changed.set)
            except Exception:
                log.exception("listening for changes of the routes failed")
            await asyncio.sleep(EVERY)

    async def _keep_reading(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._changed.wait()
            self._changed.clear()
            was_stale = self.stale
            try:
                await self._read()
            except RatchetError as error:
                if self.stale and not was_stale:
                    log.warning("only champions answer until the routes can be read again: %s", told(error))
            except Exception:
                log.exception("reading the routes failed")

    async def _read(self) -> None:
        began = asyncio.get_running_loop().time()
        # In this order: a rollout that is over names its champion no more, and then the champion is who it made.
        rollouts = [each for each in await self._store.active() if each.is_active]
        champions = {kind: champion.release for kind, champion in (await self._store.champions()).items()}
        varied: list[Experiment] = await self._experiments.under_way() if self._experiments is not None else []
        thresholds = await self._thresholds(Known(champions, rollouts))
        known = Known(champions, rollouts, thresholds, varied)
        changed, self._known, self._heard = known != self._known, known, began
        self._open(known)
        if changed:
            self._renew()
        self._tell_of_unfollowed()

    async def _thresholds(self, known: Known) -> dict[str, float]:
        found = {}
        for name, kind in known.wanted.items():
            if kind is Kind.REWARD:
                with suppress(ReleaseNotFound):
                    found[name] = (await self._store.release(name)).threshold
        return {name: threshold for name, threshold in found.items() if threshold is not None}

    def _open(self, known: Known) -> None:
        """Begins to open what is wanted, and lets go of what is not."""
        self._opened.forget(known.wanted)
        for name, kind in known.wanted.items():
            if name not in self._opened and name not in self._opening:
                task = asyncio.create_task(self._open_one(name, kind))
                self._opening[name] = task
                task.add_done_callback(partial(self._opening.pop, name))

    async def _open_one(self, name: str, kind: Kind) -> None:
        if name in self._opened.broken:
            await asyncio.sleep(AGAIN_SECONDS)
        try:
            if kind is Kind.POLICY:
                policy = await self._open_policy(name)
                if not await self._loaded(name):
                    return
                self._opened.policies[name] = policy
            else:
                reward = await self._open_reward(name)
                if not await self._loaded(name):
                    return
                self._opened.rewards[name] = reward
            self._opened.broken.pop(name, None)
        except Exception as error:
            if not isinstance(error, RatchetError):
                log.exception("opening %s failed", name)
            log.warning("%s can't be opened here and is tried again: %s", name, told(error))
            self._opened.broken[name] = told(error)
        self._renew()

    @property
    def _tried(self) -> set[str]:
        """The releases that rollouts load before anybody gets them."""
        return {each.challenger for each in self._known.rollouts}

    async def _loaded(self, name: str) -> bool:
        """Returns once it can be asked; False where nobody wants it any more. Settings make a champion before anything
        has loaded it: until then the one before goes on."""
        while name in self._known.wanted:
            with suppress(Unavailable):
                if name in self._tried or await self._answers(name):
                    return True
            await asyncio.sleep(READY_EVERY)
        return False

    def _renew(self) -> None:
        before = self._table.champions
        self._table = Table(self._known, self._opened, self._judges, before)
        after = self._table.champions
        for old, new in ((before.policy, after.policy), (before.reward, after.reward)):
            if old is not new:
                log.warning("%s is the champion now, after %s", new.release.id, old.release.id)

    def _tell_of_unfollowed(self) -> None:
        """Says once of a rollout that nobody here is part of, since another one answers for its champion for long."""
        now, before = asyncio.get_running_loop().time(), self._unfollowed
        unfollowed = [each for each in self._known.rollouts if not self._table.follows(each)]
        self._unfollowed = {each.rollout_id: before.get(each.rollout_id, now) for each in unfollowed}
        for each in unfollowed:
            if now - self._unfollowed[each.rollout_id] < UNFOLLOWED_SECONDS or each.rollout_id in self._told:
                continue
            error = self._opened.broken.get(each.champion)
            why = f"can't be opened: {error}" if error else "is not ready on all replicas that answer"
            log.warning(
                "the rollout %s has no users here: it compares with %s, which %s", each.rollout_id, each.champion, why
            )
            self._told.add(each.rollout_id)
        self._told &= self._unfollowed.keys()
