"""Lines of a report: an interval held against a limit, as a state and in a sentence. Parts become percent here only."""

import math
from dataclasses import dataclass
from enum import StrEnum

from server.rollout.statistics.estimates import Estimate
from server.rollout.statistics.intervals import LEAST_USERS, Interval, enough


class State(StrEnum):
    """Of a criterion. Met and missed were both shown; too little data is neither."""

    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"

    @property
    def words(self) -> str:
        """For sentences."""
        return "no verdict yet" if self is State.UNDECIDED else str(self)


@dataclass(frozen=True)
class Criterion:
    """One line of a report. The value is None where there is nothing to estimate, a limit where there is none yet.

    Lines of one name, as those of latency, stand for one criterion: it is met once all of them are.
    """

    name: str
    subject: str
    value: float | None
    lower: float | None
    upper: float | None
    state: State
    sentence: str


@dataclass(frozen=True)
class Finding:
    """An interval, what it is of, and what is missing for a verdict: nothing where `missing` is empty."""

    name: str
    subject: str
    interval: Interval
    missing: str = ""

    def at_least(self, limit: float, asked: str) -> Criterion:
        """Met once all of the interval lies above the limit, missed once all of it lies below."""
        _, lower, upper = self._numbers()
        return self.criterion(self._state(lower > limit, upper < limit), asked)

    def at_most(self, limit: float, asked: str) -> Criterion:
        """Met once all of the interval lies below the limit, missed once all of it lies above."""
        _, lower, upper = self._numbers()
        return self.criterion(self._state(upper < limit, lower > limit), asked)

    def criterion(self, state: State, asked: str) -> Criterion:
        """The line; `asked` says what would be met."""
        value, lower, upper = map(_finite, self._numbers())
        seen = "nothing to compare" if value is None else f"{percent(value)} ({_limit(lower)} to {_limit(upper)})"
        if math.isinf(float(self.interval.value)):
            seen = f"none of the champion's (more than {_limit(lower)})"
        reason = f"; {self.missing}" if self.missing else ""
        sentence = f"{self.subject}: {seen}, asked for {asked}: {state.words}{reason}."
        return Criterion(self.name, self.subject, value, lower, upper, state, sentence)

    def _numbers(self) -> tuple[float, float, float]:
        return float(self.interval.value), float(self.interval.lower), float(self.interval.upper)

    def _state(self, met: bool, failed: bool) -> State:
        if self.missing or not (met or failed):
            return State.UNDECIDED
        return State.MET if met else State.MISSED


def missing(known: Estimate, *, proportion: bool = True) -> str:
    """What is missing for a verdict on means, in words; empty if nothing is."""
    if bool(enough(known, proportion=proportion)):
        return ""
    champion, challenger = float(known.champion_users), float(known.challenger_users)
    if min(champion, challenger) < LEAST_USERS:
        return (
            f"{champion:.0f} and {challenger:.0f} of {LEAST_USERS:.0f} users in the champion's and the challenger's arm"
        )
    return "too few users with the rarer outcome"


def percent(part: float) -> str:
    """0.05 as 5 %."""
    return f"{round(100 * part, 2):g} %"


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _limit(limit: float | None) -> str:
    return "?" if limit is None else percent(limit)
