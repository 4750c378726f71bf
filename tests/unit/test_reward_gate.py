"""What lets a model become a release, clause by clause."""

from dataclasses import replace

import pytest

from trainer.reward.config import GateConfig
from trainer.reward.findings import (
    LONGEST,
    SERVICE,
    TFIDF,
    Calibration,
    Compared,
    Data,
    Estimate,
    Fit,
    Group,
    Outcome,
    Ranking,
    Reliability,
    Report,
    Verdict,
)
from trainer.reward.gate import gate

CONFIG = GateConfig(not_inferior=0.02)
NONE = Estimate()


def around(value: float, half: float = 0.02, count: int = 500) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, count=count, clusters=100)


AHEAD = around(0.03)


def a_ranking(accuracy: Estimate) -> Ranking:
    return Ranking(accuracy=accuracy, similar=NONE, spearman=NONE, gain=NONE)


def beside(name: str, difference: Estimate, label: str = "") -> Compared:
    accuracy = around(0.72 - (difference.value or 0.0))
    return Compared(name=name, label=label, ranking=a_ranking(accuracy), difference=difference, difference_similar=NONE)


def calibrated(
    ece: float | None = 0.03, on: str = "ratings", temperature: float = 1.5, count: int = 400
) -> Calibration:
    found = Reliability(ece=ece, brier=0.05, floor=0.01)
    return Calibration(temperature=temperature, on=on, count=count, before=found, after=found)


