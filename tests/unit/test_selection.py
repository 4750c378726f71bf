"""Which candidate answers, and with what probability."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.stages.delivery import worth_asking
from server.stages.selection import Settings, rule_score, select, softmax
from server.types import Candidate, Check, Choice, Finding, SelectionMethod
from tests.turns import a_candidate

BEST, WEIGHTED, ENSEMBLE, RULES = SelectionMethod
METHODS = st.sampled_from([BEST, WEIGHTED, ENSEMBLE])
PLAIN = Settings()


def judged(index: int, score: float | None, *values: float, passed: bool = True, text: str = "An answer.") -> Candidate:
    """A candidate whose rules gave `values`."""
    checks = (Check.SAFETY, Check.GROUNDING, Check.LENGTH, Check.COHERENCE)
    findings = [Finding(check, True, value) for check, value in zip(checks, values, strict=False)]
    reward = Finding(Check.REWARD, passed, score or 0.0, "" if passed else "It is too weak.")
    return replace(a_candidate(index, text, score), findings=(reward, *findings))


def best_of(*candidates: Candidate) -> Choice:
    return select(candidates, BEST, PLAIN, 1)


def test_the_highest_score_answers() -> None:
    choice = best_of(a_candidate(0, score=0.2), a_candidate(1, score=0.9), a_candidate(2, score=0.5))
    assert (choice.index, choice.probabilities, choice.method) == (1, (0.0, 1.0, 0.0), BEST)


def test_of_equal_scores_the_first_drawn_answers() -> None:
    assert best_of(a_candidate(0, score=0.4), a_candidate(1, score=0.7), a_candidate(2, score=0.7)).index == 1


def test_a_failed_candidate_never_answers() -> None:
    assert best_of(a_candidate(0, error="late"), a_candidate(1, score=0.01)).index == 1


def test_a_scored_candidate_comes_before_an_unscored_one() -> None:
    assert best_of(a_candidate(0, score=None), a_candidate(1, score=0.01)).index == 1


@pytest.mark.parametrize("method", [BEST, WEIGHTED, ENSEMBLE])
def test_without_scores_the_rules_decide_and_the_choice_says_so(method: SelectionMethod) -> None:
    candidates = [
        a_candidate(0, error="late"),
        judged(1, None, 1, 0.6),
        judged(2, None, 1, 0.9),
        judged(3, None, 0.9, 1),
    ]
    choice = select(candidates, method, Settings(exploration=1.0), 1)
    assert (choice.index, choice.method, choice.probabilities) == (2, RULES, (0, 0, 1, 0))
    assert not choice.explored


def test_the_ensemble_weighs_reward_and_rules() -> None:
    """0.5 x 0.8 + 0.5 x 0.4 = 0.6 against 0.5 x 0.6 + 0.5 x 0.9 = 0.75."""
    candidates = [judged(0, 0.8, 0.4, 0.4), judged(1, 0.6, 0.8, 1.0)]
    assert select(candidates, ENSEMBLE, Settings(ensemble_weight=0.5), 1).index == 1
    assert select(candidates, ENSEMBLE, Settings(ensemble_weight=1.0), 1).index == 0
    assert best_of(*candidates).index == 0


def test_the_reward_is_no_rule() -> None:
    assert rule_score(judged(0, 0.1, 1.0, 0.5)) == 0.75
    assert rule_score(a_candidate(0)) == 1.0


def test_the_softmax_is_the_one_worked_out_by_hand() -> None:
    found = softmax({0: 0.9, 1: 0.8, 2: 0.8 + 0.1 * math.log(3)}, 0.1)
    assert found == pytest.approx({0: math.e / (math.e + 4), 1: 1 / (math.e + 4), 2: 3 / (math.e + 4)})


def test_the_smallest_temperature_overflows_nothing() -> None:
    assert softmax({0: 1.0, 1: 0.0, 2: 1.0}, 1e-300) == {0: 0.5, 1: 0.0, 2: 0.5}


def test_a_text_drawn_twice_has_the_probability_of_one_text() -> None:
    candidates = [a_candidate(0, "a", 0.7), replace(a_candidate(1, "A", 0.7), duplicate_of=0), a_candidate(2, "b", 0.7)]
    assert select(candidates, WEIGHTED, PLAIN, 1).probabilities == pytest.approx((0.5, 0.0, 0.5))


def test_where_the_first_of_equal_texts_failed_the_next_one_stands_for_them() -> None:
    candidates = [judged(0, 0.7, passed=False), replace(judged(1, 0.7), duplicate_of=0)]
    assert best_of(*candidates).index == 1


def test_when_every_candidate_fails_nothing_is_chosen() -> None:
    choice = select([judged(0, 0.9, passed=False), a_candidate(1, error="late")], BEST, Settings(exploration=1), 1)
    assert (choice.index, choice.probabilities) == (None, (0.0, 0.0))


def test_a_score_that_is_no_number_is_no_score() -> None:
    assert best_of(a_candidate(0, score=math.nan), a_candidate(1, score=0.1)).index == 1
    assert best_of(a_candidate(0, score=math.nan)).method is RULES


def test_the_explored_share_is_what_was_asked_and_the_probabilities_are_the_mixtures() -> None:
    """Over 4,000 seeds the shares of the choices are the logged probabilities (four standard errors)."""
    candidates = [a_candidate(0, "a", 0.9), a_candidate(1, "b", 0.85), a_candidate(2, "c", 0.6)]
    settings = Settings(temperature=0.1, exploration=0.2)
    choices = [select(candidates, BEST, settings, seed) for seed in range(4_000)]
    (logged,) = {choice.probabilities for choice in choices}
    soft = softmax({0: 0.9, 1: 0.85, 2: 0.6}, 0.1)
    assert logged == pytest.approx((0.8 + 0.2 * soft[0], 0.2 * soft[1], 0.2 * soft[2]))
    counted = Counter(choice.index for choice in choices)
    for index, chance in enumerate(logged):
        assert abs(counted[index] / 4_000 - chance) < 4 * math.sqrt(chance * (1 - chance) / 4_000)
    assert abs(sum(choice.explored for choice in choices) / 4_000 - 0.2) < 4 * math.sqrt(0.16 / 4_000)
    assert all(choice.index == 0 for choice in choices if not choice.explored)


CANDIDATES = st.lists(
    st.tuples(st.one_of(st.none(), st.floats(0, 1)), st.floats(0, 1), st.sampled_from("abc"), st.booleans()),
    min_size=1,
    max_size=16,
)


def built(drawn: list[tuple[float | None, float, str, bool]]) -> list[Candidate]:
    """Candidates with texts of three kinds, equal ones marked."""
    first: dict[str, int] = {}
    made = []
    for index, (score, value, text, passed) in enumerate(drawn):
        original = first.setdefault(text, index)
        candidate = judged(index, score, value, passed=passed, text=text)
        made.append(replace(candidate, duplicate_of=original if original != index else None))
    return made


@given(CANDIDATES, METHODS, st.floats(1e-6, 10), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**63 - 1))
def test_whatever_the_candidates_only_one_that_passed_answers_and_the_probabilities_are_sound(
    drawn: list[tuple[float | None, float, str, bool]],
    method: SelectionMethod,
    temperature: float,
    exploration: float,
    weight: float,
    seed: int,
) -> None:
    candidates = built(drawn)
    settings = Settings(temperature, exploration, weight)
    choice = select(candidates, method, settings, seed)
    assert choice == select(candidates, method, settings, seed)
    assert all(chance == 0 for chance, c in zip(choice.probabilities, candidates, strict=True) if not c.passed)
    assert (choice.index is None) == (not any(c.passed for c in candidates))
    if choice.index is not None:
        assert choice.probabilities[choice.index] > 0
        assert math.isclose(math.fsum(choice.probabilities), 1)
        possible = [c.text for c, chance in zip(candidates, choice.probabilities, strict=True) if chance]
        assert len(possible) == len(set(possible)), "of equal texts one can be chosen"


@given(CANDIDATES, METHODS, st.integers(0, 2**63 - 1))
def test_the_highest_reward_does_not_answer_when_a_check_failed(
    drawn: list[tuple[float | None, float, str, bool]], method: SelectionMethod, seed: int
) -> None:
    planted = replace(judged(len(drawn), 1.0, passed=False), text="planted")
    candidates = [*built(drawn), planted]
    assert select(candidates, method, Settings(exploration=0.5), seed).index != planted.index


def test_feedback_is_worth_asking_only_where_it_teaches() -> None:
    sure, close = a_candidate(0, "a", 0.95), a_candidate(1, "b", 0.93)
    assert not worth_asking([sure, a_candidate(1, "b", 0.1)], 0)
    assert worth_asking([sure, close], 0)
    assert not worth_asking([sure, replace(a_candidate(1, "a", 0.95), duplicate_of=0)], 0), "one text, no close call"
    assert not worth_asking([sure, judged(1, 0.94, passed=False)], 0), "what failed is no rival"
    assert worth_asking([a_candidate(0, "a", 0.5)], 0)
    assert worth_asking([a_candidate(0, "a", None)], 0)


def test_nobody_is_asked_about_a_refusal() -> None:
    assert not worth_asking([judged(0, 0.5, passed=False)], None)
