"""Are the verdicts of experiments what they say? Simulated users, 2,000 experiments a cell, a look a day.

A/A: nobody differs, so any verdict is false. Power: the challenger is 5 % better. Margin: it is as much worse as is
still tolerated, so "non-inferior" is false. No Ratchet serves: this is about `server.rollout.statistics` alone. Beside
the sequences stand, of the same experiments, a plain z-test at each look and means pooled over the ramp.
"""

import math
import time
from dataclasses import asdict
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.experiment_users import LATENCY, LOOKS, RATINGS, RATINGS_OF, SHARES, SIGMA, Cell, Trouble, looks
from server.rollout.statistics.boundary import Boundary
from server.rollout.statistics.criteria import Evidence, Goals, guardrails
from server.rollout.statistics.estimates import Estimate, estimate
from server.rollout.statistics.events import log_evidence
from server.rollout.statistics.findings import State
from server.rollout.statistics.intervals import difference, enough, relative
from server.rollout.statistics.mismatch import mismatch
from server.rollout.statistics.outcomes import Moments, Outcomes
from server.rollout.statistics.tails import Replies, quantile_ratio

Figures = dict[str, Any]
Flags = NDArray[np.bool_]
RUNS = 2000
USERS = {"10 %": 8000, "50 %": 4000, "ramp": 4000}
POWER_USERS = {"10 %": 16000, "50 %": 6000, "ramp": 8000}
GAIN = 0.05
SLOWER = 0.10
AIMS = {"false": 0.06, "power": 0.8}
FAILURES = (
    (0.1, 0.015, 0.015, 20_000),
    (0.1, 0.02, 0.02, 20_000),
    (0.5, 0.0, 0.026, 3_000),
    (0.1, 0.0, 0.026, 12_000),
    (0.5, 0.005, 0.02, 5_000),
    (0.5, 0.01, 0.026, 5_000),
    (0.5, 0.02, 0.04, 5_000),
)
"""The challenger's share, how much of the champion's calls and of its own fails, and users."""
RIVALS = ("plain z-test", "pooled")
"""How else the same experiments could have been judged: without a correction for looks, without strata."""


def pooled(moments: Moments) -> Moments:
    """What is known when the strata are forgotten; a user in two of them is two."""
    return Moments(*(_by_arm(each) for each in (moments.users, moments.sums, moments.products)))


