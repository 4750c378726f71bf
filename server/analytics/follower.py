"""Keeps the counters at the log: reads what is new in the order of transactions and counts it exactly once.

Why exactly once: a step holds whole transactions that have ended, so it holds the same rows whenever it is read; and
the counters take a step only from the position where it begins, which they leave in the same moment (see
`server.storage.counters`). Whoever does not know whether a step was taken reads the position again.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.analytics.contributions import Increments, LoggedReply
from server.errors import MetricsUnavailable, RatchetError, StoreUnavailable, told
from server.patience import within
from server.storage.counters import RedisCounters, State
from server.storage.following import Event, Feed, Horizon

log = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between two looks at the log."""
FIRST = 2.0
"""Seconds that a start waits for the counters."""
STEP = 1000
"""Rows of a step, about; a transaction with more is one step."""
CARE_EVERY = 60.0
"""Seconds between removing what has expired, and asking whether Redis has evicted anything."""
PASSES = 5
"""How often a rebuild looks for what came meanwhile before it goes into service; the rest is followed as usual."""
MARKS = 1024
"""Moments that are remembered while an old transaction holds the log back."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild counted, and how long it took."""

    replies: int
    revisions: int
    seconds: float


class _Tally:
    """Increments of one step, and how many rows they come from."""

    def __init__(self) -> None:
        self.increments = Increments(time.time())
        self.replies = self.revisions = 0

    def take(self, events: Sequence[Event]) -> None:
        replies = sum(isinstance(event, LoggedReply) for event in events)
        self.replies += replies
        self.revisions += len(events) - replies
        self.increments.add(events)


class Follower:
    """Several of them, in one process or on several machines, do no harm to each other."""

    def __init__(self, counters: RedisCounters, feed: Feed, *, step: int = STEP) -> None:
        self._counters, self._feed, self._step = counters, feed, step
        self._marks: deque[tuple[int, float]] = deque(maxlen=MARKS)
        self._away = False
        self._refused: State | None = None
        self._evicted: int | None = None
        self._care_at = 0.0
        self._rebuilding: asyncio.Task[Rebuilt] | None = None

    async def begin(self) -> None:
        """The first `tick`: figures are there when it returns. A rebuild that takes longer than FIRST goes on alone."""
        with contextlib.suppress(TimeoutError):
            await within(FIRST, self.tick())

    async def tick(self) -> None:
        """`follow`; while Redis or Postgres is away, this is logged once."""
        try:
            await self.follow()
        except (MetricsUnavailable, StoreUnavailable) as error:
            if not self._away:
                log.warning("the live counters fall behind the log: %s", told(error))
            self._away = True
        else:
            if self._away:
                log.warning("the live counters are at the log again")
            self._away = False

    async def follow(self) -> None:
        """Counts all that can be read by now; makes the counters again where there are none, or of another database.

        Raises MetricsUnavailable or StoreUnavailable; what was counted is then right, and the next call goes on.
        """
        state = await self._counters.state()
        asked_at = time.time()
        horizon = await self._feed.horizon()
        if state is None or state == self._refused or not _goes_on(state, horizon):
            log.info("the live counters are made again from the log")
            self._refused = None
            await self.rebuild()
            return
        self._marks.append((horizon.newest, asked_at))
        followed = await self._catch_up(state, horizon.below, self._committed_by(horizon.below))
        if followed is not None:
            await self._take_care(followed)
        self._refused = state if followed is None else None

    async def rebuild(self) -> Rebuilt:
        """Makes the counters again and puts them into service. Who asks while that is under way waits for the same.

        Goes on when whoever asked leaves. Raises MetricsUnavailable, StoreUnavailable.
        """
        if self._rebuilding is None or self._rebuilding.done():
            self._rebuilding = asyncio.create_task(self._rebuild())
            self._rebuilding.add_done_callback(_heed)
        return await asyncio.shield(self._rebuilding)

    async def close(self) -> None:
        """Ends a rebuild that is under way."""
        if self._rebuilding is not None:
            self._rebuilding.cancel()
            await asyncio.gather(self._rebuilding, return_exceptions=True)

    async def _rebuild(self) -> Rebuilt:
        began, tally = time.perf_counter(), _Tally()
        horizon = await self._feed.horizon()
        state = await self._counters.begin(horizon.database)
        try:
            for _ in range(PASSES):
                done = await self._catch_up(state, horizon.below, time.time(), tally)
                if done is None:
                    raise MetricsUnavailable("Redis lost the counters that were being made; try again.")
                if done.position == state.position:
                    break
                state, horizon = done, await self._feed.horizon()
            await self._counters.switch(state)
        except RatchetError:
            with contextlib.suppress(MetricsUnavailable):
                await self._counters.remove(state.generation)
            raise
        return Rebuilt(tally.replies, tally.revisions, time.perf_counter() - began)

    async def _catch_up(
        self, state: State, below: int, committed_by: float, count: _Tally | None = None
    ) -> State | None:
        """The state once all below `below` is counted; None when somebody else has moved it."""
        while True:
            end = await self._feed.end(state.position, below, self._step)
            tally = _Tally()
            if end > state.position:
                await self._feed.read(state.position, end, tally.take)
            followed = max(state.followed, committed_by) if end == state.position else state.followed
            if not await self._counters.apply(state, end, followed, tally.increments):
                return None
            if count is not None:
                count.replies += tally.replies
                count.revisions += tally.revisions
            if end == state.position:
                return replace(state, followed=followed)
            state = replace(state, position=end)

    def _committed_by(self, below: int) -> float:
        """The newest moment we know of by which whatever had committed has a number below this one; 0 for none."""
        found = 0.0
        while self._marks and self._marks[0][0] <= below:
            found = self._marks.popleft()[1]
        return found

    async def _take_care(self, state: State) -> None:
        now = time.time()
        if now < self._care_at:
            return
        self._care_at = now + CARE_EVERY
        await self._counters.sweep(state.generation, now)
        evicted = await self._counters.evicted()
        if evicted != self._evicted and not await self._counters.whole(state.generation):
            log.warning("Redis has evicted live counters, which are made again: give it more memory")
            await self.rebuild()
        self._evicted = evicted


def _goes_on(state: State, horizon: Horizon) -> bool:
    """Whether the counters are those of this database, as it is or was."""
    return state.database == horizon.database and state.position <= horizon.newest


def _heed(rebuilding: "asyncio.Task[Rebuilt]") -> None:
    """All who waited for it may have left."""
    if not rebuilding.cancelled() and (error := rebuilding.exception()):
        log.warning("the live counters could not be made again: %s", told(error))
