"""That a new reward release passes what the one before passed."""

import random
from collections.abc import Callable, Sequence
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.rollout.continuity import (
    MINIMUM_PAIRS,
    Continuity,
    Method,
    Rated,
    carry_over,
    crossing,
    isotonic,
)

HUNDREDTHS = [number / 100 for number in range(100)]


def passing(scores: Sequence[float], threshold: float) -> int:
    return sum(score >= threshold for score in scores)


def squeezed(score: float) -> float:
    """A release that gives every reply less, in the same order."""
    return score * score / 2


def test_the_same_order_on_another_scale_passes_the_same_replies() -> None:
    """40 of 100 pass at 0.60; of the new scores those from 0.18 up: the threshold is between 0.59² / 2 and 0.6² / 2."""
    found = carry_over(0.6, [(score, squeezed(score)) for score in HUNDREDTHS])
    assert found.threshold == pytest.approx((0.59**2 + 0.6**2) / 4)
    assert (found.method, found.pairs, found.passed_before, found.passed_after) == (Method.MATCHED, 100, 0.4, 0.4)
    assert found.sentence == (
        "Matched on 100 replies that both releases scored: 40.0% passed at 0.600, and 40.0% pass at 0.177."
    )


def test_the_same_scores_keep_the_same_threshold_but_for_its_place_between_two_of_them() -> None:
    found = carry_over(0.6, [(score, score) for score in HUNDREDTHS])
    assert found.threshold == pytest.approx(0.595)


@given(
    old=st.lists(st.floats(0, 1), min_size=MINIMUM_PAIRS, max_size=120),
    threshold=st.floats(0, 1),
    power=st.sampled_from([0.5, 1, 2]),
)
@settings(max_examples=12)
def test_no_threshold_passes_a_number_nearer_to_that_of_before(
    old: list[float], threshold: float, power: float
) -> None:
    """Held against every threshold there is, with ties and all."""
    new = [round(score**power, 1) for score in old]
    found = carry_over(threshold, list(zip(old, new, strict=True)))
    wanted = passing(old, threshold)
    possible = [passing(new, edge) for edge in {*new, 0.0, 1.0, *([max(new) + 1e-9] if max(new) < 1 else [])}]
    assert abs(passing(new, found.threshold) - wanted) == min(abs(number - wanted) for number in possible)
    assert 0 <= found.threshold <= 1
    assert found.passed_after == passing(new, found.threshold) / len(new)


def test_too_few_pairs_leave_the_threshold_as_it_is() -> None:
    found = carry_over(0.6, [(score, 0.9) for score in HUNDREDTHS[1:]])
    assert (found.threshold, found.method, found.pairs) == (0.6, Method.KEPT, 99)
    assert (found.passed_before, found.passed_after) == (40 / 99, 1)
    assert found.sentence == (
        "The threshold stays 0.600: 99 replies were scored by both releases, and 100 are needed to match it."
    )
    none = carry_over(0.6, [])
    assert (none.threshold, none.passed_before, none.passed_after) == (0.6, None, None)


@pytest.mark.parametrize(("constant", "share"), [(0.3, 0.0), (1.0, 1.0)])
def test_a_release_that_gives_all_the_same_score_is_said_to_tell_nothing_apart(constant: float, share: float) -> None:
    """40 % passed: none is nearer to that than all, unless the score is 1, which every threshold passes."""
    found = carry_over(0.6, [(score, constant) for score in HUNDREDTHS])
    assert found.passed_after == share
    assert found.sentence.endswith("the same score, so that no threshold tells them apart.")


def test_scores_that_are_equal_in_crowds_are_split_where_it_is_nearest() -> None:
    """40 passed; 70 have 0.8 and 30 have 0.2: 70 is as near as it gets, against 0 and 100."""
    new = [0.2] * 30 + [0.8] * 70
    found = carry_over(0.6, list(zip(HUNDREDTHS, new, strict=True)))
    assert (found.threshold, found.passed_after) == (0.5, 0.7)
    assert found.sentence.endswith("Too many of the new scores are equal to come closer.")


