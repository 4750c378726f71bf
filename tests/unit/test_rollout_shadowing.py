"""What answers in shadow say together: rank correlation beside scipy, guardrails on planted answers."""

import random
from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from server.rollout.shadowing import LEAST_ANSWERS, ShadowAnswer, ShadowFigures, kendall, score_pairs, shadow_figures
from server.rollout.statistics.criteria import Goals
from server.rollout.statistics.findings import State
from server.rollout.types import Guardrail, Kind

GOALS = Goals()


def answer(number: int, scores: Sequence[float], champion: Sequence[float], **more: object) -> ShadowAnswer:
    values = {"seconds": 0.1, "champion_seconds": 0.1} | more
    return ShadowAnswer(
        rollout_id="r",
        response_id=UUID(int=number),
        tenant_id="t",
        scores=tuple(scores),
        champion_scores=tuple(champion),
        **values,  # type: ignore[arg-type]
    )


def rewards(seed: int, count: int, noise: float, sign: float = 1.0, slower: float = 1.0) -> list[ShadowAnswer]:
    """Answers of a reward whose scores are the champion's, or their opposite, and noise."""
    rng, made = random.Random(seed), []
    for number in range(count):
        champion = [rng.random() for _ in range(5)]
        scores = [0.5 + sign * (score - 0.5) + rng.gauss(0, noise) for score in champion]
        same = champion.index(max(champion)) == scores.index(max(scores))
        took = rng.uniform(0.05, 0.15)
        made.append(answer(number, scores, champion, same_choice=same, seconds=took * slower, champion_seconds=took))
    return made


def states(figures: ShadowFigures) -> dict[str, State]:
    return {line.name: line.state for line in figures.guardrails}


tied = st.integers(0, 3).map(float)


@given(st.lists(st.tuples(tied, tied), min_size=2, max_size=8))
def test_rank_correlation_is_kendalls_tau_b_as_scipy_has_it(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    found = kendall(first, second)
    if len(set(first)) == 1:
        assert found is None
    elif len(set(second)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(stats.kendalltau(first, second).statistic)


def test_scores_of_other_texts_have_no_rank_correlation() -> None:
    assert kendall([0.1, 0.2], [0.1, 0.2, 0.3]) is None


def test_a_reward_that_ranks_alike_meets_every_guardrail_once_there_are_enough_answers() -> None:
    found = shadow_figures(Kind.REWARD, rewards(1, 1500, 0.1), GOALS)
    assert set(states(found).values()) == {State.MET}
    assert found.correlation is not None
    assert found.correlation > 0.6
    assert found.changed is not None
    assert 0 < found.changed < 0.4


def test_a_reward_that_ranks_the_other_way_round_breaks_the_shadows_guardrail() -> None:
    found = shadow_figures(Kind.REWARD, rewards(2, 150, 0.1, sign=-1), GOALS)
    assert states(found)[Guardrail.SHADOW] is State.MISSED
    assert states(found)[Guardrail.LATENCY] is not State.MISSED
    assert found.changed is not None
    assert found.changed > 0.9


def test_a_reward_that_says_the_same_of_everything_breaks_it_too() -> None:
    flat = [answer(number, [0.5] * 4, [0.1, 0.4, 0.6, 0.9], same_choice=False) for number in range(200)]
    assert states(shadow_figures(Kind.REWARD, flat, GOALS))[Guardrail.SHADOW] is State.MISSED


@pytest.mark.parametrize(("slower", "state"), [(1.25, State.MISSED), (1.0, State.MET)])
def test_a_reward_that_takes_a_quarter_longer_breaks_the_guardrail_of_time(slower: float, state: State) -> None:
    found = shadow_figures(Kind.REWARD, rewards(3, 150, 0.1, slower=slower), GOALS)
    assert states(found)[Guardrail.LATENCY] is state
    assert found.slower == pytest.approx(slower - 1)


def test_few_answers_say_nothing_whatever_is_in_them() -> None:
    worst = rewards(4, LEAST_ANSWERS - 1, 0.0, sign=-1, slower=9)
    found = shadow_figures(Kind.REWARD, worst, GOALS)
    assert set(states(found).values()) == {State.UNDECIDED}
    assert f"{LEAST_ANSWERS - 1} of {LEAST_ANSWERS} answers" in found.guardrails[0].sentence


def test_no_answers_say_nothing() -> None:
    for kind in Kind:
        found = shadow_figures(kind, [], GOALS)
        assert (found.answers, found.correlation, found.changed, found.gain, found.slower) == (
            0,
            None,
            None,
            None,
            None,
        )
        assert set(states(found).values()) == {State.UNDECIDED}


def test_a_challenger_that_fails_breaks_the_guardrail_of_failures_and_its_failures_count_nowhere_else() -> None:
    failed = [answer(1000 + n, [], [0.1, 0.9], error="It did not answer in time.") for n in range(40)]
    found = shadow_figures(Kind.REWARD, [*rewards(5, 300, 0.1), *failed], GOALS)
    assert (found.answers, found.failed) == (340, 40)
    assert states(found) == {
        Guardrail.SHADOW: State.MET,
        Guardrail.LATENCY: State.MET,
        Guardrail.FAILURES: State.MISSED,
    }


@pytest.mark.parametrize(("shift", "state"), [(-0.15, State.MISSED), (0.15, State.MET), (0.0, State.UNDECIDED)])
def test_a_policy_is_judged_by_the_best_of_its_candidates(shift: float, state: State) -> None:
    """By the champion reward, on 120 requests that both answered, with different candidates."""
    rng = random.Random(6)
    drawn = [[[rng.gauss(0.6, 0.1) for _ in range(5)] for _ in range(2)] for _ in range(120)]
    made = [answer(n, [s + shift for s in ours], theirs) for n, (ours, theirs) in enumerate(drawn)]
    found = shadow_figures(Kind.POLICY, made, GOALS)
    assert states(found)[Guardrail.SHADOW] is state
    assert found.correlation is None
    assert found.changed is None
    assert found.gain == pytest.approx(shift / 0.716, abs=0.03)


def test_score_pairs_are_of_the_same_reply_the_champions_first() -> None:
    answers = [answer(1, [0.2, 0.3], [0.8, 0.9]), answer(2, [], [0.5], error="It did not answer.")]
    assert score_pairs(answers) == [(0.8, 0.2), (0.9, 0.3)]
