"""What training aims at for each response that somebody rated: the weighted mean of what its raters said. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from trainer.data.records import ASPECTS, Judgement, Labelled, Question, Response
from trainer.reward.config import DataConfig


def label(question: Question, config: DataConfig) -> tuple[Labelled, ...]:
    """One label for each response that somebody rated, in order. A rater who is not trusted at all says nothing.

    `weight` is the sum of the raters' trust times the clipped inverse propensity, not yet normalised: the squared error
    against a weighted mean is, up to a constant, the sum of those against what each rater said.
    """
    found = (_label(question.id, place, each, config) for place, each in enumerate(question.responses))
    return tuple(one for one in found if one is not None)


def inverse_propensity(response: Response, config: DataConfig) -> float:
    """How many times a judgement of this response counts: those that are seldom shown are seldom judged.

    At least 1, and never more than `propensity_clip` (clipped as in Ionides 2008, truncated importance sampling).
    """
    return min(1 / max(response.propensity, 1e-9), max(config.propensity_clip, 1.0))


def trusted(judgements: Iterable[Judgement]) -> list[Judgement]:
    """Those that count, and that say how good the response is."""
    return [each for each in judgements if each.weight > 0 and (each.rating is not None or each.aspects)]


def normalised(labels: Sequence[Labelled]) -> tuple[Labelled, ...]:
    """With weights whose mean over the rated ones is 1."""
    weights = [each.weight for each in labels if each.weight > 0]
    mean = sum(weights) / len(weights) if weights else 1.0
    return tuple(replace(each, weight=each.weight / mean) for each in labels)


def _label(question: str, place: int, response: Response, config: DataConfig) -> Labelled | None:
    judged = trusted(response.judgements)
    if not judged:
        return None
    rated = [(each.rating, each.weight) for each in judged if each.rating is not None]
    aspects = {name: [(each.aspects[name], each.weight) for each in judged if name in each.aspects] for name in ASPECTS}
    return Labelled(
        question=question,
        response=place,
        rating=_mean(rated) if rated else None,
        aspects={name: _mean(said) for name, said in aspects.items() if said},
        weight=sum(weight for _, weight in rated) * inverse_propensity(response, config),
        raters=tuple(sorted({each.rater for each in judged})),
        time=max((each.time for each in judged if each.time is not None), default=None),
    )


def _mean(said: Sequence[tuple[float, float]]) -> float:
    """Weighted. Of one rating it is that rating, to the last bit."""
    if len(said) == 1:
        return said[0][0]
    return sum(value * weight for value, weight in said) / sum(weight for _, weight in said)
