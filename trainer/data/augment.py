"""More ways to ask the same: queries of the train part in other words, with the responses and judgements they had.

The validation part is never touched, and no query of it comes in by a paraphrase. Noise in the embeddings is no new
data: the training loop adds it (`embedding_noise`).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from trainer.data.identity import plain, question_id
from trainer.data.records import Dataset, Exclusion, Question
from trainer.reward.config import AugmentConfig

Rewrite = Callable[[Sequence[str]], list[str]]
"""Texts in other words, one for one; what can't be rewritten comes back as it was."""

LENGTHS: Final = (0.5, 2.0)
"""A rewritten query's characters over the original's: beyond that something was left out, or made up."""
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Augmented:
    """The train part with what was made up beside it. `made` counts new questions, `dropped` says what was refused."""

    dataset: Dataset
    made: int = 0
    dropped: tuple[Exclusion, ...] = ()


def augment(
    train: Dataset, validation: Dataset, config: AugmentConfig, seed: int, heed: Callable[[], None] = lambda: None
) -> Augmented:
    """`train` as `config` wants it, by its models. Raises TrainerError for models that can't be used.

    `heed` is called before every few texts that are rewritten: what it raises ends it.
    """
    if not (config.paraphrase_model or config.forward_model or config.backward_model):
        return Augmented(train)
    from trainer.data.rewriting import rewriters

    away = [question.query for question in validation.questions.values()]
    return rewritten(train, rewriters(config, seed, heed), config.share, seed, away)


def rewritten(
    train: Dataset, rewrites: Sequence[Rewrite], share: float, seed: int, away: Iterable[str] = ()
) -> Augmented:
    """`train` and a further question for `share` of its questions and each of `rewrites`.

    A new question has the original's context, responses, labels and pairs (but those with other questions). Refused are
    rewritten queries that are empty, say what a query there or one of `away` says, are much longer or shorter, or have
    other numbers in them.
    """
    names = sorted(train.questions)
    order = np.random.default_rng(seed).permutation(len(names))
    drawn = [names[place] for place in order[: round(share * len(names))]]
    taken = {plain(query) for query in away} | {plain(one.query) for one in train.questions.values()}
    copies: dict[str, list[Question]] = {}
    refused: dict[str, int] = {}
    for rewrite in rewrites:
        originals = [train.questions[name] for name in drawn]
        for original, text in zip(originals, rewrite([one.query for one in originals]), strict=True):
            if reason := _refusal(original.query, text, taken):
                refused[reason] = refused.get(reason, 0) + 1
                continue
            taken.add(plain(text))
            copy = replace(original, id=question_id("augmented", text.strip(), original.context), query=text.strip())
            copies.setdefault(original.id, []).append(copy)
    made = sum(map(len, copies.values()))
    return Augmented(_with(train, copies), made, tuple(Exclusion(reason=name, count=n) for name, n in refused.items()))


def _with(train: Dataset, copies: Mapping[str, Sequence[Question]]) -> Dataset:
    """The dataset with copies of questions, by the originals' ids."""
    questions = dict(train.questions) | {copy.id: copy for each in copies.values() for copy in each}
    labels = [replace(one, question=copy.id) for one in train.labels for copy in copies.get(one.question, ())]
    pairs = [
        replace(one, chosen=(copy.id, one.chosen[1]), rejected=(copy.id, one.rejected[1]))
        for one in train.pairs
        if one.chosen[0] == one.rejected[0]
        for copy in copies.get(one.chosen[0], ())
    ]
    return Dataset(questions=questions, labels=(*train.labels, *labels), pairs=(*train.pairs, *pairs))


def _refusal(query: str, text: str, taken: set[str]) -> str:
    """Why a rewritten query is no use; empty: it is."""
    shortest, longest = (bound * len(query) for bound in LENGTHS)
    if not text.strip():
        return "rewritten_empty"
    if plain(text) in taken:
        return "rewritten_known"
    if not shortest <= len(text.strip()) <= longest:
        return "rewritten_length"
    if sorted(_NUMBER.findall(query)) != sorted(_NUMBER.findall(text)):
        return "rewritten_numbers"
    return ""
