"""Good raters hardly ever suffer: worlds where each has a scale and an error of their own, and some roll a die."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tests.opinions import CONFIG, cleaned, question, rated
from trainer.data import quality, raters
from trainer.data.raters import RaterReport
from trainer.data.records import Judgement, Question, Response


class World:
    """`texts` answers with a quality, and a score that correlates with it; each rater rates some."""

    def __init__(self, seed: int, *, texts: int, random_share: float, people: int = 40, each: int = 25) -> None:
        dice = np.random.default_rng(seed)
        hidden = dice.normal(size=texts)
        score = 0.5 * hidden + math.sqrt(0.75) * dice.normal(size=texts)
        self.truth = np.clip(0.6 + 0.25 * hidden, 0, 1)
        self.random = {f"r{number}" for number in range(round(random_share * people))}
        leaning, judgements = dice.normal(0, 0.1, people), [list[Judgement]() for _ in range(texts)]
        places = dice.permutation(people * each) % texts
        for number, place in enumerate(places):
            rater = number % people
            seen = self.truth[place] + leaning[rater] + dice.normal(0, 0.125)
            value = dice.integers(5) / 4 if f"r{rater}" in self.random else round(min(max(seen, 0), 1) * 4) / 4
            judgements[place].append(Judgement(rater=f"r{rater}", rating=float(value), feedback_id=str(number)))
        responses = [
            Response(text=f"{n}", judgements=tuple(judgements[n]), logged_score=1 / (1 + math.exp(-score[n])))
            for n in range(texts)
        ]
        self.questions = [question(n, *responses[n : n + 4]) for n in range(0, texts, 4)]

    def error(self, questions: Sequence[Question]) -> float:
        """The root mean square of what the raters' weighted means are off the truth."""
        off = [
            np.average([j.rating or 0.0 for j in each.judgements], weights=[j.weight for j in each.judgements])
            - self.truth[int(each.text)]
            for one in questions
            for each in one.responses
            if sum(j.weight for j in each.judgements) > 0
        ]
        return float(np.sqrt(np.mean(np.square(off))))


def weights(report: RaterReport, names: set[str], *, of: bool) -> list[float]:
    return [each.weight for each in report.raters if (each.id in names) is of]


def test_with_three_of_ten_raters_at_random_the_weighted_consensus_is_nearer_to_the_truth() -> None:
    errors, bad, excluded, caught = [], list[float](), 0, 0
    for seed in range(4):
        world = World(seed, texts=200, random_share=0.3)
        found, _, report = cleaned(world.questions)
        bad += weights(report, world.random, of=True)
        errors.append(world.error(found) / world.error(world.questions))
        excluded += sum(1 for each in report.raters if each.excluded and each.id not in world.random)
        caught += sum(1 for each in report.raters if each.excluded and each.id in world.random)
    assert max(errors) < 0.8, "in every one of the worlds"
    assert np.mean(errors) < 0.7
    assert excluded == 0, "of 112 good raters"
    assert caught > 5, "of 48 that roll a die"
    assert np.mean(bad) < 0.25, "the others keep little weight"


def test_without_anybody_at_random_nobody_is_left_out_and_nothing_is_lost() -> None:
    for seed in range(4):
        world = World(seed, texts=200, random_share=0.0)
        found, counts, report = cleaned(world.questions)
        assert counts.keys() <= {"outlier"}
        assert min(weights(report, set(), of=False)) > 0.5
        assert world.error(found) < world.error(world.questions), "the scales are corrected"


def test_where_nobody_else_rated_a_reply_the_old_score_is_a_witness_that_takes_no_trust_away_for_good() -> None:
    good, bad = [], []
    for seed in range(4):
        world = World(seed, texts=1000, random_share=0.3)
        _, counts, report = cleaned(world.questions)
        assert counts == {}
        good += weights(report, world.random, of=False)
        bad += weights(report, world.random, of=True)
    assert np.mean(good) > np.mean(bad) + 0.25
    assert min(bad) >= raters.LEAST_BY_SCORE
    assert np.quantile(good, 0.1) > 0.6


def test_a_score_that_says_nothing_tells_nobody_apart() -> None:
    world = World(3, texts=1000, random_share=0.3)
    blind = [
        replace(one, responses=tuple(replace(each, logged_score=None) for each in one.responses))
        for one in world.questions
    ]
    _, counts, report = cleaned(blind)
    assert (counts, {each.weight for each in report.raters}) == ({}, {1.0})


def test_a_rater_of_three_replies_is_taken_to_be_like_the_others() -> None:
    world = World(4, texts=200, random_share=0.3)
    small = [rated(("new", value), text=f"new {value}", score=0.5) for value in (0.0, 0.5, 1.0)]
    found, _, report = cleaned([*world.questions, question(99, *small)])
    (rater,) = (each for each in report.raters if each.id == "new")
    assert (rater.excluded, rater.agreement) == ("", None)
    assert rater.weight > 0.6
    assert abs(rater.offset) < 0.1
    assert all(each.judgements for each in found[-1].responses)


def told_otherwise(questions: Sequence[Question], *, score: float | None = None) -> list[Question]:
    """The same with every rating turned round, or with another score of every reply."""

    def other(response: Response) -> Response:
        if score is not None:
            return replace(response, logged_score=score)
        turned = tuple(replace(said, rating=1.0 - (said.rating or 0.0)) for said in response.judgements)
        return replace(response, judgements=turned)

    return [replace(each, responses=tuple(map(other, each.responses))) for each in questions]


def test_what_is_said_in_validation_changes_nothing_in_train_and_no_score_changes_validation() -> None:
    world = World(1, texts=200, random_share=0.3)
    train, validation = world.questions[:40], world.questions[40:]
    found = quality.clean(train, validation, CONFIG, 1)
    again = quality.clean(train, told_otherwise(validation), CONFIG, 1)
    assert (again.train, again.report.raters) == (found.train, found.report.raters)
    assert again.validation != found.validation
    scored = [told_otherwise(part, score=0.5) for part in (train, validation)]
    unscored = quality.clean(*scored, CONFIG, 1)
    assert told_otherwise(unscored.validation, score=0.5) == told_otherwise(found.validation, score=0.5)
    assert unscored.train != tuple(told_otherwise(found.train, score=0.5)), "there a score is a witness"


def test_in_validation_raters_are_trusted_as_people_in_train_bear_them_out() -> None:
    world = World(1, texts=200, random_share=0.3)
    new = question(99, rated(("new", 1.0), ("reviewer", 0.0), text="new"))
    found = quality.clean(world.questions[:40], [*world.questions[40:], new], CONFIG, 1)
    trusted: dict[bool, list[float]] = {False: [], True: []}
    for each in (said for one in found.validation[:-1] for answer in one.responses for said in answer.judgements):
        trusted[each.rater in world.random].append(each.weight)
    assert np.mean(trusted[False]) > 0.9
    assert np.mean(trusted[True]) < 0.5
    by_new, by_reviewer = found.validation[-1].responses[0].judgements
    assert 0.5 < by_new.weight < 0.9, "as likely attentive as anybody"
    assert (by_new.rating, by_reviewer.weight) == (1.0, 1.0)
