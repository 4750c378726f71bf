"""Closed-loop load: so many callers, each with one call under way, for so long. Latencies in milliseconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of load measured. `failures` counts calls that raised; their latencies are not in the percentiles."""

    callers: int
    calls: int
    failures: int
    per_second: float
    mean: float
    p50: float
    p95: float
    p99: float


async def run(call: Callable[[int], Awaitable[object]], *, callers: int, seconds: float, warm_up: int = 3) -> Load:
    """Calls with `callers` callers for `seconds`; each passes its running number. The first `warm_up` calls of each
    caller are not measured."""
    latencies: list[float] = []
    failures = 0
    ends: float = 0.0

    async def caller(number: int) -> None:
        nonlocal failures
        index = number
        while (began := time.perf_counter()) < ends:
            try:
                await call(index)
                latencies.append((time.perf_counter() - began) * 1e3)
            except Exception:
                failures += 1
            index += callers

    await asyncio.gather(*(_warm(call, number, warm_up) for number in range(callers)))
    started = time.perf_counter()
    ends = started + seconds
    await asyncio.gather(*(caller(number) for number in range(callers)))
    elapsed = time.perf_counter() - started
    if not latencies:
        raise RuntimeError(f"Not one of {failures} calls succeeded: see the server's log.")
    latencies.sort()
    return Load(
        callers,
        len(latencies),
        failures,
        len(latencies) / elapsed,
        fmean(latencies),
        percentile(latencies, 50),
        percentile(latencies, 95),
        percentile(latencies, 99),
    )


async def _warm(call: Callable[[int], Awaitable[object]], number: int, times: int) -> None:
    for _ in range(times):
        await call(number)


def percentile(ordered: list[float], share: float) -> float:
    """The nearest-rank percentile of ascending values; `share` from 0 to 100."""
    rank = max(1, -(-len(ordered) * share // 100))
    return ordered[int(rank) - 1]
