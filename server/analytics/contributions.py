"""What a logged reply and a revision of feedback add to the counters. Pure; integers only.

A revision adds what its feedback says now and subtracts what it said before, in the bucket of when it was first given:
the counters are then, whatever happened on the way and in whatever order, those of what is there in the end. A field of
a bucket is `policy release TAB reward release TAB code`; `codes` are below.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from server.analytics.metrics import LATENCY_BOUNDS, MILLION, REWARD_BOUNDS, Granularity

SEPARATOR = "\t"
REPLIES, REFUSED, DEGRADED = "n", "refused", "degraded"
RATED, COMMENTS, SAFETY_REPORTS, PREFERENCES = "rated", "comments", "safety", "preferences"
STAR = "star."
"""And 1 to 5."""
REACTION = "reaction."
"""And the reaction."""
DIMENSION, STAGE, LATENCY, REWARD = "dimension.", "stage.", "latency.", "reward."
"""Of the first two: then its name and a dot, and SUM or COUNT. Of the others: SUM or the index of a bin."""
SUM, COUNT = "sum", "count"


@dataclass(frozen=True, slots=True)
class LoggedReply:
    """What counts of a row of the log. `degraded`: in its answer, not in how its row came into the log (see
    `server.storage.following`). `stages` are seconds."""

    tenant_id: str
    at: datetime
    policy_release: str
    reward_release: str
    reward_score: float | None
    refused: bool
    degraded: bool
    total_seconds: float
    stages: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What counts of one revision of a feedback."""

    kind: str
    stars: int | None = None
    dimensions: Mapping[str, int] = field(default_factory=dict)
    commented: bool = False
    reaction: str | None = None
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of a feedback that was first given `at`; `before` is None for the first one."""

    tenant_id: str
    at: datetime
    policy_release: str
    reward_release: str
    before: Said | None
    after: Said


@dataclass(frozen=True, slots=True)
class Bucket:
    """One stretch of time of a tenant; `start` is in seconds since 1970."""

    tenant_id: str
    granularity: Granularity
    start: int

    @property
    def expires(self) -> int:
        """When its counters go, in seconds since 1970."""
        return self.start + self.granularity.kept


_Place = tuple[str, int, str, str]
"""Tenant, the beginning of a minute, policy release, reward release."""


class Increments:
    """Sums up contributions by bucket and field. What would have expired by `now` (seconds since 1970) is left out."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._minutes: defaultdict[_Place, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, events: Iterable[LoggedReply | Revision]) -> None:
        """Adds what each of the events contributes."""
        for event in events:
            minute = int(event.at.timestamp() // 60) * 60
            cell = self._minutes[event.tenant_id, minute, event.policy_release, event.reward_release]
            for code, amount in contribution(event).items():
                cell[code] += amount

    def items(self) -> Iterator[tuple[Bucket, dict[str, int]]]:
        """Each bucket that changes, with its fields that do."""
        cells: defaultdict[Bucket, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for (tenant, minute, policy, reward), codes in self._minutes.items():
            prefix = f"{_plain(policy)}{SEPARATOR}{_plain(reward)}{SEPARATOR}"
            for bucket in buckets(tenant, minute):
                if bucket.expires > self._now:
                    cell = cells[bucket]
                    for code, amount in codes.items():
                        cell[prefix + code] += amount
        for bucket, cell in cells.items():
            if changed := {name: amount for name, amount in cell.items() if amount}:
                yield bucket, changed


def buckets(tenant_id: str, seconds: int) -> list[Bucket]:
    """The minute, hour and day that a moment, in seconds since 1970, lies in."""
    return [Bucket(tenant_id, each, seconds - seconds % each.seconds) for each in Granularity]


def contribution(event: LoggedReply | Revision) -> dict[str, int]:
    """What an event adds, by code; zeros are left out."""
    if isinstance(event, LoggedReply):
        found = _of_reply(event)
    else:
        found = of_feedback(event.after)
        for code, amount in (of_feedback(event.before) if event.before else {}).items():
            found[code] = found.get(code, 0) - amount
    return {code: amount for code, amount in found.items() if amount}


def of_feedback(said: Said) -> dict[str, int]:
    """What a feedback contributes while it says this; nothing when it is withdrawn."""
    if said.withdrawn:
        return {}
    if said.kind != "rating":
        return {SAFETY_REPORTS: 1} if said.kind == "safety_report" else {PREFERENCES: 1}
    found = {RATED: 1, COMMENTS: int(said.commented)}
    if said.stars is not None:
        found[f"{STAR}{said.stars}"] = 1
    if said.reaction is not None:
        found[f"{REACTION}{said.reaction}"] = 1
    for name, stars in said.dimensions.items():
        found |= {f"{DIMENSION}{name}.{SUM}": stars, f"{DIMENSION}{name}.{COUNT}": 1}
    return found


def _of_reply(reply: LoggedReply) -> dict[str, int]:
    found = {REPLIES: 1, REFUSED: int(reply.refused), DEGRADED: int(reply.degraded)}
    found |= _binned(LATENCY, reply.total_seconds, LATENCY_BOUNDS)
    if reply.reward_score is not None:
        found |= _binned(REWARD, reply.reward_score, REWARD_BOUNDS)
    for name, seconds in reply.stages:
        total, count = f"{STAGE}{name}.{SUM}", f"{STAGE}{name}.{COUNT}"
        found |= {total: found.get(total, 0) + round(seconds * MILLION), count: 1}
    return found


def _binned(code: str, value: float, bounds: Sequence[float]) -> dict[str, int]:
    return {f"{code}{SUM}": round(value * MILLION), f"{code}{bisect_left(bounds, value)}": 1}


def _plain(release: str) -> str:
    """A release's name holds no tab or line feed; whatever does was none of ours and must not spoil the fields."""
    return release.replace(SEPARATOR, " ").replace("\n", " ")
