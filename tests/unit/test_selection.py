"""Which candidate answers."""

from hypothesis import given
from hypothesis import strategies as st

from server.stages.delivery import worth_asking
from server.stages.selection import select
from tests.turns import a_candidate


def test_the_highest_score_answers() -> None:
    choice = select([a_candidate(0, score=0.2), a_candidate(1, score=0.9), a_candidate(2, score=0.5)])
    assert (choice.index, choice.probabilities) == (1, (0.0, 1.0, 0.0))


def test_of_equal_scores_the_first_drawn_answers() -> None:
    assert select([a_candidate(0, score=0.4), a_candidate(1, score=0.7), a_candidate(2, score=0.7)]).index == 1


def test_a_failed_candidate_never_answers() -> None:
    assert select([a_candidate(0, error="late"), a_candidate(1, score=0.01)]).index == 1


def test_without_scores_the_first_drawn_answers() -> None:
    assert select([a_candidate(0, error="late"), a_candidate(1, score=None), a_candidate(2, score=None)]).index == 1


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=16))
def test_the_choice_is_drawn_and_unbeaten(scores: list[float | None]) -> None:
    candidates = [a_candidate(index, score=score) for index, score in enumerate(scores)]
    choice = select(candidates)
    best = max((score for score in scores if score is not None), default=None)
    assert candidates[choice.index].reward_score == best
    assert sum(choice.probabilities) == 1
    assert choice.probabilities[choice.index] == 1


def test_feedback_is_worth_asking_only_where_it_teaches() -> None:
    sure, close = a_candidate(0, "a", 0.95), a_candidate(1, "b", 0.93)
    assert not worth_asking([sure, a_candidate(1, "b", 0.1)], 0)
    assert worth_asking([sure, close], 0)
    assert not worth_asking([sure, a_candidate(1, "a", 0.95)], 0), "the same text twice is no close call"
    assert worth_asking([a_candidate(0, "a", 0.5)], 0)
    assert worth_asking([a_candidate(0, "a", None)], 0)