def _by_arm(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    own = np.diagonal(cells, axis1=-2, axis2=-1)
    arms = np.stack([own[..., 0::2].sum(axis=-1), own[..., 1::2].sum(axis=-1)], axis=-1)
    return np.asarray(arms[..., None] * np.eye(2))


def run(cell: Cell, runs: int, seed: int = 1) -> Figures:
    """One cell: the part of the runs in which each way to judge ever said something, and when."""
    began, boundary, ratings = time.process_time(), Boundary(), cell.outcome != LATENCY
    said: dict[str, NDArray[np.int64]] = {}
    first = LOOKS
    for where, look, moments in looks(cell, runs, seed):
        known, mixed = estimate(moments), estimate(pooled(moments))
        told = enough(known, proportion=ratings)
        first = min(first, look) if told.any() else first
        found = _signs(known, told, boundary) | {"pooled": enough(mixed, proportion=ratings) & _apart(mixed, boundary)}
        for name, sign in found.items():
            earlier = said.setdefault(name, np.full(runs, LOOKS))
            earlier[where] = np.minimum(earlier[where], np.where(sign, look, LOOKS))
    return asdict(cell) | {"runs": runs, "looks": LOOKS - first} | _summary(cell, said) | _seconds(began)


def _signs(known: Estimate, told: Flags, boundary: Boundary) -> dict[str, Flags]:
    better, error = known.contrast()
    ratio = relative(known, boundary)
    return {
        "up": told & (ratio.lower > 0),
        "gain met": told & (ratio.lower > 0) & (ratio.value >= GAIN),
        "any verdict": told & ((ratio.lower > 0) | (ratio.upper < 0)),
        "not worse": told & (ratio.lower > -GAIN),
        "slower": told & (ratio.lower > SLOWER),
        "plain z-test": told & (np.abs(better) > NormalDist().inv_cdf(0.975) * error),
    }


def _apart(known: Estimate, boundary: Boundary) -> Flags:
    found = difference(known, boundary)
    return np.asarray((found.lower > 0) | (found.upper < 0))


def _summary(cell: Cell, said: dict[str, NDArray[np.int64]]) -> Figures:
    found: Figures = {name: float((each < LOOKS).mean()) for name, each in said.items()}
    judged = said["slower" if cell.outcome == LATENCY else "up"]
    for name, share in (("users, median", 0.5), ("users for 80 %", AIMS["power"])):
        at = np.quantile(judged, share, method="higher")
        found[name] = math.ceil((at + 1) / LOOKS * cell.users) if at < LOOKS else None
    return found


def cells() -> dict[str, list[tuple[Cell, int]]]:
    """All of them, with their numbers of runs, by what they show."""
    ways = [(outcome, shares) for outcome in RATINGS_OF for shares in SHARES]
    alike = Trouble.ALIKE
    return {
        "A/A": [(Cell(*way, trouble, 0.0, USERS[way[1]]), RUNS) for way in ways for trouble in Trouble],
        "power": [(Cell(*way, alike, GAIN, POWER_USERS[way[1]]), RUNS // 4) for way in ways],
        "margin": [(Cell(*way, alike, -GAIN, USERS[way[1]]), RUNS // 2) for way in ways if way[1] == "ramp"],
        "latency": [
            (Cell(LATENCY, shares, alike, effect, USERS[shares]), RUNS // 4)
            for shares in SHARES
            for effect in (0.1, 0.25)
        ],
    }


def measure() -> Figures:
    """All cells."""
    began = time.process_time()
    found: Figures = {kind: [run(*cell) for cell in each] for kind, each in cells().items()}
    found["exact"] = [events(RUNS // 2, ratio) for ratio in (1.0, 4.0)]
    found["shares"] = [shares(RUNS, lost) for lost in (0.0, 0.2)]
    found["tails"] = [tails(RUNS // 10, ratio) for ratio in (1.0, 1.1, 1.25)]
    found["failures"] = [failures(RUNS // 10, *each) for each in FAILURES]
    return found | {"aims": AIMS} | _seconds(began)


def _arrivals(runs: int, kept: tuple[float, float], rng: np.random.Generator) -> NDArray[np.int64]:
    """New users [runs, looks, arms] of the ramp, of whom a part of each arm is kept."""
    share = np.array([[s for first, s in SHARES["ramp"] if first <= look][-1] for look in range(LOOKS)])
    expected = np.stack([1 - share, share], axis=1) * kept * (USERS["ramp"] / LOOKS)
    return rng.poisson(expected, (runs, LOOKS, 2))


def _by_stratum(users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts and shares [strata, 2] of one run's looks so far."""
    begun = [(first, share) for first, share in SHARES["ramp"] if first < len(users)]
    counts = np.add.reduceat(users, [first for first, _ in begun], axis=0)
    return counts, np.array([[1 - share, share] for _, share in begun])


def events(runs: int, ratio: float, rate: float = 0.005) -> Figures:
    """Users with a failure over the ramp: how often their ratio was ever told from 1, and after how many users.

    Limits of 95 % exclude 1 exactly if the evidence against 1 is above 1 / 0.05.
    """
    arrivals = _arrivals(runs, (rate, rate * ratio), np.random.default_rng(2))
    found = [
        next((look for look in range(LOOKS) if _differ(*_by_stratum(users[: look + 1]))), LOOKS) for users in arrivals
    ]
    return {"rate": rate, "ratio": ratio} | _told(np.array(found), USERS["ramp"])


def _differ(counts: NDArray[np.int64], split: NDArray[np.float64]) -> bool:
    return log_evidence(counts, split[:, 1]) > -math.log(0.05)


def shares(runs: int, lost: float) -> Figures:
    """Shares of users over the ramp, a part of the challenger's lost: how often that was ever found."""
    arrivals = _arrivals(runs, (1.0, 1.0 - lost), np.random.default_rng(3))
    found = [
        next((look for look in range(LOOKS) if mismatch(*_by_stratum(users[: look + 1])).found), LOOKS)
        for users in arrivals
    ]
    return {"lost": lost} | _told(np.array(found), USERS["ramp"])


def tails(runs: int, ratio: float, users: int = 2000, step: int = 4) -> Figures:
    """The 95 % quantile of latencies at equal shares, four replies a user, some of whom are slow themselves."""
    rng, told = np.random.default_rng(4), np.full(runs, LOOKS)
    apart = told.copy()
    user = np.repeat(np.arange(users), RATINGS)
    for place in range(runs):
        treated = rng.random(users) < 0.5
        behind = np.repeat(rng.standard_normal(users), RATINGS) + rng.standard_normal(len(user))
        value = np.exp(SIGMA * behind * math.sqrt(0.5)) * np.where(treated[user], ratio, 1.0)
        for look in range(step - 1, LOOKS, step):
            now = len(user) * (look + 1) // LOOKS
            replies = Replies(user[:now], np.zeros(now, np.int64), treated[user[:now]], value[:now])
            limits, known = quantile_ratio(replies, 0.95, Boundary())
            ready = bool(enough(known))
            apart[place] = min(apart[place], look if ready and (limits.lower > 0 or limits.upper < 0) else LOOKS)
            told[place] = min(told[place], look if ready and limits.lower > SLOWER else LOOKS)
    return {"ratio": ratio, "apart": float((apart < LOOKS).mean())} | _told(told, users)


def failures(runs: int, share: float, champion: float, challenger: float, users: int, step: int = 2) -> Figures:
    """Four calls a user, of which such parts fail: how often "failed calls" ever sent the challenger back, and how
    often its own limit alone (`by itself`) would have. Guardrails are a reward's: eight share their alpha."""
    rng, told = np.random.default_rng(5), np.full(runs, LOOKS)
    alone, goals, boundary = told.copy(), Goals(), Boundary(alpha=0.05 * 4 / 8)
    for place in range(runs):
        own = rng.random(users) < share
        failed = rng.binomial(RATINGS, np.where(own, challenger, champion))
        for look in range(step - 1, LOOKS, step):
            now = users * (look + 1) // LOOKS
            known = _failing(own[:now], failed[:now], share)
            line = next(each for each in guardrails(known, goals, boundary) if each.subject == "Failed calls")
            alone[place] = min(alone[place], look if (line.lower or 0.0) > goals.failures else LOOKS)
            told[place] = min(told[place], look if line.state is State.MISSED else LOOKS)
            if told[place] < LOOKS:
                break
    found = _told(alone, users)
    by_itself = {"by itself": found["told"], "by itself, median": found["users, median"]}
    return {"share": share, "champion": champion, "challenger": challenger} | by_itself | _told(told, users)


def _failing(own: Flags, failed: NDArray[np.int64], share: float) -> Evidence:
    """What is known of users' calls, of which so many failed, and nothing of anything else."""
    users, nothing = np.arange(len(own)), np.zeros(0, np.int64)
    none = Outcomes(nothing, nothing, nothing > 0, np.zeros(0), np.zeros(0))
    calls = Outcomes(users, np.zeros(len(own), np.int64), own, np.full(len(own), float(RATINGS)), failed.astype(float))
    seen, hit = (np.array([[(~own & each).sum(), (own & each).sum()]]) for each in (np.ones_like(own), failed > 0))
    return Evidence(
        satisfaction=none,
        quality=none,
        failures=calls,
        latencies={},
        users=seen,
        failed=hit,
        reported=np.zeros_like(seen),
        treated=int(seen[0, 1]),
        shares=np.array([share]),
    )


def _told(at: NDArray[np.int64], users: int) -> Figures:
    middle = np.quantile(at, 0.5, method="higher")
    median = math.ceil((middle + 1) / LOOKS * users) if middle < LOOKS else None
    return {"runs": len(at), "told": float((at < LOOKS).mean()), "users, median": median}


def table(found: Figures) -> Table:
    """For people: a row a cell."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    for column in ("experiments", "runs", "said", *RIVALS, "users, median", "users for 80 %"):
        shown.add_column(column, justify="left" if column == "experiments" else "right")
    said = {"A/A": "any verdict", "power": "up", "margin": "not worse", "latency": "slower"}
    for kind, name in said.items():
        for each in found[kind]:
            label = f"{kind}: {each['outcome']}, {each['shares']}, {each['trouble']}, {100 * each['effect']:+.0f} %"
            rivals = [_share(each.get(rival)) for rival in RIVALS] if kind == "A/A" else [""] * len(RIVALS)
            when = [str(each[key] or "") for key in ("users, median", "users for 80 %")]
            shown.add_row(label, str(each["runs"]), _share(each[name]), *rivals, *when)
    named = ("rate", "ratio", "lost", "apart", "share", "champion", "challenger", "by itself")
    for kind in ("exact", "shares", "tails", "failures"):
        for each in found[kind]:
            about = ", ".join(f"{key} {each[key]:g}" for key in named if key in each)
            row = [str(each["runs"]), _share(each["told"]), "", "", str(each["users, median"] or ""), ""]
            shown.add_row(f"{kind}: {about}", *row)
    return shown


def _share(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.1f} %"


def _seconds(began: float) -> Figures:
    return {"cpu_seconds": time.process_time() - began}
