"""Small training data whose right answer is known: a response is as good as the share of its words that are `good`."""

import random
from collections.abc import Sequence
from pathlib import Path

from exporters.reward_model import serializer
from trainer.data.inputs import Rows, encode
from trainer.data.records import ASPECTS, Dataset, Labelled, Pair, PairKind, Question, Response

GOOD = "good"
BAD = "bad"


def dataset(questions: int, responses: int = 4, *, seed: int = 0, aspects: bool = False, rated: bool = True) -> Dataset:
    """Questions with responses of different lengths, rated by their shares of good words; not `rated`: pairs alone."""
    rng = random.Random(seed)
    made: dict[str, Question] = {}
    labels: list[Labelled] = []
    pairs: list[Pair] = []
    for number in range(questions):
        name = f"{seed}-{number}"
        shares = [rng.random() for _ in range(responses)]
        texts = tuple(Response(text=_text(share, rng)) for share in shares)
        made[name] = Question(id=name, topic=name, query="how is it", responses=texts)
        values = [_share(each.text) for each in texts]
        if rated:
            labels += [_label(name, place, value, aspects) for place, value in enumerate(values)]
        pairs += _pairs(name, values)
    return Dataset(questions=made, labels=tuple(labels), pairs=tuple(pairs))


def rows(base: Path, data: Dataset, max_length: int = 64) -> Rows:
    """The data as the base's rows."""
    return encode(data, serializer(base, max_length))


def _text(share: float, rng: random.Random) -> str:
    return " ".join(GOOD if rng.random() < share else BAD for _ in range(rng.randint(2, 20)))


def _share(text: str) -> float:
    return text.split().count(GOOD) / len(text.split())


def _label(name: str, place: int, value: float, aspects: bool) -> Labelled:
    told = dict.fromkeys(ASPECTS, value) if aspects else {}
    return Labelled(question=name, response=place, rating=value, aspects=told, weight=1.0, raters=("one",))


def _pairs(name: str, values: Sequence[float]) -> list[Pair]:
    return [
        Pair(chosen=(name, one), rejected=(name, other), kind=PairKind.DIRECT, margin=values[one] - values[other])
        for one in range(len(values))
        for other in range(len(values))
        if values[one] - values[other] >= 0.125
    ]
