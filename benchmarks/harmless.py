"""Which of two answers people found less harmful: accuracy on unseen dialogues over three seeds, beside TF-IDF's.

People agree with each other on about 63 to 73 % of such pairs. Each seed holds out another fifth of the dialogues.
"""

import gzip
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from benchmarks import preferences
from benchmarks.judged import interval
from benchmarks.preferences import Figures, Skipped

SEEDS: Final = (1, 2, 3)
FOLDS: Final = 5
OURS, TFIDF, SHORTER = "Ratchet", "TF-IDF", "shorter"


def measure(seeds: Sequence[int] = SEEDS, settings: Sequence[str] = ()) -> Figures:
    """Accuracies with 95 % intervals over dialogues, all seeds together, and by seed."""
    try:
        data, _ = preferences.require(preferences.HARMLESS), preferences.base()
    except Skipped as why:
        return {"skipped": str(why)}
    with gzip.open(data, "rt") as lines:
        pairs = [json.loads(line) for line in lines]
    right: dict[str, list[Any]] = {OURS: [], TFIDF: [], SHORTER: []}
    trained = []
    for seed in seeds:
        train, held = fold(pairs, seed)
        with tempfile.TemporaryDirectory() as home:
            made = preferences.train(
                preferences.write(Path(home) / "train.jsonl", train), Path(home) / "r", seed, settings
            )
            held_file = preferences.write(Path(home) / "held.jsonl", held)
            scored = preferences.score(made.release, held_file, Path(home) / "scored.jsonl")
        right[OURS].append(ordered((one["chosen_score"], one["rejected_score"]) for one in scored))
        right[TFIDF].append(words(train, held, seed))
        right[SHORTER].append(ordered((-len(one["chosen"]), -len(one["rejected"])) for one in held))
        trained.append({"seed": seed, **preferences.training(made)})
    return {"pairs": sum(map(len, right[OURS])), "trainings": trained, "by": figures(right)}


def figures(right: dict[str, list[Any]]) -> Figures:
    """By way of choosing, `right` holding 1, 0.5 or 0 for each pair of each seed; `to_tfidf` is paired."""
    from trainer.reward.bootstrap import Draws

    def mean(values: Any) -> Figures:
        return asdict(Draws().mean(values, np.ones(len(values)), np.arange(len(values))))

    rival = np.concatenate(right[TFIDF])
    found = {}
    for name, each in right.items():
        whole = np.concatenate(each)
        seeds = [float(one.mean()) for one in each]
        found[name] = {
            "accuracy": mean(whole),
            "to_tfidf": mean(whole - rival),
            "by_seed": seeds,
            "spread": statistics.stdev(seeds) if len(seeds) > 1 else None,
        }
    return found


def table(found: Figures) -> Table:
    """For people: a row a way of choosing."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    if "skipped" in found:
        shown.add_column(f"harmless: skipped, {found['skipped']}")
        return shown
    shown.add_column(f"harmless: {found['pairs']} unseen pairs")
    for column in ("accuracy", "to TF-IDF", "by seed"):
        shown.add_column(column, justify="right")
    for name, each in found["by"].items():
        seeds = " ".join(f"{one:.3f}" for one in each["by_seed"])
        shown.add_row(name, interval(each["accuracy"]), interval(each["to_tfidf"]), seeds)
    for one in found["trainings"]:
        shown.add_row(*preferences.took(one))
    return shown


def fold(pairs: Sequence[Figures], seed: int) -> tuple[list[Figures], list[Figures]]:
    """A fifth is held out, another one by each of five seeds; dialogues of the same beginning stay together."""
    beginnings = sorted({beginning(pair) for pair in pairs})
    order = np.random.default_rng(0).permutation(len(beginnings))
    held = {beginnings[place] for rank, place in enumerate(order) if rank % FOLDS == seed % FOLDS}
    return [one for one in pairs if beginning(one) not in held], [one for one in pairs if beginning(one) in held]


def beginning(pair: Figures) -> str:
    """All before the last answer."""
    return str(pair["chosen"].rpartition("\n\nAssistant:")[0])


def ordered(scores: Any) -> Any:
    """[N] 1 where the chosen answer's score is the higher one, 0.5 on ties, from (chosen, rejected)."""
    from trainer.reward import metrics

    chosen, rejected = np.array(list(scores), dtype=np.float64).T
    return metrics.ordered(chosen, rejected)


def words(train: Sequence[Figures], held: Sequence[Figures], seed: int) -> Any:
    """TF-IDF of single words and pairs of words of the whole dialogue, logistic regression on differences."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    vectorizer.fit([pair[side] for pair in train for side in ("chosen", "rejected")])

    def differences(pairs: Sequence[Figures]) -> Any:
        chosen, rejected = (vectorizer.transform([pair[side] for pair in pairs]) for side in ("chosen", "rejected"))
        return chosen - rejected

    sign = np.where(np.arange(len(train)) % 2, -1.0, 1.0)
    turned = differences(train).multiply(sign[:, None]).tocsr()
    judge = LogisticRegression(fit_intercept=False, max_iter=1000, random_state=seed).fit(turned, sign > 0)
    return ordered((lead, 0.0) for lead in differences(held) @ judge.coef_[0])
