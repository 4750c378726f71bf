"""Whole rollouts with simulated users: what is good takes over by itself, what is not gives its traffic back.

One Ratchet serves, its champion a reward that likes best what it should like least. Challengers are published and
rolled out through the API while people come one by one, ask and rate; nobody promotes anything. Plans have the usual
stages, and times that suit a benchmark; `challengers` says what is wrong with whom.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvloop
from rich.table import Table

from benchmarks import challengers, crowds, ratchets
from benchmarks.crowds import Crowd, Seen
from benchmarks.operating import CALL, LONGEST, SETTINGS, Stubs, Watched, begin, look, plan
from ratchet.v1 import feedback_pb2, rollout_pb2

CALLERS = 4
SLOWER = 0.25
COST = 3.5
"""Times its own time that a round of the slow reward adds to a request: candidates that come apart are scored apart,
and the cores are busy. Measured; what it came to is among the figures."""
WARM_UP = 60
"""Requests before anything is measured or rolled out."""
POLL = 0.1

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One challenger, its plan, and how it must end. `brief`: see `crowds.Crowd`; `reports`: somebody says that one of
    its replies is unsafe, and a person confirms it."""

    name: str
    made: Callable[[Path, float], Path]
    plan: rollout_pb2.RolloutPlan
    ends: str
    brief: bool = False
    reports: bool = False


def shadowed(given: rollout_pb2.RolloutPlan) -> rollout_pb2.RolloutPlan:
    """The plan with a shadow that answers every request."""
    found = rollout_pb2.RolloutPlan()
    found.CopyFrom(given)
    found.no_shadow = False
    found.shadow.share = 1
    found.shadow.waiting.minimum_seconds = 2
    found.shadow.waiting.longest_seconds = LONGEST
    return found


RAMP = plan(((0.1, 200), (0.5, 200), (1.0, 20)), margin=0.05, slower=1, quantile=0.75)
"""Twice the latency, at the upper quarter: +10 % at the 95 % quantile takes some ten thousand users to be shown."""
HALF = plan(((0.5, 200), (1.0, 20)), margin=0.05)
"""Half of the users at once: half and half tells soonest."""


def _slow(target: Path, seconds: float) -> Path:
    """A reward that makes a brief request a quarter slower than it is now: its rounds are timed here."""
    probe = challengers.slow(target, "reward-probe", 200)
    rounds = SLOWER * seconds / challengers.seconds_of_round(probe, 200) / COST
    return challengers.slow(target, "reward-slower", max(1, round(rounds)))


SCENARIOS = (
    Scenario("good", lambda at, _: challengers.good(at, "reward-good"), RAMP, "VERIFIED"),
    Scenario("worse", lambda at, _: challengers.mirrored(at, "reward-worse"), HALF, "ROLLED_BACK"),
    Scenario(
        "worse, in shadow", lambda at, _: challengers.mirrored(at, "reward-unseen"), shadowed(HALF), "ROLLED_BACK"
    ),
    Scenario("25 % slower", _slow, HALF, "ROLLED_BACK", brief=True),
    Scenario("fails 2 %", lambda at, _: challengers.failing(at, "reward-failing"), HALF, "ROLLED_BACK", brief=True),
    Scenario(
        "reported unsafe",
        lambda at, _: challengers.good(at, "reward-reported"),
        HALF,
        "ROLLED_BACK",
        brief=True,
        reports=True,
    ),
)


def measure(names: Sequence[str] = ()) -> Figures:
    """What becomes of each challenger, in turn; only of those named, if any are."""
    with ratchets.a_home() as home:
        return uvloop.run(_measure(home, [one for one in SCENARIOS if not names or one.name in names]))


async def _measure(home: Path, scenarios: Sequence[Scenario]) -> Figures:
    releases = home / "releases"
    releases.mkdir()
    first = challengers.mirrored if "good" in {one.name for one in scenarios} else challengers.good
    champion = first(releases, "reward-first")
    queries = crowds.questions(7, 2000)
    found: Figures = {"callers": CALLERS, "candidates": crowds.CANDIDATES}
    with ratchets.serving(home, reward=champion, **SETTINGS) as running:
        async with grpc.aio.insecure_channel(running.address) as channel:
            stubs = Stubs.of(channel)
            seconds = await _warm_up(Crowd(channel, "warm", queries, brief=True))
            found["mean_seconds_brief"] = seconds
            for scenario in scenarios:
                crowd = Crowd(channel, scenario.name, queries, scenario.brief)
                found[scenario.name] = await _play(stubs, crowd, scenario, scenario.made(releases, seconds))
    return found


