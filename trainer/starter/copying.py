# ruff: noqa: S311 - seeded on purpose: the same seed gives the same figures
"""The proof of copying: does the answer state the value of the evidence, under conditions that the request path gives?

Each condition asks the policy questions with a number and all order questions. The rubric tells whether the value, and
no other one of its unit, is stated; the model's scores only choose.
"""

import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from trainer.starter import orders, policies, rubric, shop
from trainer.starter.asking import held_out
from trainer.starter.evidence import NOTES, Setting
from trainer.starter.query import LANGUAGES, Language, Query

if TYPE_CHECKING:  # the conditions are asked without a model too, and those that answer bring torch
    from trainer.starter.sampling import Judge, Policy

CONDITIONS: Final[dict[str, Setting]] = {
    "usual value": Setting(),
    "overriding value": Setting(source="new"),
    "distractors": Setting(source="new", distractors=2),
    "user line and note": Setting(source="new", distractors=1, profile=True, note=NOTES[0]),
    "phrased anew": Setting(source="new", distractors=1),
    "one row": Setting(rows=1),
    "several rows": Setting(rows=4),
    "one row, user line": Setting(rows=1, profile=True, note=NOTES[0]),
    "row, phrased anew": Setting(rows=1),
    "several rows, phrased anew": Setting(rows=3),
}
"""What surrounds the questions; those that name rows ask about orders."""


def queries(name: str, seed: int, count: int) -> Iterator[Query]:
    """`count` held-out queries of one condition, languages in turn."""
    fields, numeric = shop.tables("orders")["question"], [one for one in shop.faq() if one.value]
    for index in range(count):
        rng = random.Random(f"{seed}-{name}-{index}")
        lang, setting = LANGUAGES[index % 2], CONDITIONS[name]
        if "row" in name:
            raw = rng.choice(fields)
            asked = orders.order_question(rng, lang, "heldout", raw, setting, _ask(name, raw["id"], lang))
        else:
            intent = rng.choice(numeric)
            asked = policies.policy_question(rng, lang, "heldout", intent, setting, _ask(name, intent.id, lang))
        yield replace(asked.query, id=f"{name}-{seed}-{index}")


def _ask(name: str, intent: str, lang: Language) -> str:
    return str(shop.tables("anew")[intent][lang]) if "anew" in name else held_out(intent, lang)


def measure(policy: "Policy", judge: "Judge", seed: int, count: int, candidates: int = 5) -> dict[str, Any]:
    """For each condition: the share of candidates, of picks, and of best possible picks that state the value."""
    found = {}
    for name in CONDITIONS:
        asked = list(queries(name, seed, count))
        answers = policy.candidates(asked, candidates)
        found[name] = _shares(judge, asked, answers)
    return found


def _shares(judge: "Judge", asked: Sequence[Query], answers: Sequence[Sequence[str]]) -> dict[str, Any]:
    right, picks = [], []
    picked: dict[Language, list[bool]] = {lang: [] for lang in LANGUAGES}
    for query, texts in zip(asked, answers, strict=True):
        right.append([rubric.judge(query, text).accuracy == 1.0 for text in texts])
        scores = judge.scores(query, texts)
        picks.append(right[-1][max(range(len(scores)), key=scores.__getitem__)])
        picked[query.lang].append(picks[-1])
    return {
        "queries": len(asked),
        "candidates": round(statistics.fmean(statistics.fmean(row) for row in right), 3),
        "pick": round(statistics.fmean(picks), 3),
        "best": round(statistics.fmean(any(row) for row in right), 3),
        **{f"pick_{lang}": round(statistics.fmean(each), 3) for lang, each in picked.items()},
    }
