"""What is known of a rollout at a look. Readiness and safety reports are read each time; statistics are computed beside
the looks, in a thread, so that no amount of data keeps a safety report waiting.

Evidence says of which version of the rollout it is. Where its statistics are of an earlier one, or older than they
should be, so is the evidence: it may take traffic away, and gives none (`guards.current`).
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from server.errors import RatchetError, ReleaseNotFound, told
from server.rollout.comparison import Compared, compare, of_shadow
from server.rollout.continuity import Rated
from server.rollout.guards import NONE, span
from server.rollout.observed import Failures, Mark, News, Observed, Rating, Replies, Report
from server.rollout.readiness import UNSEEN, readiness
from server.rollout.shadowing import ShadowAnswer, shadow_figures
from server.rollout.statistics.criteria import Goals
from server.rollout.store import Rollouts
from server.rollout.trial import Trial
from server.rollout.types import Evidence, Readiness, Rollout, Safety, State

log = logging.getLogger(__name__)

REFRESH = 2.0
"""Seconds between two computations of a trial's statistics, at least."""
RESTING = 20.0
"""And so many times what the last one took: at most a twentieth of a core."""
AT_ONCE = 0.5
"""Seconds that a look waits for statistics; most are done by then."""
SETTLING = 10.0
"""Seconds that who has just begun to lead gets to look at the replicas, before what was noted too long ago counts for
nothing: no change of leaders, nor a Postgres that was away, must pause a rollout."""
STALE = 300.0
"""Seconds after which statistics that can't be refreshed give no traffic any more, and twice their resting time."""
BLIND = 1800.0
"""Seconds that a first reading may take, or one after that time, before guardrails count as blind; one that fails has
STALE."""
MOST = 1_000_000
"""Replies that statistics are computed of."""
CROWD = 200_000
"""Ratings of any replies that are kept before those of no reply of the trial are forgotten."""
LATE = 6 * 3_600_000
"""Milliseconds that a reply's row may come after those of others, out of a spool."""
HALVINGS = 40
"""Times that they are halved, at most: keys have 62 bits."""
_READING = "What users did is being read, which has not ended for"
T = TypeVar("T", bound=Trial)


class Observations(Protocol):
    """What is observed of any trial. Every method raises Unavailable."""

    async def news(self, trial: Trial, after: Mark) -> News:
        """What came of it since `after`: Mark() is before all."""

    async def reports(self, trial: Trial) -> list[Report]:
        """Safety reports on the challenger's replies."""


class Source(Observations, Protocol):
    """Where observations come from: `server.storage.evidence`. Every method raises Unavailable."""

    async def condemned(self, release: str) -> int:
        """How many safety reports on the release as a challenger a person confirmed, in any rollout."""

    async def shadow(self, rollout_id: str) -> list[ShadowAnswer]:
        """The newest answers of a challenger in shadow."""

    async def shadow_count(self, rollout_id: str) -> int:
        """How many requests it answered."""

    async def rated(self, rollout_id: str) -> list[Rated]:
        """Its scores of answers that users rated."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Statistics of one version of a trial. `at` and `took` are in seconds, by the clock of who computed them."""

    version: int
    compared: Compared
    at: float
    took: float

    def due(self, trial: Trial, now: float) -> bool:
        return self.version != trial.version or now - self.at >= max(REFRESH, RESTING * self.took)

    @property
    def stale_at(self) -> float:
        return self.at + max(STALE, 2 * RESTING * self.took)


@dataclass(frozen=True, slots=True)
class _Failing:
    """All computations failed that began and ended from `since` to `until`, the last one by `error`, a sentence."""

    since: float
    until: float
    error: str


