"""Best of five on judged answers: a release that the product's commands train from four fifths of the queries chooses
among the answers of the rest, beside what is chosen by length, by TF-IDF, and by the name of the model that answered.

Every figure is on unseen queries. The share of the possible gain is exact: over all draws of five of a query's 35
answers.
"""

import gzip
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from benchmarks import preferences
from benchmarks.preferences import Figures, Skipped

SEEDS: Final = (1,)
SPLIT_SEED: Final = 7
HELD_OUT: Final = 0.2
OURS: Final = "Ratchet"
LONGEST: Final = "longest"
COLUMNS: Final = {
    "share of the gain": "gain",
    "to longest": "gain_to_longest",
    "accuracy": "accuracy",
    "on similar length": "similar",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One unseen query's answers: [M] judged win rates, characters, and scores by each way of choosing."""

    rates: Any
    lengths: Any
    scores: Mapping[str, Any]


def measure(seeds: Sequence[int] = SEEDS, settings: Sequence[str] = ()) -> Figures:
    """Figures of every way of choosing, and what each training took. `settings` are given to `ratchet train`."""
    try:
        data, _ = preferences.require(preferences.JUDGED), preferences.base()
    except Skipped as why:
        return {"skipped": str(why)}
    with gzip.open(data, "rt") as lines, tempfile.TemporaryDirectory() as home:
        train, held = parted([json.loads(line) for line in lines], SPLIT_SEED)
        scores, trained = _ours(train, held, Path(home), seeds, settings)
        scores |= {LONGEST: lengths(held), "TF-IDF": words(train, held), "model's name": names(train, held)}
    asked = [
        Asked(
            np.array([one["win_rate"] for one in line["responses"]]),
            np.array([len(one["text"]) for one in line["responses"]]),
            {name: np.array(each[index]) for name, each in scores.items()},
        )
        for index, line in enumerate(held)
    ]
    return {"trained_on": len(train), "queries": len(held), "trainings": trained, "by": figures(asked)}


def figures(asked: Sequence[Asked]) -> Figures:
    """By way of choosing: estimates with 95 % intervals, queries drawn anew."""
    return {name: {key: asdict(each) for key, each in _of(asked, name).items()} for name in asked[0].scores}


def table(found: Figures) -> Table:
    """For people: a row a way of choosing."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    if "skipped" in found:
        shown.add_column(f"judged: skipped, {found['skipped']}")
        return shown
    shown.add_column(f"judged: best of five, {found['queries']} unseen queries")
    for column in COLUMNS:
        shown.add_column(column, justify="right")
    for name, each in found["by"].items():
        shown.add_row(name, *(interval(each[key]) for key in COLUMNS.values()))
    for one in found["trainings"]:
        shown.add_row(*preferences.took(one))
    return shown


def interval(estimate: Mapping[str, Any]) -> str:
    """0.71 (0.65 to 0.76)."""
    if estimate["value"] is None:
        return "–"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def parted(lines: Sequence[Figures], seed: int) -> tuple[list[Figures], list[Figures]]:
    """Queries to train on, and unseen ones."""
    order = np.random.default_rng(seed).permutation(len(lines))
    held = round(HELD_OUT * len(lines))
    return [lines[place] for place in order[held:]], [lines[place] for place in order[:held]]


def lengths(held: Sequence[Figures]) -> list[list[float]]:
    """Characters."""
    return [[float(len(one["text"])) for one in line["responses"]] for line in held]


def names(train: Sequence[Figures], held: Sequence[Figures]) -> list[list[float]]:
    """How the model that wrote the answer did on the train part: more than any text can tell of it."""
    rates = defaultdict(list)
    for one in (one for line in train for one in line["responses"]):
        rates[one["model"]].append(one["win_rate"])
    means = {name: float(np.mean(each)) for name, each in rates.items()}
    return [[means.get(one["model"], 0.0) for one in line["responses"]] for line in held]


def words(train: Sequence[Figures], held: Sequence[Figures]) -> list[list[float]]:
    """The product's TF-IDF and logistic regression."""
    from trainer.data import files, pairs
    from trainer.reward import baselines
    from trainer.reward.config import DataConfig

    with tempfile.TemporaryDirectory() as home:
        known, asked = (
            pairs.build(files.read(preferences.write(Path(home) / f"{name}.jsonl", lines)), DataConfig())[0]
            for name, lines in (("train", train), ("held", held))
        )
    found = baselines.tfidf(known, asked, seed=1)
    if found is None:
        raise Skipped("there are too few pairs for TF-IDF")
    scores = {asked.text(place)[1:]: score for place, score in found.items()}
    return [[scores[line["query"], one["text"]] for one in line["responses"]] for line in held]


def _ours(
    train: Sequence[Figures], held: Sequence[Figures], home: Path, seeds: Sequence[int], settings: Sequence[str]
) -> tuple[dict[str, Any], list[Figures]]:
    """Scores by a release of each seed, and what their training took."""
    train_file = preferences.write(home / "train.jsonl", train)
    held_file = preferences.write(home / "held.jsonl", held)
    scores, trained = {}, []
    for seed in seeds:
        made = preferences.train(train_file, home / f"reward-{seed}", seed, settings)
        lines = preferences.score(made.release, held_file, home / f"scored-{seed}.jsonl")
        scores[OURS if len(seeds) == 1 else f"{OURS}, seed {seed}"] = [
            [one["score"] for one in line["responses"]] for line in lines
        ]
        trained.append({"seed": seed, **preferences.training(made)})
    return scores, trained


def _of(asked: Sequence[Asked], name: str) -> Figures:
    from trainer.reward import best_of
    from trainer.reward.bootstrap import Draws

    draws, codes = Draws(), np.arange(len(asked))
    picked, longest, best = (
        np.array([best_of.expected_pick(scores, one.rates) for one, scores in zip(asked, each, strict=True)])
        for each in (
            [one.scores[name] for one in asked],
            [one.scores[LONGEST] for one in asked],
            [one.rates for one in asked],
        )
    )
    random = np.array([one.rates.mean() for one in asked])
    ones = np.ones(len(asked))
    return {
        "gain": draws.mean(picked - random, ones, codes, best - random),
        "gain_to_longest": draws.mean(picked - longest, ones, codes, best - random),
        "accuracy": _accuracy(asked, name, similar=False),
        "similar": _accuracy(asked, name, similar=True),
    }


def _accuracy(asked: Sequence[Asked], name: str, *, similar: bool) -> Any:
    """Of pairs whose win rates differ by an eighth or more, as the trainer's do."""
    from trainer.reward import metrics
    from trainer.reward.bootstrap import Draws
    from trainer.reward.config import DataConfig

    right, owner = [], []
    for index, one in enumerate(asked):
        better, worse = np.nonzero(one.rates[:, None] - one.rates[None, :] >= DataConfig().minimum_gap)
        if similar:
            alike = metrics.similar(one.lengths[better], one.lengths[worse])
            better, worse = better[alike], worse[alike]
        right.append(metrics.ordered(one.scores[name][better], one.scores[name][worse]))
        owner.append(np.full(len(better), index))
    each = np.concatenate(right)
    return Draws().mean(each, np.ones(len(each)), np.concatenate(owner))