def test_between_two_that_are_as_near_the_stricter_is_taken() -> None:
    """50 passed; 70 or 30 can."""
    new = [0.2] * 30 + [0.5] * 40 + [0.8] * 30
    assert carry_over(0.5, list(zip(HUNDREDTHS, new, strict=True))).passed_after == 0.3


@pytest.mark.parametrize(
    ("threshold", "new", "expected"),
    [
        (0.0, HUNDREDTHS, 0.0),
        (0.0, [0.5 + score / 4 for score in HUNDREDTHS], 0.0),
        (1.0, HUNDREDTHS, 1.0),
        (0.995, [score / 2 for score in HUNDREDTHS], 0.995),
        (0.995, [*HUNDREDTHS[1:], 0.997], (0.997 + 1) / 2),
    ],
)
def test_where_all_or_none_passed_the_old_threshold_moves_only_as_far_as_it_must(
    threshold: float, new: list[float], expected: float
) -> None:
    found = carry_over(threshold, list(zip(HUNDREDTHS, new, strict=True)))
    assert found.threshold == pytest.approx(expected)
    assert found.passed_after == found.passed_before


@given(
    st.lists(
        st.builds(Rated, st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.sampled_from([0, 0.25, 1]), st.sampled_from([1, 2])),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=30)
def test_expected_ratings_are_the_least_squares_fit_that_never_falls(ratings: list[Rated]) -> None:
    """Against the minimax formula of Barlow et al.: the highest lowest mean of all spans around a score."""
    scores = sorted({rated.score for rated in ratings})

    def mean(low: int, high: int) -> float:
        of = [r for r in ratings if scores[low] <= r.score <= scores[high]]
        return sum(r.rating * r.weight for r in of) / sum(r.weight for r in of)

    last = len(scores) - 1
    expected = [max(min(mean(a, b) for b in range(i, last + 1)) for a in range(i + 1)) for i in range(last + 1)]
    found = isotonic(ratings)
    assert [score for score, _ in found] == scores
    assert [value for _, value in found] == pytest.approx(expected)


def test_ratings_cross_a_level_between_two_scores_or_nowhere() -> None:
    """Means 0, then 0.75 and 0.25 that pool to 0.5, then 1."""
    ratings = [Rated(0.2, 0), Rated(0.4, 0.75), Rated(0.6, 0.25), Rated(0.8, 1)]
    assert crossing(ratings, 0.4) == pytest.approx(0.3)
    assert crossing(ratings, 0.6) == pytest.approx(0.7)
    assert crossing(ratings, 0.0) is None
    assert crossing(ratings[:3], 0.6) is None
    assert crossing([], 0.6) is None


def rated(count: int, seed: int, rise: float = 0.0) -> list[Rated]:
    """Stars as 0 to 1 whose mean is the score and `rise`, from scores all over the range."""
    draw = random.Random(seed)
    scores = [draw.random() for _ in range(count)]
    return [Rated(score, round(min(1, max(0, draw.gauss(score + rise, 0.2))) * 4) / 4) for score in scores]


def anchored(ratings: Sequence[Rated], threshold: float = 0.6) -> Continuity:
    scores = [number / 1000 for number in range(1000)]
    return carry_over(threshold, [(score, score) for score in scores], ratings)


def test_ratings_that_agree_leave_the_match_as_it_is() -> None:
    found = anchored(rated(2000, seed=1))
    assert (found.method, found.ratings) == (Method.MATCHED, 2000)
    assert found.threshold == pytest.approx(0.5995)
    assert found.sentence.endswith("(0.600 is meant), which does not contradict it.")


def test_ratings_that_contradict_draw_the_threshold_to_where_replies_are_rated_as_meant() -> None:
    """Replies are rated 0.1 above their score, so 0.5 is meant; few scores lie in between: one swap does it."""
    scores = [n / 1000 for n in (*range(400), *range(400, 700, 10), *range(700, 1000))]
    found = carry_over(0.6, [(score, score) for score in scores], rated(4000, seed=2, rise=0.1))
    assert found.method is Method.ANCHORED
    assert found.threshold == pytest.approx(0.5, abs=0.04)
    assert found.passed_before == 310 / 730
    assert found.passed_after == pytest.approx(320 / 730, abs=4 / 730)


@pytest.mark.parametrize(("rise", "passes"), [(0.3, 0.45), (-0.3, 0.35)])
def test_one_swap_moves_what_passes_by_five_in_a_hundred_at_most(rise: float, passes: float) -> None:
    found = anchored(rated(2000, seed=3, rise=rise))
    assert found.method is Method.ANCHORED
    assert found.passed_after == pytest.approx(passes)
    assert "one swap moves at most 5% of replies." in found.sentence


def test_from_swap_to_swap_the_threshold_comes_to_where_the_ratings_lead() -> None:
    ratings, threshold = rated(4000, seed=4, rise=0.2), 0.6
    for _ in range(8):
        threshold = anchored(ratings, threshold).threshold
    assert threshold == pytest.approx(0.4, abs=0.06)


def test_few_ratings_or_ratings_of_one_side_say_nothing() -> None:
    """Rated is mostly what was delivered, and delivered what passed: of the rest nothing is known."""
    many = rated(4000, seed=5, rise=0.3)
    assert anchored(many[:399]).method is Method.MATCHED
    assert anchored(many[:400]).method is Method.ANCHORED
    above = [each for each in many if each.score >= 0.6]
    assert len(above) > 1000
    assert anchored(above).method is Method.MATCHED
    assert anchored([*above, *[each for each in many if each.score < 0.6][:99]]).method is Method.MATCHED


def test_weights_make_up_for_replies_that_were_rarely_chosen() -> None:
    """Good replies are chosen ten times as often as bad ones with the same score; inverse weights undo that.

    With them one in a hundred is contradicted by chance; without, all.
    """
    methods: dict[bool, list[Method]] = {True: [], False: []}
    for seed in range(6):
        draw, chosen = random.Random(seed), list[Rated]()
        for each in rated(2500, seed=seed + 100):
            probability = 1.0 if each.rating > each.score else 0.1
            if draw.random() < probability:
                chosen.append(Rated(each.score, each.rating, 1 / probability))
        methods[True].append(anchored(chosen).method)
        methods[False].append(anchored([Rated(each.score, each.rating) for each in chosen]).method)
    assert methods[True].count(Method.ANCHORED) <= 1
    assert methods[False] == [Method.ANCHORED] * 6


def test_many_swaps_drift_less_than_half_as_far_with_ratings() -> None:
    """Each swap has 200 pairs and noisy scores, and the true passing quality is at 0.6."""
    drifts = {with_ratings: fmean(_drift(seed, with_ratings) for seed in range(2)) for with_ratings in (False, True)}
    assert drifts[True] < 0.5 * drifts[False]


def _drift(seed: int, with_ratings: bool) -> float:
    draw, threshold, furthest = random.Random(seed), 0.6, 0.0
    ratings = rated(1000, seed=seed) if with_ratings else []
    for _ in range(25):
        true = [draw.random() for _ in range(200)]
        pairs = [(_noisy(score, draw), _noisy(score, draw)) for score in true]
        threshold = carry_over(threshold, pairs, ratings).threshold
        furthest = max(furthest, abs(threshold - 0.6))
    return furthest


def _noisy(score: float, draw: random.Random) -> float:
    return min(1.0, max(0.0, score + draw.gauss(0, 0.1)))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: carry_over(1.2, []),
        lambda: carry_over(0.6, [(0.5, -0.1)]),
        lambda: carry_over(0.6, [(float("nan"), 0.1)]),
        lambda: carry_over(0.6, [], [Rated(0.5, 4)]),
        lambda: carry_over(0.6, [], [Rated(0.5, 0.5, 0)]),
        lambda: carry_over(0.6, [], [Rated(0.5, 0.5, float("inf"))]),
        lambda: carry_over(0.6, [], anchor=float("inf")),
    ],
)
def test_what_is_no_score_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="0"):
        wrong()
