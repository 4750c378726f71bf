"""How long a converted graph takes beside the fp32 one: both in one run, in turns, so that a busy machine hits both."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

TURNS: Final = 9
SLOWER: Final = 1.1
"""So many times the fp32 graph's time a converted graph may take."""
NOTICEABLE_MS: Final = 1.0
"""A batch that takes no more than this longer is as fast to anybody: a tiny model's ratio is all overhead."""

Run = Callable[[], object]
Clock = Callable[[], float]
"""Seconds since any moment."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for one golden batch: of the converted graph and of the fp32 graph; `on` is where both ran."""

    batch_ms: float
    fp32_batch_ms: float
    rows: int
    on: str

    @property
    def passes(self) -> bool:
        """Whether the converted graph is no slower, but for what nobody notices."""
        return self.batch_ms <= max(self.fp32_batch_ms * SLOWER, self.fp32_batch_ms + NOTICEABLE_MS)

    @property
    def ratio(self) -> float:
        """The converted graph's time as a multiple of the fp32 graph's."""
        return self.batch_ms / self.fp32_batch_ms if self.fp32_batch_ms > 0 else 1.0

    def figures(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {name: _rounded(value) for name, value in (*asdict(self).items(), ("ratio", self.ratio))}


def compare(
    converted: Run, fp32: Run, rows: int, on: str, *, turns: int = TURNS, clock: Clock | None = None
) -> Latency:
    """Times both in turns after one call each to warm up. The fastest turn counts: what else runs only slows down."""
    ticks = clock or time.perf_counter
    converted()
    fp32()
    times = [(_timed(converted, ticks), _timed(fp32, ticks)) for _ in range(turns)]
    return Latency(min(own for own, _ in times), min(other for _, other in times), rows, on)


def _timed(run: Run, clock: Clock) -> float:
    """Milliseconds."""
    start = clock()
    run()
    return (clock() - start) * 1000


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
