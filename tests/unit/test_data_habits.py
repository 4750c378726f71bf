"""Whose habits say that nobody read, and that those of good raters do not. Numbers are worked out by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.opinions import question
from trainer.data import habits, quality
from trainer.data.habits import Conduct
from trainer.data.records import Judgement, Response

NOON = datetime(2026, 9, 15, 12, tzinfo=UTC)


def every(seconds: float, count: int) -> tuple[datetime, ...]:
    return tuple(NOON + timedelta(seconds=seconds * number) for number in range(count))


def test_speed_counts_only_where_others_are_slower() -> None:
    slow, fast = Conduct(times=every(40, 12)), Conduct(times=every(1, 12))
    assert habits.suspects({"a": slow, "b": slow, "bot": fast}) == {"bot": "too_fast"}
    assert habits.suspects({"a": fast, "b": fast}) == {}, "as in a simulation, or a replay"
    assert habits.suspects({"a": slow, "b": slow, "few": Conduct(times=every(1, 9))}) == {}
    pauses = Conduct(times=(*every(60, 11), NOON + timedelta(seconds=1)))
    assert habits.suspects({"a": slow, "b": slow, "once": pauses}) == {}, "the median, not the fastest"


def test_a_reply_that_is_rated_and_reported_at_once_was_read_once() -> None:
    judged = [
        Response(
            text="a",
            response_id=str(number),
            judgements=tuple(
                Judgement(rater="ann", rating=number % 5 / 4, time=moment, reported=reported)
                for reported in (False, True)
            ),
        )
        for number, moment in enumerate(every(30, 12))
    ]
    conduct = quality.conducts(quality._entries([question(0, *judged)]))["ann"]
    assert habits.typical_gap(conduct.times) == 30


def test_the_same_sentence_under_everything_is_no_reading() -> None:
    spam = Conduct(comments=("Best  answer EVER, thanks",) * 8, judgements=10)
    assert habits.repeated(spam)
    assert not habits.repeated(replace(spam, judgements=11)), "8 of 11 is less than four fifths"
    assert not habits.repeated(Conduct(comments=("Tốt lắm",) * 50, judgements=50)), "short praise is what people say"
    assert not habits.repeated(Conduct(comments=("Best answer ever, thanks",) * 4, judgements=4))


def test_the_same_rating_is_suspect_when_chance_does_not_explain_it() -> None:
    # Of 200 other ratings 100 are 1.0: the chance of n in a row is about 0.5 ** n; 0.5 ** 20 = 9.5e-7 < 1e-6.
    def suspect(times: int, others: int) -> bool:
        return habits.constant((1.0,) * times, {1.0: others + times, 0.5: 200 - others})

    assert suspect(20, 100)
    assert not suspect(19, 20), "too few to be a habit"
    assert not suspect(60, 180), "0.9 ** 60 = 1.8e-3: where nearly all is good, so is this"
    assert not habits.constant((*(1.0,) * 50, 0.5), {1.0: 60, 0.5: 100})
