"""What a rule is, and what it sees and says. Pure; the rules themselves are in `rules`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlencode

from server.alerts.machine import Patience, Verdict
from server.analytics.figures import Window
from server.analytics.metrics import Granularity, Metrics

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
ALL = "all"


class Severity(StrEnum):
    """WARNING: look at it today. CRITICAL: look at it now."""

    WARNING = "warning"
    CRITICAL = "critical"


class Scope(StrEnum):
    """What a rule looks at one by one: the releases of a kind, or everything together."""

    POLICY = "policy"
    REWARD = "reward"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Figures of one subject: of the rule's window, and of the time before that; those of all releases then, too."""

    subject: str
    recent: Metrics
    before: Metrics
    before_all: Metrics


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at a subject found: a sentence with its figures, the value, and the samples that it rests on."""

    subject: str
    value: float
    sample_count: int
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Fires below `threshold` where `clear_threshold` is above it, else above.

    `judge` gives None for too few samples. A rule without one fires by what the store holds, at once.
    """

    name: str
    description: str
    severity: Severity
    scope: Scope
    threshold: float
    clear_threshold: float
    minimum_samples: int
    patience: Patience
    window_seconds: float
    link: Mapping[str, str]
    judge: "Callable[[Rule, Evidence], Reading | None] | None"
    baseline_seconds: float = 0.0
    page: str = "/conversations"

    @property
    def below(self) -> bool:
        """Whether low values are the bad ones."""
        return self.threshold < self.clear_threshold

    @property
    def granularity(self) -> Granularity:
        """Of the time before the window."""
        return Granularity.MINUTE if self.baseline_seconds <= 6 * HOUR else Granularity.HOUR

    def verdict(self, value: float) -> Verdict:
        """What the levels say of a value."""
        sign = -1 if self.below else 1
        if sign * value > sign * self.threshold:
            return Verdict.BEYOND
        return Verdict.BACK if sign * value <= sign * self.clear_threshold else Verdict.BETWEEN

    def link_to(self, subject: str) -> str:
        """Where the console shows what an alert is about."""
        filters = dict(self.link) if subject == ALL else {"release": subject, **self.link}
        return f"{self.page}?{urlencode(filters)}" if filters else self.page

    def readings(self, recent: Window, before: Window | None) -> Iterator[Reading]:
        """One for each subject that has samples enough."""
        for evidence in self._evidence(recent, before):
            found = self.judge(self, evidence) if self.judge else None
            if found is not None:
                yield found

    def _evidence(self, recent: Window, before: Window | None) -> Iterator[Evidence]:
        nothing = Metrics()
        before_all = before.total if before else nothing
        if self.scope is Scope.ALL:
            yield Evidence(ALL, recent.total, before_all, before_all)
            return
        for release in sorted(recent.releases):
            if _scope(release, recent.total, before_all) is self.scope:
                own = before.releases.get(release, nothing) if before else nothing
                yield Evidence(release, recent.releases[release], own, before_all)


def _scope(release: str, *totals: Metrics) -> Scope:
    """Of which kind a release is: scores belong to reward releases, whatever these are called."""
    scores = release.startswith("reward-") or any(release in total.rewards for total in totals)
    return Scope.REWARD if scores else Scope.POLICY


def worst(rule: Rule, readings: list[Reading]) -> Reading | None:
    """The reading that is farthest on the bad side."""
    return (min if rule.below else max)(readings, key=lambda reading: reading.value, default=None)