class Statistics(Generic[T]):
    """The newest statistics of trials, computed beside the looks at them. `compute` may raise."""

    def __init__(
        self, compute: Callable[[T, Sequence[Report]], Awaitable[Compared]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._compute, self._clock = compute, clock
        self._known: dict[str, _Known] = {}
        self._failing: dict[str, _Failing] = {}
        self._asked: dict[str, float] = {}
        self._computing: dict[str, asyncio.Task[None]] = {}

    async def of(self, trial: T, reports: Sequence[Report]) -> tuple[int, Compared]:
        """The newest there are, and the version that they are of; NONE: of none, or too old to give traffic by.

        New ones are begun when they are due, and waited for a moment. Where that has failed for long, it is said.
        """
        name = trial.experiment
        self._asked.setdefault(name, self._clock())
        known = self._known.get(name)
        if name not in self._computing and (known is None or known.due(trial, self._clock())):
            task = asyncio.create_task(self._renew(trial, reports))
            self._computing[name] = task
            task.add_done_callback(lambda _: self._computing.pop(name, None))
        if name in self._computing:
            await asyncio.wait([self._computing[name]], timeout=AT_ONCE)
        known, now = self._known.get(name), self._clock()
        compared = self._said(name, known.compared if known else Compared(), now)
        return known.version if known and now <= known.stale_at else NONE, compared

    def keep(self, experiments: Sequence[str]) -> None:
        """Forgets all but these."""
        for gone in self._asked.keys() - set(experiments):
            for each in (self._asked, self._known, self._failing):
                each.pop(gone, None)

    async def close(self) -> None:
        """Ends what is being computed."""
        for task in self._computing.values():
            task.cancel()
        await asyncio.gather(*self._computing.values(), return_exceptions=True)

    async def _renew(self, trial: T, reports: Sequence[Report]) -> None:
        began = self._clock()
        try:
            compared = await self._compute(trial, reports)
        except RatchetError as error:
            log.warning("statistics of %s stay as they were: %s", trial.experiment, told(error))
            self._failed(trial.experiment, began, told(error))
            return
        except Exception as error:
            log.exception("statistics of %s stay as they were", trial.experiment)
            self._failed(trial.experiment, began, f"{type(error).__name__}: {told(error)}")
            return
        now = self._clock()
        self._failing.pop(trial.experiment, None)
        self._known[trial.experiment] = _Known(trial.version, compared, now, now - began)

    def _failed(self, name: str, began: float, error: str) -> None:
        since = self._failing[name].since if name in self._failing else began
        self._failing[name] = _Failing(since, self._clock(), error)

    def _said(self, name: str, found: Compared, now: float) -> Compared:
        """With what keeps newer ones from being computed. Time in which nobody asked, as without Postgres, is none."""
        if failing := self._failing.get(name):
            figures = {**found.figures, "unread": failing.error}
            lasted = failing.until - failing.since
            unread = f"What users did can't be read for {span(lasted)}: {failing.error}." if lasted >= STALE else ""
            return replace(found, unread=unread, figures=figures)
        known = self._known.get(name)
        waited = now - (known.stale_at if known else self._asked[name])
        return replace(found, unread=f"{_READING} {span(waited)}." if waited >= BLIND else "")


class Comparisons:
    """Compares the arms of trials by all that was observed of them so far."""

    def __init__(self, source: Observations) -> None:
        self._source = source
        self._followed: dict[str, Followed] = {}

    async def of(self, trial: Trial, reports: Sequence[Report], elapsed: float) -> Compared:
        """As it is now; `elapsed`: seconds of the present state. Raises Unavailable."""
        followed = self._followed.setdefault(trial.experiment, Followed())
        while (news := await self._source.news(trial, followed.mark)).more:
            await asyncio.to_thread(followed.take, news)
        await asyncio.to_thread(followed.take, news)
        return await asyncio.to_thread(lambda: compare(trial, followed.observed(reports), elapsed))

    def keep(self, experiments: Sequence[str]) -> None:
        """Forgets all but these."""
        for gone in self._followed.keys() - set(experiments):
            del self._followed[gone]


class Gatherer:
    """Gathers evidence of the rollouts of one deployment, as long as one process leads."""

    def __init__(self, rollouts: Rollouts, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._rollouts, self._source = rollouts, source
        self._comparisons = Comparisons(source)
        self._statistics = Statistics(self._compared, clock)
        self._clock, self._began = clock, clock()

    async def of(self, rollout: Rollout) -> Evidence:
        """What is known now. Raises Unavailable when readiness or reports can't be read."""
        reports = await self._source.reports(rollout)
        ready = await self._ready(rollout.challenger)
        published = await _is_published(self._rollouts, rollout.challenger)
        safety = safety_of(reports)
        safety = replace(safety, confirmed=max(safety.confirmed, await self._source.condemned(rollout.challenger)))
        version, found = await self._statistics.of(rollout, reports)
        return replace(evidence_of(rollout, version, found, safety), published=published, readiness=ready)

    def keep(self, rollout_ids: Sequence[str]) -> None:
        """Forgets all rollouts but these."""
        self._comparisons.keep(rollout_ids)
        self._statistics.keep(rollout_ids)

    async def close(self) -> None:
        """Ends what is being computed."""
        await self._statistics.close()

    async def _ready(self, release: str) -> Readiness:
        models, now = await self._rollouts.replicas(), await self._rollouts.now()
        settled = self._clock() - self._began >= SETTLING
        return readiness(models, release, now, UNSEEN if settled else math.inf)

    async def _compared(self, rollout: Rollout, reports: Sequence[Report]) -> Compared:
        states = {rollout.state, rollout.resumes_to}
        if states & {State.DRAFT, State.PUBLISHED, State.LOADED}:
            return Compared()
        shadow = await self._shadow(rollout) if rollout.plan.shadow else Compared()
        if State.SHADOW in states:
            return shadow
        found = await self._comparisons.of(rollout, reports, rollout.elapsed(await self._rollouts.now()))
        earlier = {"shadow": shadow.figures["shadow"]} if shadow.figures else {}
        return replace(found, figures=found.figures | earlier)

    async def _shadow(self, rollout: Rollout) -> Compared:
        answers = await self._source.shadow(rollout.rollout_id)
        count = await self._source.shadow_count(rollout.rollout_id)
        goals = Goals(**rollout.plan.goals.model_dump())
        figures = await asyncio.to_thread(shadow_figures, rollout.kind, answers, goals)
        return of_shadow(figures, count)


class Followed:
    """What was read of one trial so far, each row once.

    Of more than MOST replies those of half of the users are kept, and so on: who they are has nothing to do with arms.
    """

    def __init__(self) -> None:
        self.mark = Mark()
        self._known: list[Replies] = []
        self._failures: Sequence[Failures] = ()
        self._ratings: dict[object, Rating] = {}
        self._crowded = CROWD
        self._halved = 0

    def take(self, news: News) -> None:
        """Adds what came. All of it or nothing: nothing here can fail on the way."""
        replies = self._kept(news.replies)
        if news.again and self._known:
            replies = replies.where(~np.isin(replies.reply, self._replies().reply))
        self._known.append(replies)
        self._ratings.update({each.feedback_id: each for each in news.ratings})
        self._failures, self.mark = news.failures, news.mark
        if sum(map(len, self._known)) > 2 * MOST:
            self._replies()
        if len(self._ratings) > self._crowded:
            self._known_ratings(self._replies())
            self._crowded = max(CROWD, 2 * len(self._ratings))

    def observed(self, reports: Sequence[Report]) -> Observed:
        """All that is known."""
        replies = self._replies()
        failures = [each for each in self._failures if each.unit & self._mask == 0]
        return Observed(replies, self._known_ratings(replies), failures, reports, users=0.5**self._halved)

    def _known_ratings(self, replies: Replies) -> list[Rating]:
        """Those of the replies. Forgets the others, which are of what else the deployment answered, but for those whose
        reply may still come."""
        each = list(self._ratings.values())
        known = np.isin(np.array([rating.reply for rating in each], dtype=np.int64), replies.reply).tolist()
        since = max((rating.at for rating in each), default=0) - LATE
        kept = [rating for rating, of in zip(each, known, strict=True) if of or rating.at > since]
        self._ratings = {rating.feedback_id: rating for rating in kept}
        return [rating for rating, of in zip(each, known, strict=True) if of]

    def _replies(self) -> Replies:
        found = Replies.join(self._known)
        while len(found) > MOST and self._halved < HALVINGS:
            self._halved += 1
            found = self._kept(found)
        self._known = [found]
        return found

    @property
    def _mask(self) -> int:
        return (1 << self._halved) - 1

    def _kept(self, replies: Replies) -> Replies:
        return replies.where(replies.unit & self._mask == 0) if self._halved else replies


def safety_of(reports: Sequence[Report]) -> Safety:
    """The reports, counted."""
    return Safety(
        pending=sum(each.confirmed is None for each in reports),
        confirmed=sum(each.confirmed is True for each in reports),
        dismissed=sum(each.confirmed is False for each in reports),
    )


def evidence_of(trial: Trial, version: int, found: Compared, safety: Safety) -> Evidence:
    """What is known of a trial, but for the release that it may be about. `version`: of which `found` is."""
    return Evidence(
        rollout_id=trial.experiment,
        version=version,
        safety=safety,
        samples=found.samples,
        satisfaction=found.satisfaction,
        quality=found.quality,
        findings=found.findings,
        mismatch=found.mismatch,
        unread=found.unread,
        criteria=found.criteria,
        figures=found.figures,
    )


async def _is_published(rollouts: Rollouts, release: str) -> bool:
    """Whether it is registered, and may be rolled out. Raises Unavailable."""
    try:
        return (await rollouts.release(release)).retired_at is None
    except ReleaseNotFound:
        return False
