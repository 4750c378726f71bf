"""What is left out of the judgements, and that nothing else changes. Numbers are worked out by hand."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.opinions import CONFIG, cleaned, question, rated
from trainer.data import quality
from trainer.data.records import Judgement, Preferred, Question, Response
from trainer.reward.config import DataConfig

NOON = datetime(2026, 9, 15, 12, tzinfo=UTC)


def test_a_rating_far_from_all_others_of_the_same_text_goes() -> None:
    # Median 1, MAD 0, taken for half a star: 3.5 * 0.125 = 0.44 < 2.5 stars = 0.625. Only 0.25 lies further off.
    response = rated(("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 0.5), ("e", 0.25), ("f", 1.0))
    (found,), counts, _ = cleaned([question(0, response)])
    assert [each.rater for each in found.responses[0].judgements] == ["a", "b", "c", "d", "f"]
    assert counts == {"outlier": 1}


def test_where_raters_are_divided_or_few_nobody_is_an_outlier() -> None:
    divided = rated(*((name, 1.0) for name in "abc"), *((name, 0.0) for name in "def"), text="divided")
    few = rated(("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 0.0), text="few")
    reported = Response(
        text="r",
        judgements=(
            *rated(*((name, 1.0) for name in "abcde")).judgements,
            Judgement(rater="f", aspects={"safety": 0.0}, reported=True),
        ),
    )
    assert cleaned([question(0, divided, few, reported)])[1] == {}


def test_the_cap_leaves_its_share_and_the_seed_decides_which() -> None:
    config = DataConfig(user_cap=0.1)
    busy = [rated(("ann", number % 5 / 4), text=f"b{number}") for number in range(100)]
    others = [rated((f"u{number}", number % 5 / 4), text=f"o{number}") for number in range(100)]
    questions = [question(0, *busy, *others)]
    (found,), counts, report = cleaned(questions, config)
    assert counts == {"cap": 80}, "a tenth of 200 stays"
    assert len(found.responses) == 200, "responses keep their places"
    assert sum(1 for each in found.responses[:100] if each.judgements) == 20
    assert quality.clean(questions, (), config, 1).train == (found,)
    assert quality.clean(questions, (), config, 2).train != (found,)
    assert report.raters[0].id == "ann"


def test_of_few_raters_each_may_hold_much() -> None:
    questions = [question(0, *(rated((f"u{n % 3}", n % 5 / 4), text=f"{n}") for n in range(90)))]
    assert cleaned(questions, DataConfig())[1] == {}


@pytest.mark.parametrize("name", ["reviewer", "file"])
def test_who_stands_for_nobody_is_trusted_as_given(name: str) -> None:
    response = Response(text="a", judgements=(Judgement(rater=name, rating=1.0, weight=3.0),) * 50)
    questions = [question(0, response)]
    assert cleaned(questions, DataConfig()) == (tuple(questions), {}, cleaned(questions)[2])


def test_what_a_rater_says_by_aspects_alone_counts_by_their_weights() -> None:
    assert quality.value_of(Judgement(rater="a", aspects={"accuracy": 1.0, "clarity": 0.5})) == pytest.approx(0.8)
    assert quality.value_of(Judgement(rater="a", aspects={"safety": 0.0}, reported=True)) is None


def test_preferences_of_a_spammer_go_and_others_are_trusted_as_their_raters_are() -> None:
    spam = [
        Response(text=f"{n}", judgements=(Judgement(rater="bot", rating=1.0, comment="Buy at our shop today!"),))
        for n in range(6)
    ]
    told = [Preferred(chosen=0, rejected=1, rater="bot"), Preferred(chosen=1, rejected=0, rater="ann")]
    (found,), counts, report = cleaned([question(0, *spam, preferences=told)])
    assert [each.rater for each in found.preferences] == ["ann"]
    assert counts == {"repeated": 7}
    assert [(each.id, each.excluded, each.weight) for each in report.raters] == [
        ("bot", "repeated", 0.0),
        ("ann", "", 1),
    ]


def test_habits_are_known_by_both_parts_but_train_s_only_by_its_own() -> None:
    def spam(number: int) -> Question:
        judged = Judgement(rater="bot", rating=1.0, comment="Buy at our shop today!")
        return question(number, Response(text="a", judgements=(judged,)))

    found = quality.clean([spam(n) for n in range(3)], [spam(n) for n in range(3, 6)], CONFIG, 1)
    assert [len(each.responses[0].judgements) for each in (*found.train, *found.validation)] == [1, 1, 1, 0, 0, 0]
    assert [(each.reason, each.count) for each in found.exclusions] == [("repeated", 3)]


names = st.sampled_from(["ann", "bob", "eve", "reviewer", "file"])
shares = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
said = st.builds(
    Judgement,
    rater=names,
    rating=st.none() | shares,
    aspects=st.dictionaries(st.sampled_from(["accuracy", "safety"]), shares),
    comment=st.sampled_from(["", "Cảm ơn rất nhiều vì câu trả lời"]),
    reported=st.booleans(),
    time=st.none() | st.integers(0, 3).map(lambda second: NOON + timedelta(seconds=second)),
)
given_responses = st.lists(
    st.builds(
        Response,
        text=st.sampled_from(["a", "b", ""]),
        judgements=st.lists(said, max_size=8).map(tuple),
        logged_score=st.none() | shares,
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=25)
@given(st.lists(given_responses, max_size=3))
def test_whatever_comes_every_judgement_stays_or_is_counted_and_nothing_else_changes(
    made: list[list[Response]],
) -> None:
    questions = [question(number, *responses) for number, responses in enumerate(made)]
    found, counts, report = cleaned(questions, DataConfig())
    before, after = (
        [j for one in them for each in one.responses for j in each.judgements] for them in (questions, found)
    )
    assert len(before) == len(after) + sum(counts.values())
    assert [[each.text for each in one.responses] for one in found] == [[each.text for each in one] for one in made]
    for each in after:
        assert 0 <= each.weight <= 1
        assert each.rating is None or 0 <= each.rating <= 1
    assert {each.rater for each in before} == {each.id for each in report.raters}
