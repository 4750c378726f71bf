"""The benchmark's sums: what of a call's time is whose."""

import pytest
from google.protobuf.duration_pb2 import Duration

from benchmarks import stages
from ratchet.v1 import inference_pb2 as pb


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))


def _reply(latencies: dict[str, float], total: float, *candidates: pb.Candidate) -> pb.GenerateResponse:
    found = [pb.StageLatency(stage=name, duration=_duration(value)) for name, value in latencies.items()]
    return pb.GenerateResponse(latencies=found, total_latency=_duration(total), candidates=candidates)


def _candidate(seconds: float, wave: int = 0, error: str = "") -> pb.Candidate:
    return pb.Candidate(latency=_duration(seconds), wave=wave, error=error)


def test_every_second_of_a_call_is_counted_once() -> None:
    """Models have the slowest candidate and scoring; the rest is ours, and its parts add up to it."""
    reply = _reply(
        {"context": 0.001, "candidates": 1.03, "scoring": 0.02, "log": 0.002}, 1.06, _candidate(0.4), _candidate(1.0)
    )
    parts = stages.parts(reply, 1.062)
    assert parts[stages.ADDED] == pytest.approx(1.062 - 1.0 - 0.02)
    assert parts[stages.OVERHEADS["candidates"]] == pytest.approx(0.03)
    assert parts[stages.TRANSPORT] == pytest.approx(0.002)
    assert parts[stages.BETWEEN] == pytest.approx(0.007)
    ours = {name: value for name, value in parts.items() if name not in {stages.ADDED, stages.WHOLE}}
    assert sum(ours.values()) - parts[stages.OVERHEADS["scoring"]] == pytest.approx(parts[stages.ADDED])


def test_waves_come_one_after_the_other_and_given_up_candidates_do_not_count() -> None:
    reply = _reply({"candidates": 3.1}, 3.1, _candidate(1.0), _candidate(9.0, error="late"), _candidate(2.0, wave=1))
    assert stages.parts(reply, 3.1)[stages.OVERHEADS["candidates"]] == pytest.approx(0.1)


def test_a_stage_that_some_calls_do_not_have_counts_as_nothing_there() -> None:
    calls = [stages.parts(_reply({"tools": 0.004} if i else {}, 0.01), 0.011) for i in range(3)]
    figures = stages.summary(calls)
    assert figures["tools"] == {"p50": pytest.approx(4), "p99": pytest.approx(4)}
    assert figures[stages.ADDED]["p50"] == pytest.approx(11)


def test_the_table_has_a_row_a_part_and_two_columns_a_variant() -> None:
    figures = stages.summary([stages.parts(_reply({"log": 0.001}, 0.01), 0.011)])
    table = stages.markdown({"no tools": figures, "tools": figures}).splitlines()
    assert {line.count("|") for line in table} == {6}
    assert "| log | 1.00 | 1.00 | 1.00 | 1.00 |" in table
    assert "| aim | 3 | 10 | 3 | 10 |" in table
