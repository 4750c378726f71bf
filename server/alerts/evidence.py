"""Reads the figures that rules judge, each stretch of time once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from server.alerts.rule import Reading, Rule
from server.alerts.rules import RULES
from server.analytics.figures import Granularity, Window
from server.errors import MetricsUnavailable

LONGEST_LAG = 120.0
"""Seconds that the counters may be behind the log before they count as away."""

KEPT = 10_000
"""Windows that are kept at most."""


class Windows(Protocol):
    """What alerts need of the live figures."""

    async def window(
        self, tenant: str, until: datetime, seconds: float, granularity: Granularity = Granularity.MINUTE
    ) -> Window:
        """The figures of so many seconds before `until`. Raises MetricsUnavailable."""


class Evidence:
    """Readings of tenants. Keeps the time before the windows, which moves on once a minute or an hour."""

    def __init__(
        self, figures: Windows, rules: Sequence[Rule] = RULES, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.rules, self.clock, self._figures = tuple(rules), clock, figures
        self._before: dict[tuple[str, float, float], Window] = {}

    async def readings(self, tenant: str) -> list[tuple[Rule, list[Reading]]]:
        """Each rule that is judged by figures, in order, with the subjects that have samples enough.

        Raises MetricsUnavailable, also when the counters are far behind the log.
        """
        now, recent = self.clock(), dict[float, Window]()
        found = []
        for rule in self.rules:
            if rule.judge is None:
                continue
            if rule.window_seconds not in recent:
                recent[rule.window_seconds] = await self._read(tenant, now, rule.window_seconds, Granularity.MINUTE)
            window = recent[rule.window_seconds]
            before = await self._ahead_of(tenant, window, rule) if rule.baseline_seconds else None
            found.append((rule, list(rule.readings(window, before))))
        return found

    async def _ahead_of(self, tenant: str, window: Window, rule: Rule) -> Window:
        """The whole buckets before a window."""
        step = rule.granularity.seconds
        end = window.start.timestamp() // step * step
        until = datetime.fromtimestamp(end, UTC) - timedelta(seconds=1)
        key = (tenant, rule.window_seconds, rule.baseline_seconds)
        known = self._before.pop(key, None)
        if known is None or known.end != until + timedelta(seconds=1):
            known = replace(await self._read(tenant, until, rule.baseline_seconds, rule.granularity), points=())
        if len(self._before) >= KEPT:
            self._before.pop(next(iter(self._before)))
        self._before[key] = known
        return known

    async def _read(self, tenant: str, until: datetime, seconds: float, granularity: Granularity) -> Window:
        window = await self._figures.window(tenant, until, seconds, granularity)
        if window.lag > LONGEST_LAG:
            raise MetricsUnavailable(f"The live counters are {window.lag:.0f} s behind the log.")
        return window
