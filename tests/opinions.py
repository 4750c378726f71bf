"""Questions with a few judgements, and what stays of them once they are cleaned."""

from collections.abc import Sequence

from trainer.data import quality
from trainer.data.raters import RaterReport
from trainer.data.records import Judgement, Preferred, Question, Response
from trainer.reward.config import DataConfig

CONFIG = DataConfig(user_cap=1.0)


def question(number: int, *responses: Response, preferences: Sequence[Preferred] = ()) -> Question:
    return Question(id=f"q{number}", topic=f"t{number}", query="?", responses=responses, preferences=tuple(preferences))


def rated(*ratings: tuple[str, float], text: str = "a", score: float | None = None) -> Response:
    """One that each of these raters gave a rating."""
    judgements = tuple(Judgement(rater=rater, rating=value) for rater, value in ratings)
    return Response(text=text, judgements=judgements, logged_score=score)


def cleaned(
    questions: Sequence[Question], config: DataConfig = CONFIG
) -> tuple[tuple[Question, ...], dict[str, int], RaterReport]:
    """As a training part with seed 1: what is left, how many judgements went by reason, and how raters are trusted."""
    found = quality.clean(questions, (), config, 1)
    return found.train, {each.reason: each.count for each in found.exclusions}, found.report
