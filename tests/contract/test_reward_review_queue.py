"""What people are asked about next: the highest, the lowest and the most disputed scores."""

from dataclasses import replace

from tests.judged import a_dataset, a_model
from trainer.data.records import Judgement, Place
from trainer.reward import review
from trainer.reward.findings import Calibration, Reason, Reliability, Scored

CALIBRATION = Calibration(
    temperature=1.0,
    on="nothing",
    count=0,
    before=Reliability(ece=None, brier=None, floor=None),
    after=Reliability(ece=None, brier=None, floor=None),
)


def test_the_queue_holds_the_highest_the_lowest_and_the_most_disputed() -> None:
    data, quality = a_dataset(questions=50)
    model = a_model(quality, 0.5, seed=3)
    found = review.queue(data, model, CALIBRATION, most=5)
    by_reason = {reason: [each for each in found if each.reason is reason] for reason in Reason}
    assert [len(each) for each in by_reason.values()] == [5, 5, 5]
    assert by_reason[Reason.HIGHEST][0].score > 0.9
    assert by_reason[Reason.LOWEST][0].score < 0.1
    gaps = [abs(each.score - (each.rating or 0.0)) for each in by_reason[Reason.DISPUTED]]
    assert gaps == sorted(gaps, reverse=True)
    assert all(len({each.question for each in items}) == 5 for items in by_reason.values())
    assert len({(each.question, each.place) for each in found}) == 15
    assert all(each.users == data.questions[each.question].askers for each in found)


def test_of_few_no_high_score_is_asked_about_as_low_and_none_in_the_middle_as_either() -> None:
    data, quality = a_dataset(questions=9, responses=1)
    logits = dict(zip(quality, range(-4, 5), strict=True))
    model = {place: Scored(logit=float(logit)) for place, logit in logits.items()}
    found = review.queue(replace(data, labels=()), model, CALIBRATION)
    asked = {(each.reason, logits[each.question, each.place]) for each in found}
    assert asked == {(Reason.HIGHEST if logit > 0 else Reason.LOWEST, logit) for logit in range(-4, 5) if logit}


def test_equal_texts_and_what_a_reviewer_judged_are_not_asked_again() -> None:
    data, quality = a_dataset(questions=6, responses=2)
    first = next(iter(data.questions))
    question = data.questions[first]
    judged = replace(question.responses[0], judgements=(Judgement(rater="reviewer", rating=1.0),))
    again = replace(
        question,
        id="again",
        responses=(judged, replace(question.responses[1], text=question.responses[1].text.upper())),
    )
    model: dict[Place, Scored] = {place: Scored(logit=0.0) for place in quality} | {
        ("again", 0): Scored(logit=9.0),
        ("again", 1): Scored(logit=8.0),
    }
    found = review.queue(replace(data, questions={**data.questions, "again": again}), model, CALIBRATION)
    assert ("again", 0) not in {(each.question, each.place) for each in found}
    texts = [" ".join(each.response.split()).casefold() for each in found if each.query == question.query]
    assert len(texts) == len(set(texts))


def test_what_an_ensemble_disputes_is_asked_though_nobody_rated_it() -> None:
    data, quality = a_dataset(questions=10)
    unrated = replace(data, labels=())
    disputed = ("q00003", 1)
    model = {place: Scored(logit=0.0, members=(0.0, 0.0)) for place in quality} | {
        disputed: Scored(logit=3.0, members=(3.0, -3.0))
    }
    found = [each for each in review.queue(unrated, model, CALIBRATION) if each.reason is Reason.DISPUTED]
    assert [(each.question, each.place) for each in found] == [disputed]
    assert found[0].rating is None
    assert found[0].spread > 0.4