def a_report(
    service: Estimate | None = AHEAD, longest: float = 0.1, tfidf: float | None = 0.08, **changes: object
) -> Report:
    """A report that passes the gate."""
    found = [beside(LONGEST, around(longest), "longer wins")]
    found += [] if tfidf is None else [beside(TFIDF, around(tfidf), "TF-IDF and logistic regression")]
    found += [] if service is None else [beside(SERVICE, service, "reward-000001")]
    report = Report(
        ranking=a_ranking(around(0.72)),
        fit=Fit(mse=NONE, mae=NONE, pearson=NONE, residual=NONE),
        calibration=calibrated(),
        baselines=tuple(found),
        data=Data(clustered_by="user"),
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def failed(verdict: Verdict) -> list[str]:
    return [clause.name for clause in verdict.clauses if clause.passed is False]


def a_group(value: str, difference: Estimate, *, small: bool = False) -> Group:
    return Group(
        attribute="language", value=value, accuracy=around(0.7), residual=NONE, difference=difference, small=small
    )


def test_what_meets_every_demand_is_better_and_says_by_how_much() -> None:
    verdict = gate(a_report(), CONFIG)
    assert verdict.outcome is Outcome.BETTER
    assert verdict.summary == (
        "Better. It puts 72.0 % of the validation pairs in the right order, 3.0 points more than reward-000001 does."
    )
    assert verdict.reasons[1] == "It surely orders pairs better than chance (95 % interval 70.0 % to 74.0 %)."
    assert (
        "not more than 2.0 points of accuracy behind reward-000001 (95 % interval +1.0 to +5.0)" in verdict.reasons[2]
    )
    assert len(verdict.reasons) == len(verdict.clauses) == 8


def test_what_may_be_a_toss_of_a_coin_is_refused_without_a_release_in_service_too() -> None:
    coin = a_report(None, ranking=a_ranking(around(0.515, half=0.02)))
    verdict = gate(coin, CONFIG)
    assert failed(verdict) == ["chance"]
    assert verdict.reasons == (
        "It may order pairs no better than chance: it has 51.5 % of them right (95 % interval 49.5 % to 53.5 %).",
    )
    surer = replace(coin, ranking=a_ranking(around(0.515, half=0.0149)))
    assert gate(surer, CONFIG).outcome is Outcome.BETTER


def test_the_interval_may_reach_down_to_the_bound_and_not_below() -> None:
    at = Estimate(value=0.01, low=-0.02, high=0.04, count=500, clusters=100)
    assert gate(a_report(at), CONFIG).outcome is Outcome.BETTER
    below = gate(a_report(replace(at, low=-0.0201)), CONFIG)
    assert failed(below) == ["not_inferior"]
    assert below.reasons[0] == (
        "It may be more than 2.0 points of accuracy behind reward-000001 (95 % interval −2.0 to +4.0): "
        "more data would tell."
    )


def test_surely_worse_is_said_as_such() -> None:
    verdict = gate(a_report(around(-0.05)), CONFIG)
    assert failed(verdict) == ["not_inferior", "better"]
    assert verdict.reasons[0] == "It is surely behind reward-000001 in accuracy (95 % interval −7.0 to −3.0)."
    assert verdict.reasons[1].startswith("It is no better than reward-000001: it puts 5.0 points fewer")


def test_the_same_model_again_is_not_better() -> None:
    same = Estimate(value=0.0, low=0.0, high=0.0, count=500, clusters=100)
    verdict = gate(a_report(same), CONFIG)
    assert failed(verdict) == ["better"]
    assert verdict.outcome is Outcome.NOT_BETTER
    assert "as many validation pairs" in verdict.reasons[0]


def test_without_a_release_in_service_those_demands_are_not_asked() -> None:
    verdict = gate(a_report(None), CONFIG)
    assert verdict.outcome is Outcome.BETTER
    unasked = {clause.name: clause.sentence for clause in verdict.clauses if clause.passed is None}
    assert unasked.keys() == {"not_inferior", "better", "groups"}
    assert set(unasked.values()) == {"There is no release in service to compare it with."}
    assert len(verdict.reasons) == len(set(verdict.reasons)) == 6


def test_beside_a_release_in_service_better_than_chance_by_the_point_estimate_will_do() -> None:
    verdict = gate(a_report(ranking=a_ranking(around(0.515, half=0.1))), CONFIG)
    assert verdict.outcome is Outcome.BETTER
    assert verdict.reasons[1] == (
        "It has 51.5 % of the pairs right, more than by chance (95 % interval 41.5 % to 61.5 %)."
    )
    assert failed(gate(a_report(ranking=a_ranking(around(0.5, half=0.1))), CONFIG)) == ["chance"]


@pytest.mark.parametrize("name", [LONGEST, TFIDF])
@pytest.mark.parametrize(
    ("difference", "half", "passed"),
    [
        (0.0, 0.02, True),
        (-0.013, 0.02, True),  # it may be chance
        (-0.013, 0.0119, False),  # surely
        (-0.02, 0.1, True),  # the margin
        (-0.0201, 0.1, False),
    ],
)
def test_surely_or_clearly_behind_a_simple_baseline_it_is_not_better(
    name: str, difference: float, half: float, passed: bool
) -> None:
    found = around(difference, half)
    baselines = (beside(name, found), beside(SERVICE, AHEAD))
    verdict = gate(a_report(baselines=baselines), CONFIG)
    assert failed(verdict) == ([] if passed else [name])
    told = next(clause.sentence for clause in verdict.clauses if clause.name == name)
    assert "of the pairs right (95 % interval " in told


def test_a_baseline_that_could_not_be_trained_is_named_and_not_asked() -> None:
    verdict = gate(a_report(tfidf=None), CONFIG)
    assert verdict.outcome is Outcome.BETTER
    assert "It was not compared with “TF-IDF and logistic regression”." in verdict.reasons


def test_a_group_that_lost_more_than_the_bound_stops_it_and_the_interval_is_told() -> None:
    groups = (a_group("en", around(0.05)), a_group("vi", around(-0.16)), a_group("fr", around(-0.11, half=0.3)))
    verdict = gate(a_report(groups=groups), CONFIG)
    assert failed(verdict) == ["groups"]
    assert verdict.reasons == (
        "It is worse for some by more than 10.0 points of accuracy: "
        "language “vi” lost 16.0 points (95 % interval −18.0 to −14.0); "
        "language “fr” lost 11.0 points (95 % interval −41.0 to +19.0).",
    )


def test_a_large_loss_of_one_group_is_not_made_up_for_by_how_many_there_are() -> None:
    lost, fine = a_group("vi", around(-0.2, half=0.15)), [a_group(str(n), around(0.0)) for n in range(11)]
    assert failed(gate(a_report(groups=(lost, *fine)), CONFIG)) == ["groups"]


def test_a_loss_within_the_bound_or_of_few_pairs_does_not_stop_it() -> None:
    groups = (
        a_group("at", around(-0.1)),
        a_group("within", around(-0.09)),
        a_group("few", around(-0.5), small=True),
    )
    verdict = gate(a_report(groups=groups), CONFIG)
    assert failed(verdict) == []
    assert verdict.reasons[6] == "None of 2 groups lost more than 10.0 points of accuracy."


def test_a_group_of_one_user_alone_is_named_and_not_judged() -> None:
    lone = a_group("vi", Estimate(value=-0.4, count=60, clusters=1))
    alone, beside = (gate(a_report(groups=each), CONFIG) for each in ((lone,), (lone, a_group("en", around(0.0)))))
    named = "Of one user alone, and so not judged: language “vi” lost 40.0 points (no interval can be told)."
    assert [clause.passed for clause in alone.clauses if clause.name == "groups"] == [None]
    assert alone.reasons[6] == f"No group has enough pairs to be judged by itself. {named}"
    assert beside.reasons[6] == f"None of 1 group lost more than 10.0 points of accuracy. {named}"


def test_scores_that_do_not_mean_what_they_say_stop_it() -> None:
    verdict = gate(a_report(calibration=calibrated(0.11)), CONFIG)
    assert failed(verdict) == ["calibrated"]
    assert verdict.reasons == (
        "Its scores lie 0.110 from ratings on average (ECE), more than the 0.1 that is allowed.",
    )
    assert "what people preferred" in gate(a_report(calibration=calibrated(on="preferences")), CONFIG).reasons[-1]


def test_what_could_not_be_calibrated_is_named_and_not_asked() -> None:
    verdict = gate(a_report(calibration=calibrated(None, on="nothing", count=29)), CONFIG)
    assert verdict.outcome is Outcome.BETTER
    assert verdict.reasons[-1] == "There are too few ratings to calibrate it."


def test_scores_that_are_all_the_same_stop_it_though_there_were_enough_ratings() -> None:
    verdict = gate(a_report(None, calibration=calibrated(on="nothing", count=30)), CONFIG)
    assert failed(verdict) == ["calibrated"]
    assert verdict.reasons == ("It gives every response the same score, which tells nothing.",)


@pytest.mark.parametrize(("temperature", "said"), [(19.9996, "tell next to nothing"), (0.05000005, "hardly differ")])
def test_a_temperature_at_the_end_of_what_is_looked_at_was_not_found(temperature: float, said: str) -> None:
    verdict = gate(a_report(None, calibration=calibrated(temperature=temperature)), CONFIG)
    assert failed(verdict) == ["calibrated"]
    assert said in verdict.reasons[0]


def test_what_has_every_pair_right_may_want_the_steepest_scores() -> None:
    every, steep = a_ranking(around(1.0, half=0.0)), calibrated(temperature=0.05000005)
    assert gate(a_report(ranking=every, calibration=steep), CONFIG).outcome is Outcome.BETTER


@pytest.mark.parametrize(
    "accuracy",
    [
        replace(around(0.9), count=49),
        replace(around(0.9), clusters=9),
        Estimate(),
        Estimate(count=500, clusters=100),
    ],
)
def test_too_little_data_is_no_verdict_on_the_model(accuracy: Estimate) -> None:
    verdict = gate(a_report(ranking=a_ranking(accuracy)), CONFIG)
    assert verdict.outcome is Outcome.TOO_LITTLE_DATA
    assert len(verdict.reasons) == 1
    assert "it takes 50 pairs of 10 users at least" in verdict.summary


def test_one_pair_of_one_question_is_no_plural() -> None:
    lone = a_report(ranking=a_ranking(Estimate(count=1, clusters=1)), data=Data(clustered_by="question"))
    summary = gate(lone, GateConfig(least_pairs=1)).summary
    assert "1 validation pair of 1 question, where it takes 1 pair of 10 questions at least." in summary


def test_every_reason_to_refuse_is_told() -> None:
    verdict = gate(a_report(around(-0.05), longest=-0.1, tfidf=-0.2, calibration=calibrated(0.5)), CONFIG)
    assert failed(verdict) == ["not_inferior", "better", "longest", "tfidf", "calibrated"]
    assert verdict.reasons == tuple(clause.sentence for clause in verdict.clauses if clause.passed is False)
    assert all(reason.endswith(".") for reason in verdict.reasons)


def test_without_an_interval_nothing_is_promised() -> None:
    lone = Estimate(value=0.05, count=500, clusters=100)
    assert failed(gate(a_report(lone), CONFIG)) == ["not_inferior"]
