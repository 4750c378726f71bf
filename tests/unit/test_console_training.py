"""What the training page makes of points, reports and runs: pure, and nothing of a stranger's report breaks it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.training import curves, findings, telling
from console.training.curves import MOST, Points
from console.training.findings import Clause, Excluded, Findings
from console.words import training
from ratchet.v1 import training_pb2 as pb


def point(step: int, **values: float) -> pb.TrainingPoint:
    return pb.TrainingPoint(step=step, values=values)


@given(st.sets(st.integers(0, 5000), min_size=1))
def test_a_curve_is_thinned_evenly_and_keeps_its_newest_point(steps: set[int]) -> None:
    points = Points()
    points.take([point(step, loss=1.0) for step in steps], restarted=False)
    shown = [step for step, _ in points.steps()]
    assert len(shown) <= MOST
    assert shown == sorted(shown)
    assert set(shown) <= steps
    assert shown[-1] == max(steps)
    if len(steps) <= MOST:
        assert set(shown) == steps


def test_points_of_another_attempt_take_the_place_of_those_before() -> None:
    points = Points()
    points.take([point(step, loss=9.0) for step in range(10)], restarted=True)
    points.take([point(3, loss=2.0)], restarted=False)
    assert points.steps()[3] == (3, {"loss": 2.0})
    points.take([point(0, loss=1.0)], restarted=True)
    assert points.steps() == [(0, {"loss": 1.0})]


def test_charts_show_what_there_is_and_validation_by_epoch() -> None:
    points = Points()
    end = {"validation_loss": 0.5, "validation_mse": 0.1, "validation_ranking": 0.4, "validation_accuracy": 0.625}
    points.take(
        [point(0, loss=1.0, learning_rate=2e-5), point(1, loss=0.5), point(2, loss=0.25, **end)], restarted=True
    )
    assert curves.loss(points).labels == ("1", "2", "3")
    assert curves.loss(points).series[0].values == (1.0, 0.5, 0.25)
    assert curves.rate(points).series[0].values == (20.0, None, None)
    assert curves.accuracy(points).labels == ("3",)
    assert curves.accuracy(points).series[0].values == (62.5,)
    assert [series.values for series in curves.validation(points).series] == [(0.5,), (0.1,), (0.4,)]
    assert curves.gradient(points).empty
    assert curves.parts(Points()).empty


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "verdict": JSON | st.fixed_dictionaries({}, optional={"summary": JSON, "clauses": st.lists(JSON, max_size=2)}),
        "data": JSON | st.fixed_dictionaries({}, optional={"exclusions": JSON | st.lists(JSON, max_size=2)}),
    },
)


@given(JSON | PARTS)
def test_any_report_at_all_can_be_read(report: Any) -> None:
    found = findings.read(json.dumps(report))
    assert all(isinstance(clause.sentence, str) for clause in found.clauses)
    assert all(isinstance(each.count, int) for each in found.excluded)


def test_a_reports_clauses_and_exclusions_are_read_and_what_is_no_json_is_nothing() -> None:
    verdict = {"summary": "S", "clauses": [{"passed": None, "sentence": "a"}, {"passed": False, "sentence": "b"}, 7]}
    data = {"exclusions": [{"reason": "bot", "count": 3, "detail": "d"}, {"reason": "x", "count": "3"}]}
    found = findings.read(json.dumps({"verdict": verdict, "data": data}))
    assert found == Findings("S", (Clause(None, "a"), Clause(False, "b")), (Excluded("bot", 3, "d"),))
    assert findings.read("<html>") == Findings()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (9000, "2 h 30 min")]
)
def test_how_long_a_run_took(seconds: int, words: str) -> None:
    run = pb.Training()
    assert telling.took(run) == ""
    run.start_time.seconds, run.end_time.seconds = 1000, 1000 + seconds
    assert telling.took(run) == words


def test_a_run_is_told_by_its_verdict_or_else_its_state_whatever_a_newer_server_says() -> None:
    assert (
        telling.state(pb.Training(state=pb.TRAINING_STATE_SUCCEEDED, verdict=pb.TRAINING_VERDICT_BETTER))[0] == "Better"
    )
    assert telling.state(pb.Training(state=pb.TRAINING_STATE_RUNNING, cancelling=True))[0] == "Stopping"
    newer = pb.Training.FromString(bytes([0x18, 77]))
    assert telling.state(newer)[0] == "Unknown"
    assert telling.stage(pb.Training(stage="augmentation")) == "augmentation"
    assert telling.who(pb.Training(requested_by="count")) == "by new ratings"
    assert telling.against(pb.Training(metrics={"pairwise_accuracy": 0.5})) == "50.0 % of the pairs right"


def test_every_state_verdict_stage_and_chart_has_words() -> None:
    states = [pb.Training(state=value) for value in pb.TrainingState.values()[1:]]
    verdicts = [pb.Training(verdict=value) for value in pb.TrainingVerdict.values()[1:]]
    assert "Unknown" not in {telling.state(run)[0] for run in (*states, *verdicts)}
    stages = ("snapshot", "quality", "pairs", "training", "evaluation", "export")
    assert all(f"stage_{stage}" in training.WORDS for stage in stages)
    assert all(name in training.WORDS for name, _ in curves.CHARTS)
