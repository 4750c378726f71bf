"""Nothing that is trained on is judged by: neither queries nor the users who are held out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.pairs import build
from trainer.data.records import Dataset, Exclusion, Judgement, Preferred, Question, Response
from trainer.data.splits import split
from trainer.errors import TooLittleData
from trainer.reward.config import DataConfig

CONFIG = DataConfig()
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def question(
    number: int,
    *raters: str,
    topic: str = "",
    ratings: Sequence[float] = (0.0, 1.0),
    day: float | None = None,
    askers: Sequence[str] = (),
) -> Question:
    """One that every rater judged all responses of."""
    responses = (
        Response(
            text=f"{number}-{place}",
            judgements=tuple(Judgement(rater=each, rating=rating) for each in raters),
            asker=next(iter(askers), ""),
        )
        for place, rating in enumerate(ratings)
    )
    return Question(
        id=f"q{number}",
        topic=topic or f"t{number}",
        query=f"Query {number}",
        responses=tuple(responses),
        askers=tuple(askers),
        time=None if day is None else BEGIN + timedelta(days=day),
    )


@dataclass(frozen=True)
class Parts:
    """A split with what is built of it."""

    train: Dataset
    validation: Dataset
    exclusions: tuple[Exclusion, ...]
    held_out: frozenset[str]


def parted(questions: Sequence[Question], config: DataConfig = CONFIG, seed: int = 1) -> Parts:
    found = split(questions, config, seed)
    train, validation = build(found.train, config)[0], build(found.validation, config)[0]
    return Parts(train, validation, found.exclusions, found.held_out)


def topics(part: Dataset) -> set[str]:
    return {each.topic for each in part.questions.values()}


def users(part: Dataset) -> set[str]:
    """Whoever a part speaks of, wherever it does."""
    found = {user for each in part.questions.values() for user in each.askers}
    found |= {one.rater for each in part.questions.values() for answer in each.responses for one in answer.judgements}
    found |= {one.rater for each in part.questions.values() for one in each.preferences}
    found |= {answer.asker for each in part.questions.values() for answer in each.responses}
    return found | {user for each in (*part.labels, *part.pairs) for user in each.raters}


def test_a_fifth_of_the_topics_is_for_validation_with_the_same_ratings() -> None:
    found = parted([question(n, "file", ratings=(n % 5 / 4,)) for n in range(500)])
    assert len(found.validation.labels) == 100
    assert Counter(each.rating for each in found.validation.labels) == dict.fromkeys((0, 0.25, 0.5, 0.75, 1.0), 20)


def test_the_share_is_of_judged_responses_whatever_the_topics_sizes() -> None:
    sized = [question(n, "file", ratings=(0.0, 1.0) * (1 + n % 7)) for n in range(210)]
    found = parted(sized)
    total = len(found.train.labels) + len(found.validation.labels)
    assert 0.19 < len(found.validation.labels) / total <= 0.2


def test_the_newest_topics_are_for_validation() -> None:
    found = parted([question(n, "file", day=n * 7 % 50) for n in range(50)])
    newest = max(each.time for each in found.train.questions.values() if each.time)
    assert len(found.validation.questions) == 10
    assert all(each.time and each.time > newest for each in found.validation.questions.values())


def test_times_may_be_left_aside() -> None:
    dated = [question(n, "file", day=n) for n in range(50)]
    found = parted(dated, DataConfig(temporal=False))
    assert topics(found.validation) != {f"t{n}" for n in range(40, 50)}
    assert len(found.validation.questions) == 10


def test_questions_without_a_time_are_parted_among_themselves() -> None:
    found = parted([question(n, "file", day=n if n % 2 else None) for n in range(100)])
    assert Counter(each.time is None for each in found.validation.questions.values()) == {True: 10, False: 10}


def test_users_of_few_topics_are_held_out_with_all_of_them_and_nothing_is_lost() -> None:
    found = parted([question(n, f"u{n // 4}") for n in range(400)])
    assert found.held_out
    assert found.exclusions == ()
    assert not found.held_out & users(found.train)
    assert found.held_out <= users(found.validation)
    assert len(found.train.labels) + len(found.validation.labels) == 800
    # A quarter of a fifth of all judgements.
    assert len(found.held_out) == 5


def test_where_everybody_judged_everything_a_few_are_held_out_and_what_that_costs_is_counted() -> None:
    everybody = [f"u{n}" for n in range(40)]
    found = parted([question(n, *everybody) for n in range(20)])
    assert len(found.held_out) == 2
    assert not found.held_out & users(found.train)
    assert found.held_out <= users(found.validation)
    (lost,) = found.exclusions
    assert (lost.reason, lost.count) == ("held_out", 2 * 2 * len(found.train.questions))


@pytest.mark.parametrize("rater", ["file", "reviewer", "u1"])
def test_one_rater_who_judged_everything_is_on_both_sides(rater: str) -> None:
    found = parted([question(n, rater) for n in range(100)])
    assert (found.held_out, found.exclusions) == (frozenset(), ())
    assert len(found.validation.questions) == 20


def test_a_question_that_only_a_held_out_user_asked_is_not_trained_on() -> None:
    hello = [question(100 + n, "other", topic="hello") for n in range(30)]
    theirs = question(200, "other", "few", topic="hello", askers=["few"])
    found = parted([*(question(n, "other") for n in range(40)), *hello, theirs])
    assert found.held_out == {"few"}
    assert "hello" in topics(found.train)
    assert "q200" not in found.train.questions
    assert [each.count for each in found.exclusions] == [4]


def test_who_asked_everything_is_not_held_out_however_little_they_judged() -> None:
    found = parted([question(n, "other", *(["few"] * (not n)), askers=["few"]) for n in range(30)])
    assert found.held_out == frozenset()
    assert len(found.train.questions) == 24


@pytest.mark.parametrize("day", [None, 1.0])
def test_a_topic_too_large_for_validation_is_trained_on_and_the_share_is_of_the_rest(day: float | None) -> None:
    hello = [question(1000 + n, "file", topic="hello", day=day and 99.0) for n in range(100)]
    found = parted([*hello, *(question(n, "file", day=day and float(n)) for n in range(80))])
    assert "hello" in topics(found.train)
    assert len(found.validation.questions) == 16


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_fewest_queries_leave_one_to_judge_by(count: int) -> None:
    found = parted([question(n, "file", ratings=(0.0, 0.5, 1.0)) for n in range(count)])
    assert (len(found.train.questions), len(found.validation.questions)) == (count - 1, 1)


def test_where_holding_a_user_out_would_leave_nothing_to_train_on_nobody_is() -> None:
    much = question(0, *["other"] * 50, ratings=(1.0,))
    for seed in range(4):  # either topic may be drawn for validation
        found = parted([much, question(1, "few", "file", ratings=(0.0,), askers=["few"])], seed=seed)
        assert found.train.labels


@pytest.mark.parametrize(
    "asked", [[], [question(1, "file")], [question(1, "file", topic="t"), question(2, "file", topic="t")]]
)
def test_one_query_alone_cant_be_parted(asked: list[Question]) -> None:
    with pytest.raises(TooLittleData, match="it takes 2 or more"):
        parted(asked)


def test_what_nobody_judged_is_in_neither_part() -> None:
    found = parted([*(question(n, "file") for n in range(10)), question(10)])
    assert "t10" not in topics(found.train) | topics(found.validation)


def test_the_seed_decides_and_the_order_of_the_questions_does_not() -> None:
    asked = [question(n, f"u{n % 30}") for n in range(100)]
    one, again, other = parted(asked, seed=1), parted(asked[::-1], seed=1), parted(asked, seed=2)
    assert topics(one.validation) == topics(again.validation)
    assert one.held_out == again.held_out
    assert topics(one.validation) != topics(other.validation)
    assert one.held_out != other.held_out


names = st.sampled_from(["file", "reviewer", *(f"u{n}" for n in range(12))])
drafts = st.tuples(
    st.integers(0, 15),  # topic
    st.lists(names, max_size=3),  # raters
    st.lists(names, max_size=2),  # askers
    st.none() | names,  # who prefers the first response
    st.none() | st.integers(0, 3),  # day
)


def asked_so(drawn: list[Any]) -> list[Question]:
    found = []
    for number, (topic, raters, askers, prefers, day) in enumerate(drawn):
        made = question(number, *raters, topic=f"t{topic}", askers=askers, day=day)
        said = (Preferred(chosen=0, rejected=1, rater=prefers),) if prefers else ()
        found.append(replace(made, preferences=said))
    return found


@given(st.lists(drafts, max_size=30), st.integers(0, 3), st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.9]))
def test_no_query_and_no_held_out_user_is_ever_in_both_parts(
    drawn: list[Any], seed: int, temporal: bool, share: float
) -> None:
    config = DataConfig(temporal=temporal, validation_share=share)
    asked = asked_so(drawn)
    dataset, _ = build(asked, config)
    try:
        found = parted(asked, config, seed)
    except TooLittleData:
        judged = {dataset.questions[each.question].topic for each in dataset.labels}
        judged |= {dataset.questions[each.chosen[0]].topic for each in dataset.pairs}
        assert len(judged) < 2
        return
    assert not topics(found.train) & topics(found.validation)
    assert not found.held_out & users(found.train)
    assert not found.held_out & {"file", "reviewer"}
    for name in found.train.questions:
        askers = set(dataset.questions[name].askers)
        assert not askers or askers - found.held_out
    assert found.validation.labels or found.validation.pairs
    assert found.train.labels or found.train.pairs
    for part in (found.train, found.validation):
        spoken = {each.question for each in part.labels} | {
            place[0] for pair in part.pairs for place in (pair.chosen, pair.rejected)
        }
        assert spoken <= set(part.questions)
        for name, each in part.questions.items():
            assert [one.text for one in each.responses] == [one.text for one in dataset.questions[name].responses]
