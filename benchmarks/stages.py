"""Where the time of Generate goes, by stage, from its replies and from outside: what Ratchet adds to its models."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.load import percentile

Figures = dict[str, Any]
Parts = dict[str, float]
"""Seconds of one call by part."""

OVERHEADS = {"candidates": "candidates, beyond the slowest", "scoring": "scoring, model included"}
"""Parts whose stage is mostly a model's time, and how the table calls them."""
BETWEEN, TRANSPORT, ADDED, WHOLE = "between the stages", "gRPC, both sides", "added", "the whole call"
AIMS_MS = {"p50": 3.0, "p99": 10.0}
"""What Ratchet may add to a call: to its slowest candidate and its scoring."""
FIVE_TO_ONE = 2.0
"""How many times one candidate's time five may take."""


def parts(reply: Any, seconds: float) -> Parts:
    """What one GenerateResponse, received `seconds` after it was asked for, says of its time.

    A stage is what the reply says; the candidates' is less the slowest of each wave, which is the model's. "added" is
    all but that and scoring. Stages that run side by side make BETWEEN smaller, never "added".
    """
    stages = {each.stage: _seconds(each.duration) for each in reply.latencies}
    drawing = _drawing(reply.candidates)
    total = _seconds(reply.total_latency)
    found = {OVERHEADS.get(name, name): value for name, value in stages.items()}
    if "candidates" in stages:
        found[OVERHEADS["candidates"]] = stages["candidates"] - drawing
    found[BETWEEN] = total - sum(stages.values())
    found[TRANSPORT] = seconds - total
    found[ADDED] = seconds - drawing - stages.get("scoring", 0.0)
    found[WHOLE] = seconds
    return found


def summary(calls: Sequence[Parts]) -> Figures:
    """Milliseconds of each part at p50 and p99 over all calls; in a call without the part it is 0."""
    names = dict.fromkeys(name for call in calls for name in call)
    last = (BETWEEN, TRANSPORT, ADDED, WHOLE)
    ordered = [*(name for name in names if name not in last), *last]
    return {name: _percentiles([call.get(name, 0.0) for call in calls]) for name in ordered}


def markdown(variants: Mapping[str, Figures]) -> str:
    """The table for docs/performance.md: one row a part, two columns a variant; `variants` are figures of `summary`."""
    names = dict.fromkeys(name for figures in variants.values() for name in figures if name not in {ADDED, WHOLE})
    head = "| stage, ms | " + " | ".join(f"{variant}, p50 | p99" for variant in variants) + " |"
    rows = [head, "|---" * (1 + 2 * len(variants)) + "|"]
    rows += [_row(name, name, variants) for name in names]
    rows.append(_row(f"**{ADDED}, in all**", ADDED, variants))
    rows.append(_row(WHOLE, WHOLE, variants))
    aims = " | ".join(f"{aim:g}" for aim in AIMS_MS.values())
    rows.insert(-1, f"| aim | {' | '.join([aims] * len(variants))} |")
    return "\n".join(rows) + "\n"


def _row(title: str, name: str, variants: Mapping[str, Figures]) -> str:
    cells = [f"{figures[name][key]:.2f}" if name in figures else "" for figures in variants.values() for key in AIMS_MS]
    return f"| {title} | {' | '.join(cells)} |"


def _drawing(candidates: Iterable[Any]) -> float:
    """The slowest candidate of each wave: waves come one after the other."""
    slowest: dict[int, float] = {}
    for each in candidates:
        if not each.error:
            slowest[each.wave] = max(slowest.get(each.wave, 0.0), _seconds(each.latency))
    return sum(slowest.values())


def _percentiles(seconds: Iterable[float]) -> Figures:
    ordered = sorted(value * 1e3 for value in seconds)
    return {key: percentile(ordered, float(key[1:])) for key in AIMS_MS}


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)
