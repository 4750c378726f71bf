"""A blue-green swap under steady load: one release takes over from another, and no caller notices.

People come, ask and rate all the time, as many at once. A release is published through the API and rolled out
`at_once`: loaded beside the champion, given all users but the holdback, made the champion by its evidence alone; then
the former champion is unloaded, once its longest call must have ended. What callers see from the publishing to the
unloading stands beside what they saw before.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvloop
from rich.table import Table

from benchmarks import challengers, crowds, load, ratchets
from benchmarks.crowds import Crowd, Seen
from benchmarks.operating import CALL, LONGEST, SETTINGS, Stubs, begin, look
from ratchet.v1 import release_pb2, rollout_pb2

CALLERS = 4
BEFORE = 60.0
"""Seconds of load that the swap is held against; as many after it say whether the machine stayed as it was."""
AFTER = 10.0
"""Seconds around each step that are looked at by themselves, and after the last one."""
WARM_UP = 40
HOLDBACK = 0.3
"""A usual one would need some thousand more users, all of them the same steady load."""
AIM = 1.5
POLL = 0.2
OLD, NEW = "reward-first", "reward-second"

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """When what happened, of the crowd's clock."""

    published: float
    swapped: float
    verified: float
    unloaded: float

    def windows(self) -> dict[str, tuple[float, float]]:
        """Spans of time by name."""
        return {
            "before": (self.published - BEFORE, self.published),
            "the whole swap": (self.published, self.unloaded + AFTER),
            "loading": (self.published, self.swapped),
            "swapped, first seconds": (self.swapped, self.swapped + AFTER),
            "champion, first seconds": (self.verified, self.verified + AFTER),
            "unloading": (self.unloaded - AFTER, self.unloaded + AFTER),
            "after": (self.unloaded + AFTER, self.unloaded + AFTER + BEFORE),
        }


def measure() -> Figures:
    """Latency and failures by span of time, and how the whole swap's p99 is to that before."""
    with ratchets.a_home() as home:
        return uvloop.run(_measure(home))


async def _measure(home: Path) -> Figures:
    releases = home / "releases"
    releases.mkdir()
    old, new = challengers.mirrored(releases, OLD), challengers.good(releases, NEW)
    queries = crowds.questions(7, 2000)
    with ratchets.serving(home, reward=old, **SETTINGS) as running:
        async with grpc.aio.insecure_channel(running.address) as channel:
            await Crowd(channel, "warm", queries).come(CALLERS, asyncio.Event(), WARM_UP)
            crowd = Crowd(channel, "swap", queries)
            async with crowd.coming(CALLERS):
                await asyncio.sleep(BEFORE)
                steps = await _swap(Stubs.of(channel), new)
                await asyncio.sleep(AFTER + BEFORE)
    return _figures(crowd.seen, steps)


async def _swap(stubs: Stubs, directory: Path) -> Steps:
    """The whole of it, waiting for each step. Raises RuntimeError when it ends otherwise."""
    published = time.monotonic()
    watched = await begin(stubs, directory, _plan())
    while not watched.is_over and time.monotonic() - published < LONGEST:
        await asyncio.sleep(POLL)
        await look(stubs, watched)
    reached = {state: at for at, state in reversed(watched.states)}
    if "VERIFIED" not in reached:
        events = (await stubs.rollouts.GetRollout(watched.asked, timeout=CALL)).events
        raise RuntimeError(f"The swap ended as {watched.states[-1][1]}: {events[0].reason if events else ''}")
    return Steps(published, reached["CANARY 100%"], reached["VERIFIED"], await _unloaded(stubs))


async def _unloaded(stubs: Stubs) -> float:
    """When no replica has the former champion any more."""
    while True:
        request = release_pb2.GetReleaseRequest(release=OLD)
        if not (await stubs.releases.GetRelease(request, timeout=CALL)).release.replicas:
            return time.monotonic()
        await asyncio.sleep(POLL)


def _plan() -> rollout_pb2.RolloutPlan:
    waiting = rollout_pb2.RolloutWaiting(minimum_samples=200, minimum_seconds=2, longest_seconds=LONGEST)
    return rollout_pb2.RolloutPlan(
        strategy=rollout_pb2.ROLLOUT_STRATEGY_AT_ONCE,
        stages=[rollout_pb2.RolloutStage(share=1, waiting=waiting)],
        no_shadow=True,
        holdback=HOLDBACK,
        goals=rollout_pb2.RolloutGoals(margin=0.05, slower=1, quantile=0.75),
    )


def _figures(seen: Sequence[Seen], steps: Steps) -> Figures:
    spans = {name: _span(seen, *window) for name, window in steps.windows().items()}
    during = spans["the whole swap"]["p99"]
    return {
        "callers": CALLERS,
        "seconds": {
            "to all users": steps.swapped - steps.published,
            "to champion": steps.verified - steps.published,
            "to unloaded": steps.unloaded - steps.published,
        },
        "spans": spans,
        "failed": sum(not each.release for each in seen),
        "p99_to_before": during / spans["before"]["p99"],
        "p99_to_after": during / spans["after"]["p99"],
        "aim": AIM,
    }


def _span(seen: Sequence[Seen], start: float, end: float) -> Figures:
    """Of the requests that were under way in a span of time; milliseconds."""
    of = [each for each in seen if each.began < end and each.began + each.seconds > start]
    ordered = sorted(1e3 * each.seconds for each in of)
    if not ordered:
        return {"requests": 0, "failed": 0}
    figures = {f"p{share}": load.percentile(ordered, share) for share in (50, 99)}
    answered = {name: sum(each.release == name for each in of) for name in (OLD, NEW)}
    failed = sum(not each.release for each in of)
    return {"requests": len(of), "failed": failed, **figures, "largest": ordered[-1], "answered": answered}


def table(found: Figures) -> Table:
    """For people: each span beside the one before the swap."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    for column in ("swap under load", "requests", "failed", "p50 ms", "p99 ms", "largest"):
        shown.add_column(column, justify="left" if column.startswith("swap") else "right")
    for name, span in found["spans"].items():
        numbers = [f"{span[key]:.0f}" if key in span else "" for key in ("p50", "p99", "largest")]
        shown.add_row(name, str(span["requests"]), str(span["failed"]), *numbers)
    for other in ("before", "after"):
        ratio = f"{found[f'p99_to_{other}']:.2f} (aim {found['aim']})"
        shown.add_row(f"the whole swap's p99 by that {other}", "", "", "", ratio, "")
    return shown
