"""The starter's whole loop: simulated users rate replies through the API, the trainer learns from what they said, and
both rewards, the one that served and the one that came out, choose among the same fresh candidates.

The hidden rubric judges the choice. It reaches the trainer only as what the users say, a third of whom don't read.
"""

import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks import ratchets
from server.settings import STARTER

if TYPE_CHECKING:  # it brings CTranslate2
    from trainer.starter.evaluate import Choice

USERS = 60
REPLIES = 2000
NOISY = 0.3
SEED = 7
QUERIES = 600
FRESH_SEED = 20_265
"""Of the held-out queries: no setting was chosen by these."""
RESAMPLES = 1000
REWARD = "reward-000001"

Figures = dict[str, Any]


def measure(replies: int = REPLIES, queries: int = QUERIES) -> Figures:
    """Figures of the simulation, of the training run, and of both rewards on the same candidates."""
    with ratchets.a_home() as home:
        with ratchets.serving(home, feedback_per_minute=10_000) as running:
            to, plan = f"--address={running.address}", (f"--users={USERS}", f"--noisy={NOISY}", f"--seed={SEED}")
            simulated = command("simulate", to, *plan, f"--replies={replies}")
            trained = command("train", "reward", f"--base={STARTER / 'encoder'}", home=home)
        found = {"simulation": simulated, "training": trained}
        if trained["release"]:
            found["choosing"] = choosing(Path(trained["release_path"]), queries)
        return found


def command(*arguments: str, home: Path | None = None) -> Figures:
    """What `ratchet ARGUMENTS --json` says. A run that ends as not better is no failure."""
    environment = os.environ | ({"RATCHET_HOME": str(home)} if home else {})
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
    )
    if not done.stdout:
        raise RuntimeError(f"ratchet {' '.join(arguments)} said nothing and ended with {done.returncode}.")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def choosing(release: Path, queries: int, seed: int = FRESH_SEED) -> Figures:
    """How the starter's reward and `release` choose among the same candidates of held-out queries."""
    before, after = drawn(release, queries, seed)
    return compare(before, after)


def drawn(release: Path, queries: int, seed: int) -> tuple[list["Choice"], list["Choice"]]:
    """The same candidates, scored by the starter's reward and by `release`. In this process, without Triton."""
    from trainer.starter import corpus, rubric
    from trainer.starter.evaluate import CANDIDATES, CHUNK, Choice
    from trainer.starter.progress import track
    from trainer.starter.sampling import Judge, Policy

    policy, judges = Policy(STARTER / "policy-000001", seed, 1), (Judge(STARTER / REWARD, 1), Judge(release, 1))
    asked = [one.query for one in corpus.asked(seed, "heldout", queries)]
    made: tuple[list[Choice], list[Choice]] = ([], [])
    for start in track(range(0, len(asked), CHUNK), "choosing"):
        chunk = asked[start : start + CHUNK]
        for query, answers in zip(chunk, policy.candidates(chunk, CANDIDATES), strict=True):
            truth = [rubric.judge(query, answer).overall for answer in answers]
            for judge, choices in zip(judges, made, strict=True):
                choices.append(Choice(query, answers, judge.scores(query, answers), truth))
    return made


def compare(before: Sequence["Choice"], after: Sequence["Choice"], seed: int = 1) -> Figures:
    """The shares of the possible gain that two rewards recover, and their difference, over queries drawn anew."""
    from trainer.starter.evaluate import ranking_accuracy, recovered

    rng, places = random.Random(seed), range(len(before))
    samples = [rng.choices(places, k=len(places)) for _ in range(RESAMPLES)]
    figures: Figures = {"queries": len(before)}
    for name, measured in (("recovered_share", recovered), ("ranking_accuracy", ranking_accuracy)):
        drawn = [tuple(measured([each[place] for place in sample]) for each in (before, after)) for sample in samples]
        figures[name] = {
            "before": measured(before),
            "before_95": _interval([first for first, _ in drawn]),
            "after": measured(after),
            "after_95": _interval([second for _, second in drawn]),
            "difference": measured(after) - measured(before),
            "difference_95": _interval([second - first for first, second in drawn]),
        }
    figures["rubric"] = {
        "random": statistics.fmean(statistics.fmean(one.truth) for one in before),
        "before": statistics.fmean(one.picked for one in before),
        "after": statistics.fmean(one.picked for one in after),
        "best_possible": statistics.fmean(max(one.truth) for one in before),
    }
    return figures


def _interval(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered)) - 1]]


def table(found: Figures) -> Table:
    """For people: what each reward's choice is worth."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    for column in ("the starter's loop", "before", "after", "difference, 95 %"):
        shown.add_column(column, justify="left" if column.startswith("the") else "right")
    for name, figures in found.get("choosing", {}).items():
        if isinstance(figures, dict) and "difference" in figures:
            low, high = figures["difference_95"]
            shown.add_row(name, f"{figures['before']:.3f}", f"{figures['after']:.3f}", f"{low:+.3f} to {high:+.3f}")
    shown.add_row("verdict", "", found["training"]["verdict"], "")
    shown.add_row("replies rated", "", str(found["simulation"]["rated"]), f"{found['simulation']['seconds']:.0f} s")
    return shown
