"""Which pairs follow from which judgements, with what margin and weight: against numbers worked out by hand."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import comparisons
from trainer.data.comparisons import combined
from trainer.data.pairs import build, label
from trainer.data.records import Dataset, Judgement, Pair, PairKind, Preferred, Question, Response
from trainer.reward.config import DataConfig

CONFIG = DataConfig()


def judged(text: str, *ratings: float | None, propensity: float = 1.0, trust: float = 1.0) -> Response:
    """A response with a rating by each of raters r0, r1, ..."""
    said = (
        Judgement(rater=f"r{n}", rating=each, feedback_id=f"{text}{n}", weight=trust) for n, each in enumerate(ratings)
    )
    return Response(text=text, judgements=tuple(said), propensity=propensity)


def aspects(text: str, **values: float) -> Response:
    return Response(text=text, judgements=(Judgement(rater="r", aspects=values),))


def question(*responses: Response, name: str = "q", preferences: Sequence[Preferred] = (), query: str = "") -> Question:
    return Question(id=name, topic=name, query=query or name, responses=responses, preferences=tuple(preferences))


def preferred(chosen: int, rejected: int, rater: str = "r", weight: float = 1.0) -> Preferred:
    return Preferred(chosen=chosen, rejected=rejected, rater=rater, weight=weight, feedback_id=f"p-{rater}")


def built(*questions: Question, config: DataConfig = CONFIG) -> tuple[tuple[Pair, ...], dict[str, int]]:
    dataset, exclusions = build(questions, config)
    return dataset.pairs, {each.reason: each.count for each in exclusions}


def order(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    return [(pair.chosen[1], pair.rejected[1]) for pair in pairs]


def test_of_two_responses_the_higher_rated_is_chosen_with_the_gap_as_margin() -> None:
    (pair,), left_out = built(question(judged("a", 0.25), judged("b", 0.75)))
    assert (pair.chosen, pair.rejected, pair.kind) == (("q", 1), ("q", 0), PairKind.DIRECT)
    assert (pair.margin, pair.weight, pair.raters, pair.sources) == (0.5, 1.0, ("r0",), ("a0", "b0"))
    assert left_out == {}


@pytest.mark.parametrize(("gap", "decided"), [(0.0, 0), (0.1249, 0), (0.125, 1), (0.7 - 0.575, 1)])
def test_ratings_less_than_half_a_star_apart_are_a_tie_that_is_counted(gap: float, decided: int) -> None:
    pairs, left_out = built(question(judged("a", 0.2), judged("b", 0.2 + gap)))
    assert len(pairs) == decided
    assert left_out.get("tie", 0) == 1 - decided


def test_equal_ratings_are_a_tie_even_where_any_gap_would_do() -> None:
    assert built(question(judged("a", 0.2), judged("b", 0.2)), config=DataConfig(minimum_gap=0))[0] == ()


def test_raters_who_contradict_each_other_are_averaged_by_their_trust() -> None:
    response = Response(
        text="a",
        judgements=(
            Judgement(rater="x", rating=1.0, weight=0.9),
            Judgement(rater="y", rating=0.0, weight=0.1),
            Judgement(rater="z", rating=0.0, weight=0.0),
        ),
        propensity=0.5,
    )
    (found,) = label(question(response), CONFIG)
    assert found.rating == pytest.approx(0.9)
    assert found.weight == pytest.approx(1.0 / 0.5)
    assert found.raters == ("x", "y")


def test_who_rated_only_aspects_leaves_the_overall_rating_open() -> None:
    (found,) = label(question(aspects("a", safety=0.0, accuracy=1.0), judged("b", None)), CONFIG)
    assert (found.rating, found.weight, dict(found.aspects)) == (None, 0.0, {"accuracy": 1.0, "safety": 0.0})


def test_labels_weights_have_a_mean_of_1_over_what_is_rated() -> None:
    dataset, _ = build([question(judged("a", 0.5, trust=0.2), judged("b", 0.5, 0.5), aspects("c", safety=1.0))], CONFIG)
    assert [each.weight for each in dataset.labels] == pytest.approx([0.2 / 1.1, 2 / 1.1, 0.0])


def test_the_seldom_shown_weigh_more_up_to_the_clip() -> None:
    seldom = question(judged("a", 0.0, propensity=0.5), judged("b", 1.0, propensity=0.25), name="seldom")
    never = question(judged("a", 0.0, propensity=0.0), judged("b", 1.0), name="never")
    often = question(judged("a", 0.0), judged("b", 1.0), name="often")
    pairs, _ = built(seldom, never, often)
    # 1 / 0.5 * 1 / 0.25 = 8; clipped to 10; 1: over their mean of 19 / 3.
    assert [pair.weight for pair in pairs] == pytest.approx([8 * 3 / 19, 10 * 3 / 19, 3 / 19])


def test_a_pair_is_trusted_as_the_difference_of_two_means_is() -> None:
    sure = question(judged("a", 0.0, 0.0), judged("b", 1.0, 1.0), name="sure")
    unsure = question(judged("a", 0.0, trust=0.5), judged("b", 1.0), name="unsure")
    pairs, _ = built(sure, unsure)
    # Inverse variances: 1 / (1/2 + 1/2) = 1 to 1 / (2 + 1) = 1/3.
    assert pairs[0].weight / pairs[1].weight == pytest.approx(3)


def test_a_question_with_many_responses_does_not_count_by_their_square() -> None:
    many = question(*(judged(str(n), n / 4) for n in range(5)), name="many")
    two = question(judged("a", 0.0), judged("b", 1.0), name="two")
    pairs, _ = built(many, two)
    shares = Counter[str]()
    for pair in pairs:
        shares[pair.chosen[0]] += pair.weight
    assert len(pairs) == 11
    assert shares["many"] / shares["two"] == pytest.approx(5 / 2)


def test_aspects_are_weighed_as_specified_and_again_over_those_that_are_there() -> None:
    assert combined({"accuracy": 1.0, "helpfulness": 0.5, "clarity": 0.0, "safety": 1.0}) == pytest.approx(0.65)
    assert combined({"accuracy": 1.0, "clarity": 0.0}) == pytest.approx(0.6)


def test_where_ratings_decide_nothing_aspects_do() -> None:
    same = (Judgement(rater="r", rating=0.5, aspects={"accuracy": 1.0, "helpfulness": 0.5}),)
    less = (Judgement(rater="r", rating=0.5, aspects={"accuracy": 0.5, "helpfulness": 0.5}),)
    (pair,), left_out = built(question(Response(text="a", judgements=less), Response(text="b", judgements=same)))
    assert (pair.kind, order([pair]), pair.margin) == (PairKind.ASPECTS, [(1, 0)], pytest.approx(0.25))
    assert left_out == {}


def test_ratings_win_over_aspects_that_say_the_opposite() -> None:
    good = (Judgement(rater="r", rating=1.0, aspects={"accuracy": 0.0, "helpfulness": 0.0}),)
    bad = (Judgement(rater="r", rating=0.0, aspects={"accuracy": 1.0, "helpfulness": 1.0}),)
    (pair,), _ = built(question(Response(text="a", judgements=good), Response(text="b", judgements=bad)))
    assert (pair.kind, order([pair])) == (PairKind.DIRECT, [(0, 1)])


@pytest.mark.parametrize(
    ("one", "other", "comparable"),
    [
        ({"accuracy": 1.0}, {"clarity": 0.0}, False),
        ({"safety": 1.0}, {"safety": 0.0}, False),
        ({"clarity": 1.0, "accuracy": 1.0}, {"clarity": 0.0, "accuracy": 0.0, "safety": 1.0}, True),
    ],
)
def test_aspects_compare_only_where_both_have_half_of_their_weight(
    one: Mapping[str, float], other: Mapping[str, float], comparable: bool
) -> None:
    pairs, left_out = built(question(aspects("a", **one), aspects("b", **other)))
    assert (len(pairs), left_out.get("tie", 0)) == ((1, 0) if comparable else (0, 1))


def test_a_persons_own_word_makes_a_pair_without_ratings() -> None:
    (pair,), _ = built(question(judged("a"), judged("b"), preferences=[preferred(1, 0, "x"), preferred(1, 0, "y")]))
    assert (order([pair]), pair.kind, pair.margin) == ([(1, 0)], PairKind.PREFERENCE, 0.0)
    assert (pair.raters, pair.sources) == (("x", "y"), ("p-x", "p-y"))


def test_a_persons_own_word_stands_against_ratings_and_takes_their_gap_where_they_agree() -> None:
    responses = (judged("a", 0.0), judged("b", 1.0))
    (against,), left_out = built(question(*responses, preferences=[preferred(0, 1)]))
    assert (order([against]), against.margin, left_out) == ([(0, 1)], 0.0, {"contradicted": 1})
    (agreed,), left_out = built(question(*responses, preferences=[preferred(1, 0)]))
    assert (order([agreed]), agreed.kind, agreed.margin, left_out) == ([(1, 0)], PairKind.PREFERENCE, 1.0, {})


def test_preferences_that_contradict_each_other_are_voted_on() -> None:
    voted = [preferred(0, 1, "x", 1.0), preferred(1, 0, "y", 0.4), preferred(1, 0, "z", 0.2)]
    (pair,), left_out = built(question(judged("a"), judged("b"), preferences=voted))
    assert (order([pair]), pair.raters, left_out) == ([(0, 1)], ("x",), {"contradicted": 2})
    pairs, left_out = built(question(judged("a"), judged("b"), preferences=[preferred(0, 1), preferred(1, 0)]))
    assert (pairs, left_out) == ((), {"contradicted": 2})


def test_a_text_is_never_better_than_itself() -> None:
    twice = question(judged("a", 0.0), judged("a", 1.0), preferences=[preferred(0, 1), preferred(1, 1)])
    pairs, left_out = built(twice)
    assert (pairs, left_out) == ((), {"tie": 2})


def test_equal_texts_of_two_replies_are_one_side_with_all_their_ratings() -> None:
    pairs, _ = built(question(judged("a", 1.0), judged("a", 0.0), judged("b", 0.25)))
    assert [(each.chosen, each.rejected, each.margin) for each in pairs] == [(("q", 0), ("q", 2), 0.25)]


def test_single_responses_are_paired_good_above_bad_within_their_language_each_once() -> None:
    rated = {"g1": 0.75, "g2": 1.0, "b1": 0.25, "b2": 0.5, "b3": 0.0, "middle": 0.625}
    english = [question(judged(name, value), name=name, query=f"Where is {name}?") for name, value in rated.items()]
    lonely = question(judged("chào", 1.0), name="vi", query="Đơn hàng của tôi đâu rồi?")
    pairs, _ = built(*english, lonely)
    assert {pair.kind for pair in pairs} == {PairKind.ABSOLUTE}
    assert {pair.chosen[0] for pair in pairs} == {"g1", "g2"}
    assert len({pair.rejected[0] for pair in pairs} & {"b1", "b2", "b3"}) == 2
    assert [pair.margin for pair in pairs] == [rated[pair.chosen[0]] - rated[pair.rejected[0]] for pair in pairs]


def test_what_is_compared_with_its_own_like_is_in_no_absolute_pair() -> None:
    pairs, _ = built(question(judged("a", 0.0), judged("b", 1.0)), question(judged("c", 1.0), name="other"))
    assert [pair.kind for pair in pairs] == [PairKind.DIRECT]


def test_the_seed_decides_who_is_drawn_and_the_order_of_questions_does_not() -> None:
    rated = [question(judged("x", (n % 2) * 1.0), name=f"q{n}", query=f"Number {n}?") for n in range(40)]
    found = {seed: build(rated, CONFIG, seed)[0].pairs for seed in (1, 2)}
    assert found[1] != found[2]
    assert set(build(rated[::-1], CONFIG, 1)[0].pairs) == set(found[1])


def test_every_comparison_of_35_responses_is_there_and_of_hundreds_a_bounded_part() -> None:
    all_of_them, _ = built(question(*(judged(str(n), n / 34) for n in range(35))), config=DataConfig(minimum_gap=0))
    assert len(all_of_them) == 595
    many, left_out = built(question(*(judged(str(n), n / 199) for n in range(200))), config=DataConfig(minimum_gap=0))
    assert len(many) == 200 * comparisons.MOST_COMPARED / 2
    assert left_out["crowded"] == 200 * 199 / 2 - len(many)
    held = Counter(place for pair in many for place in (pair.chosen, pair.rejected))
    assert set(held.values()) == {comparisons.MOST_COMPARED}


def test_the_same_question_from_two_files_is_one_and_keeps_who_preferred_what() -> None:
    first = question(judged("a", 1.0))
    second = question(judged("b", 0.0), judged("c"), preferences=[preferred(1, 0)])
    dataset, _ = build([first, second], CONFIG)
    assert [each.text for each in dataset.questions["q"].responses] == ["a", "b", "c"]
    assert order(dataset.pairs) == [(2, 1), (0, 1)]


def test_questions_name_their_language_unless_somebody_did() -> None:
    vietnamese = question(judged("a", 1.0), query="Đơn hàng của tôi đâu rồi?")
    told = replace(vietnamese, id="told", groups={"language": "de"})
    dataset, _ = build([vietnamese, told], CONFIG)
    assert [each.groups["language"] for each in dataset.questions.values()] == ["vi", "de"]


def test_nothing_makes_nothing() -> None:
    assert build([], CONFIG) == (Dataset(questions={}, labels=(), pairs=()), ())
    assert build([question(judged("a"))], CONFIG)[0].pairs == ()


said = st.tuples(st.sampled_from("abc"), st.sampled_from([None, 0.0, 0.5, 1.0]), st.sampled_from([0.01, 1.0]))
asked = st.lists(
    st.tuples(st.lists(said, min_size=1, max_size=4), st.tuples(st.integers(0, 3), st.integers(0, 3))), max_size=3
)


def stated(number: int, responses: list[tuple[str, float | None, float]], duel: tuple[int, int]) -> Question:
    """A question with these responses and a preference between two of them."""
    chosen, rejected = (place % len(responses) for place in duel)
    held = (judged(text, rating, propensity=shown) for text, rating, shown in responses)
    return question(*held, name=f"q{number}", preferences=[preferred(chosen, rejected)])


@given(asked)
def test_whatever_was_said_no_two_texts_are_paired_twice_and_weights_have_a_mean_of_1(drawn: list[Any]) -> None:
    dataset, exclusions = build([stated(number, *each) for number, each in enumerate(drawn)], CONFIG)
    sides = [
        frozenset((place[0], dataset.text(place)[2]) for place in (pair.chosen, pair.rejected))
        for pair in dataset.pairs
    ]
    assert all(len(each) == 2 for each in sides)
    assert len(set(sides)) == len(sides)
    assert all(pair.weight > 0 and 0 <= pair.margin <= 1 and pair.raters for pair in dataset.pairs)
    assert all(each.count > 0 for each in exclusions)
    assert not sides or sum(pair.weight for pair in dataset.pairs) / len(sides) == pytest.approx(1)
    absolute = [pair for pair in dataset.pairs if pair.kind is PairKind.ABSOLUTE]
    assert len({place for pair in absolute for place in (pair.chosen, pair.rejected)}) == 2 * len(absolute)