async def _warm_up(crowd: Crowd) -> float:
    """Mean seconds of a brief request, the first third left out."""
    await crowd.come(CALLERS, asyncio.Event(), WARM_UP)
    last = crowd.seen[WARM_UP // 3 :]
    return sum(each.seconds for each in last) / len(last)


async def _play(stubs: Stubs, crowd: Crowd, scenario: Scenario, directory: Path) -> Figures:
    """Publishes and starts it, lets people come until it ended, and says what was seen."""
    watched = await begin(stubs, directory, scenario.plan)
    async with crowd.coming(CALLERS):
        begun = time.monotonic()
        while not watched.is_over and time.monotonic() - begun < LONGEST:
            await look(stubs, watched)
            if scenario.reports:
                await _report(stubs, watched, crowd.seen)
            await asyncio.sleep(POLL)
    return await _figures(stubs, watched, crowd.seen, scenario)


async def _report(stubs: Stubs, watched: Watched, seen: Sequence[Seen]) -> None:
    """Reports a reply of the challenger once there are twenty; confirms it once all traffic is back, and a while later:
    nobody may get the challenger any more."""
    own = [each for each in seen if each.release == watched.release]
    if watched.reported is None and len(own) >= 20:
        report = feedback_pb2.SafetyReport(category=feedback_pb2.SAFETY_CATEGORY_DANGEROUS, detail="a benchmark")
        request = feedback_pb2.SubmitFeedbackRequest(
            response_id=own[-1].response_id, user_id=own[-1].user_id, safety_report=report
        )
        await stubs.feedback.SubmitFeedback(request, timeout=CALL)
        watched.reported = time.monotonic()
    elif watched.given_back is not None and time.monotonic() > watched.given_back + 5:
        await _confirm(stubs, watched)


async def _confirm(stubs: Stubs, watched: Watched) -> None:
    reports = (await stubs.rollouts.GetRollout(watched.asked, timeout=CALL)).safety_reports
    for each in reports:
        if not each.HasField("confirmed"):
            request = rollout_pb2.DecideSafetyReportRequest(
                rollout_id=watched.rollout_id, feedback_id=each.feedback_id, tenant_id=each.tenant_id, confirmed=True
            )
            await stubs.rollouts.DecideSafetyReport(request, timeout=CALL)


async def _figures(stubs: Stubs, watched: Watched, seen: Sequence[Seen], scenario: Scenario) -> Figures:
    """How it ended, what each step took, and what its users met. Times are from its first user (or shadow) on."""
    answering = [at for at, state in watched.states if state.startswith(("CANARY", "SHADOW"))]
    first = answering[0] if answering else watched.states[0][0]
    events = (await stubs.rollouts.GetRollout(watched.asked, timeout=CALL)).events
    decided = [at for at, state in watched.states if state in ("VERIFIED", "PAUSED", "ROLLING_BACK", "FAILED")]
    during = [each for each in seen if each.began >= first and (not decided or each.began < decided[0])]
    found: Figures = {
        "as_expected": watched.states[-1][1] == scenario.ends,
        "path": [state for _, state in watched.states],
        "seconds": {state: round(at - first, 1) for at, state in watched.states},
        "decided_after_seconds": round(decided[0] - first, 1) if decided else None,
        "requests_until_decided": len(during),
        "failed_requests": sum(not each.release for each in seen),
        "fallbacks": sum(each.fell_back for each in during),
        "by_release": crowds.by_release(during),
        "reasons": [f"{each.trigger}: {each.reason}" for each in reversed(events)],
    }
    return found | (_given_back(watched, seen) if scenario.reports else {})


def _given_back(watched: Watched, seen: Sequence[Seen]) -> Figures:
    """How soon after the report was accepted the last request began that the challenger answered."""
    assert watched.reported is not None
    late = [each.began - watched.reported for each in seen if each.release == watched.release]
    return {
        "traffic_back_seconds": max(0.0, *late) if late else 0.0,
        "seen_after_seconds": None if watched.given_back is None else watched.given_back - watched.reported,
        "requests_after_report": sum(each > 0 for each in late),
    }


def table(found: Figures) -> Table:
    """For people: how each ended, and what that took."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    for column in ("challenger", "path", "decided after", "requests", "failed"):
        shown.add_column(column, justify="left" if column in ("challenger", "path") else "right")
    for name, figures in found.items():
        if isinstance(figures, dict) and "path" in figures:
            mark = "" if figures["as_expected"] else " (not expected)"
            decided = figures["decided_after_seconds"]
            shown.add_row(
                name + mark,
                " → ".join(figures["path"]),
                "" if decided is None else f"{decided:.0f} s",
                str(figures["requests_until_decided"]),
                str(figures["failed_requests"]),
            )
    return shown
