"""Live figures through a whole server, whose Valkey is killed: what was asked and rated is shown, once."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from ratchet.v1 import analytics_pb2, analytics_pb2_grpc, feedback_pb2, feedback_pb2_grpc, inference_pb2
from ratchet.v1 import inference_pb2_grpc as inference
from tests.conftest import new_home
from tests.e2e.processes import first_named
from tests.e2e.serving import Serving, serving

SECONDS = 60


@pytest.fixture(scope="module")
def ratchet() -> Iterator[Serving]:
    with serving(new_home(), "--processes=2", RATCHET_BACKEND="fake") as found:
        assert found.started
        yield found


@pytest.fixture(scope="module")
def channel(ratchet: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(str(ratchet.events[-1]["serving"])) as opened:
        yield opened


def until(true: Callable[[Any], bool], look: Callable[[], Any]) -> Any:
    """What `look` gives once it is so; errors count as not yet."""
    ends = time.monotonic() + SECONDS
    while True:
        try:
            found = look()
        except grpc.RpcError:
            found = None
        if (found is not None and true(found)) or time.monotonic() > ends:
            return found
        time.sleep(0.1)


def test_what_was_asked_and_rated_is_shown_and_outlives_a_killed_valkey(
    ratchet: Serving, channel: grpc.Channel
) -> None:
    generate, metrics = inference.InferenceServiceStub(channel), analytics_pb2_grpc.AnalyticsServiceStub(channel)
    feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)
    given = [generate.Generate(inference_pb2.GenerateRequest(query=f"q{n}", user_id="ann")) for n in range(5)]
    for stars in (1, 5, 5):
        request = feedback_pb2.SubmitFeedbackRequest(
            response_id=given[0].response_id, user_id="ann", rating_overall=stars, text_feedback="Tốt"
        )
        feedback.SubmitFeedback(request)

    def look() -> Any:
        return metrics.GetMetrics(analytics_pb2.GetMetricsRequest())

    found = until(lambda each: each.total.calls >= 5 and each.total.rating.sum == 5, look)
    assert (found.total.replies, found.total.calls, found.total.errors) == (5, 5, 0)
    assert (found.total.rating.sum, found.total.rating.count, found.total.comments) == (5, 1, 1)
    first_named(ratchet.process.pid, "valkey-server").kill()
    again = until(lambda each: each.total.replies == 5 and not each.total.calls, look)  # calls are not in the log
    assert (again.total.replies, again.total.rating.sum, again.total.stages) == (5, 5, found.total.stages)
    done = metrics.RebuildMetrics(analytics_pb2.RebuildMetricsRequest())
    samples = done.replies - 5  # another tenant's: each of the two processes asks one, the second whenever it is up
    assert (samples in {1, 2}, done.revisions) == (True, 2)


def test_figures_are_readable_on_a_terminal_and_whole_as_json(ratchet: Serving, channel: grpc.Channel) -> None:
    address = str(ratchet.events[-1]["serving"])

    def show(*flags: str) -> str:
        line = [sys.executable, "-m", "cli.main", "analytics", "show", "--address", address, *flags]
        return subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=True).stdout

    total = json.loads(show("--json"))["total"]
    assert int(total["replies"]) == 5
    shown = show()
    assert "5 ★" in shown
    assert "policy-" in shown
    assert "Mean seconds by stage" in shown
    assert "0 rated" in show("--window", "2d", "--release", "policy-999999")


def test_a_watcher_is_told_when_the_server_stops(ratchet: Serving, channel: grpc.Channel) -> None:
    stub = analytics_pb2_grpc.AnalyticsServiceStub(channel)
    stream = stub.WatchMetrics(analytics_pb2.WatchMetricsRequest())
    assert next(iter(stream)).metrics.total.replies == 5
    assert ratchet.stop() == 0
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
