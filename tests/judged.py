"""Made-up questions, judgements, and models of known quality, for what measures reward models."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from trainer.data.records import ASPECTS, Dataset, Judgement, Labelled, Pair, PairKind, Place, Question, Response
from trainer.reward.findings import Scored

ENGLISH = (
    "the order ships on Tuesday and you can follow it in your account because we keep every parcel tracked until it is "
    "at your door please ask again when something is missing the return is free within thirty days"
)
VIETNAMESE = (
    "đơn hàng của bạn sẽ được giao vào thứ ba và bạn có thể theo dõi trong tài khoản vui lòng hỏi lại khi thiếu gì"
)
START = datetime(2026, 3, 1, tzinfo=UTC)


def a_dataset(
    questions: int = 60, responses: int = 4, users: int = 30, seed: int = 7, languages: tuple[str, ...] = ("en", "vi")
) -> tuple[Dataset, dict[Place, float]]:
    """A dataset whose ratings are stars of a hidden quality, and that quality (0..1) of each response."""
    rng = np.random.default_rng(seed)
    asked: dict[str, Question] = {}
    labels: list[Labelled] = []
    pairs: list[Pair] = []
    quality: dict[Place, float] = {}
    for number in range(questions):
        language, user = languages[number % len(languages)], f"user-{rng.integers(users):03}" if users else "file"
        words = (VIETNAMESE if language == "vi" else ENGLISH).split()
        name, time = f"q{number:05}", START + timedelta(hours=number)
        ratings, made = [], []
        for place in range(responses):
            true = float(rng.beta(2, 1.6))
            quality[name, place] = true
            rating = float(np.clip(round(4 * (true + rng.normal(0, 0.12))), 0, 4) / 4)
            aspects = {each: float(np.clip(round(4 * (true + rng.normal(0, 0.2))), 0, 4) / 4) for each in ASPECTS}
            text = " ".join(rng.choice(words, int(rng.integers(6, 12 + 60 * true))))
            judgement = Judgement(rater=user, rating=rating, aspects=aspects, time=time)
            made.append(Response(text=text.capitalize() + ".", judgements=(judgement,)))
            labels.append(
                Labelled(
                    question=name, response=place, rating=rating, aspects=aspects, weight=1.0, raters=(user,), time=time
                )
            )
            ratings.append(rating)
        asked[name] = Question(
            id=name,
            topic=f"t{number:05}",
            query=" ".join(rng.choice(words, 8)) + "?",
            context="Parcels of 2 kg cost 4.50.",
            responses=tuple(made),
            askers=(user,),
            groups={"language": language, "source": "shop" if number % 3 else "web"},
        )
        pairs += [
            Pair(
                chosen=(name, i),
                rejected=(name, j),
                kind=PairKind.DIRECT,
                margin=ratings[i] - ratings[j],
                praised_by=(user,),
                blamed_by=(user,),
            )
            for i in range(responses)
            for j in range(responses)
            if ratings[i] > ratings[j]
        ]
    return Dataset(questions=asked, labels=tuple(labels), pairs=tuple(pairs)), quality


def a_model(
    quality: Mapping[Place, float], noise: float, seed: int, scale: float = 1.0, members: int = 0
) -> dict[Place, Scored]:
    """A model that knows the quality up to normal noise on its logits; `scale` above 1 makes it overconfident."""
    rng = np.random.default_rng(seed)
    found = {}
    for place, true in quality.items():
        logit = math.log(max(true, 0.01) / max(1 - true, 0.01))
        drawn = [scale * float(logit + rng.normal(0, noise)) for _ in range(max(members, 1))]
        aspects = {name: float(np.clip(true + rng.normal(0, 0.1), 0, 1)) for name in ASPECTS}
        found[place] = Scored(logit=drawn[0], aspects=aspects, members=tuple(drawn) if members else ())
    return found


def scores(model: Mapping[Place, Scored]) -> dict[Place, float]:
    """Its scores of 0..1 at temperature 1."""
    return {place: 1 / (1 + math.exp(-one.logit)) for place, one in model.items()}
