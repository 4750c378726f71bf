"""What accumulates on the way of one turn: time by stage, what fell short, who watches."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from server.errors import DeadlineExceeded
from server.metrics import STAGE_SECONDS
from server.progress import Observer
from server.rollout.types import Kind
from server.types import Degradation, DegradationReason, Turn

RESERVED = 0.1
"""Share of the whole time that is kept for what comes after scoring."""
LEAST_RESERVE = 0.05
"""At least so many seconds of it, if that is not more than a third."""
EARLY_SECONDS = 0.05
EARLY_SHARE = 0.01
"""A caller's time may be over before ours: gRPC sends it with two or three digits, rounded up, and we count from when
the call arrives."""

LEAST_SECONDS = 0.1
"""Who grants less waits for no answer."""


@dataclass(slots=True)
class Journey:
    """One turn on its way. Not shared between turns."""

    turn: Turn
    watch: Observer
    began: float = field(default_factory=time.perf_counter)
    latencies: dict[str, float] = field(default_factory=dict)
    """Seconds by stage, in the order in which they began."""
    degradations: list[Degradation] = field(default_factory=list)
    failed: set[Kind] = field(default_factory=set)
    """The kinds whose assigned release did not do its work."""
    waited: bool = False
    """Whether it had to wait for a policy that was away."""
    reserve: float = field(init=False)
    """Seconds kept for what comes after scoring: checks, selection, the log, sending."""
    whole: float = field(init=False)
    """Seconds that it was given."""

    def __post_init__(self) -> None:
        self.whole = self.turn.deadline - asyncio.get_running_loop().time()
        self.reserve = min(max(LEAST_RESERVE, RESERVED * self.whole), self.whole / 3)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of its block to the stage's."""
        started = time.perf_counter()
        self.latencies.setdefault(name, 0.0)
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.latencies[name] += seconds
            STAGE_SECONDS.labels(name).observe(seconds)

    def lost(self, degradations: Iterable[Degradation]) -> None:
        """Notes what fell short; the same thing once."""
        self.degradations += [each for each in degradations if each not in self.degradations]

    def wait(self) -> None:
        """Notes that it had to wait for a policy that was away."""
        self.waited = True

    @property
    def is_late(self) -> bool:
        """Whether the caller's time is over: who was cut off then did not leave."""
        left = self.turn.deadline - asyncio.get_running_loop().time()
        return left <= EARLY_SECONDS + EARLY_SHARE * self.whole

    @property
    def is_hasty(self) -> bool:
        """Whether it was given too little time: what falls short for that is nobody's failure."""
        return self.whole < LEAST_SECONDS

    def remaining(self) -> float:
        """Seconds until the deadline. Raises DeadlineExceeded when there are none."""
        left = self.turn.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineExceeded("The deadline passed before an answer existed.")
        return left

    def spendable(self) -> float:
        """Seconds that may pass before what comes after scoring must begin; 0 when it must begin now."""
        return max(self.remaining() - self.reserve, 0.0)

    def fell_short(self, reason: DegradationReason) -> bool:
        """Whether this was noted."""
        return any(each.reason is reason for each in self.degradations)

    def total(self) -> float:
        """Seconds since the turn began."""
        return time.perf_counter() - self.began
