"""AnalyticsService over a loopback server, with counters in this process behind it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cli.figures import quantile, sparkline
from console.pages.live import WINDOWS
from ratchet.v1 import analytics_pb2 as pb
from ratchet.v1 import analytics_pb2_grpc, inference_pb2, inference_pb2_grpc
from server.analytics.calls import Calls
from server.analytics.contributions import Increments, LoggedReply, Revision, Said
from server.analytics.figures import Figures, Granularity, Reading
from server.analytics.follower import Rebuilt
from server.errors import MetricsUnavailable
from server.rpc.analytics import AnalyticsService
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from tests.unit.test_rpc import refused

NOW = datetime.now(UTC)
EVENTS: list[LoggedReply | Revision] = [
    LoggedReply("default", NOW, "policy-000001", "reward-000001", 0.25, False, False, 0.4, (("scoring", 0.5),)),
    LoggedReply("default", NOW - timedelta(days=3), "policy-000002", "reward-000001", 0.75, True, True, 2.5),
    LoggedReply("other", NOW, "policy-000001", "reward-000001", 0.25, False, False, 0.4),
    Revision("default", NOW, "policy-000001", "reward-000001", None, Said("rating", 4, {"safety": 5}, True)),
]


class Kept:
    """Counters of EVENTS; `reads` counts how often they are asked. `away`: nobody answers."""

    def __init__(self) -> None:
        increments = Increments(0)
        increments.add(EVENTS)
        self._cells = dict(increments.items())
        self.reads, self.away = 0, False

    async def read(self, tenant: str, granularity: Granularity, starts: Sequence[int]) -> Reading:
        self.reads += 1
        if self.away:
            raise MetricsUnavailable("The live counters did not answer: gone.")
        cells = {(b.tenant_id, b.granularity, b.start): fields for b, fields in self._cells.items()}
        found = [cells.get((tenant, granularity, start), {}) for start in starts]
        return Reading(found, [(0, 0)] * (len(starts) - 1) + [(7, 1)], 1.5)


class Rebuilding:
    async def rebuild(self) -> Rebuilt:
        return Rebuilt(12, 34, 1.25)


class Edge:
    def __init__(self, counters: Kept, admission: Admission, stub: analytics_pb2_grpc.AnalyticsServiceStub) -> None:
        self.counters, self.admission, self.stub = counters, admission, stub


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    counters, admission, threads = Kept(), Admission(limit=64), ThreadPoolExecutor(1)
    server = grpc.aio.server(interceptors=[Guard(admission)])
    service = AnalyticsService(
        Figures(counters, threads),
        Rebuilding(),  # type: ignore[arg-type]
        Defaults(),
        lambda: admission.draining,
    )
    analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Edge(counters, admission, analytics_pb2_grpc.AnalyticsServiceStub(channel))
    await server.stop(0)
    threads.shutdown()


def reason(error: grpc.aio.AioRpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    return next((info.reason for detail in status.details if detail.Unpack(info)), "") if status else ""


async def test_a_window_holds_total_points_and_releases_of_the_callers_tenant(edge: Edge) -> None:
    found = await edge.stub.GetMetrics(pb.GetMetricsRequest(window=Duration(seconds=5 * 86_400)))
    assert found.granularity == pb.GRANULARITY_HOUR
    assert len(found.points) == 120
    total = found.total
    assert (total.replies, total.refused, total.degraded, total.calls, total.errors) == (2, 1, 1, 7, 1)
    assert (total.rating.sum, total.rating.count, total.rating.mean) == (4, 1, 4)
    assert list(total.stars) == [0, 0, 0, 1, 0]
    assert total.dimensions["safety"].mean == 5
    assert (total.comments, total.rated_replies) == (1, 1)
    assert (total.reward.sum, total.reward.mean) == (1.0, 0.5)
    assert sum(total.reward_distribution.counts) == sum(total.latency_distribution.counts) == 2
    assert len(total.latency_distribution.counts) == len(total.latency_distribution.bounds) + 1
    assert total.stages["scoring"].mean == 0.5
    assert {each.release: each.total.replies for each in found.releases} == {
        "policy-000001": 1,
        "policy-000002": 1,
        "reward-000001": 2,
    }
    assert found.lag.ToTimedelta() == timedelta(seconds=1.5)
    assert found.end_time.ToDatetime() - found.start_time.ToDatetime() == timedelta(hours=120)


async def test_a_single_release_has_only_what_is_its_own(edge: Edge) -> None:
    found = await edge.stub.GetMetrics(pb.GetMetricsRequest(release="policy-000001"))
    assert (found.total.replies, found.total.calls) == (1, 0)
    assert found.granularity == pb.GRANULARITY_MINUTE
    assert len(found.points) == 60


@pytest.mark.parametrize(
    ("seconds", "granularity"),
    [(60, "MINUTE"), (6 * 3600, "MINUTE"), (6 * 3600 + 1, "HOUR"), (14 * 86_400, "HOUR"), (63_072_000, "DAY")],
)
async def test_points_are_as_long_as_the_window_asks_for(edge: Edge, seconds: int, granularity: str) -> None:
    found = await edge.stub.GetMetrics(pb.GetMetricsRequest(window=Duration(seconds=seconds)))
    assert found.granularity == pb.Granularity.Value(f"GRANULARITY_{granularity}")
    assert len(found.points) <= 730


async def test_another_time_is_another_window(edge: Edge) -> None:
    until = Timestamp()
    until.FromDatetime(NOW - timedelta(days=3) + timedelta(seconds=30))
    found = await edge.stub.GetMetrics(pb.GetMetricsRequest(until_time=until))
    assert (found.total.replies, found.total.refused) == (1, 1)


@pytest.mark.parametrize(
    "request_",
    [
        pb.GetMetricsRequest(window=Duration(seconds=59)),
        pb.GetMetricsRequest(window=Duration(seconds=63_072_001)),
        pb.GetMetricsRequest(window=Duration(seconds=3 * 86_400), granularity=pb.GRANULARITY_MINUTE),
        pb.GetMetricsRequest(until_time=Timestamp(seconds=-62_135_596_800)),
        pb.GetMetricsRequest(until_time=Timestamp(seconds=2**62)),
        pb.GetMetricsRequest(release="a\nb"),
        pb.GetMetricsRequest(granularity=9),  # type: ignore[arg-type]
    ],
)
async def test_what_can_not_be_shown_is_refused(edge: Edge, request_: pb.GetMetricsRequest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.stub.GetMetrics(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert edge.counters.reads == 0


@pytest.mark.parametrize("watch", [False, True])
async def test_more_points_than_an_answer_holds_are_refused_with_the_granularity_that_fits(
    edge: Edge, watch: bool
) -> None:
    fits, longer = Duration(seconds=25 * 3600), Duration(seconds=25 * 3600 + 1)

    async def points(window: Duration) -> int:
        if not watch:
            request = pb.GetMetricsRequest(window=window, granularity=pb.GRANULARITY_MINUTE)
            return len((await edge.stub.GetMetrics(request)).points)
        stream = edge.stub.WatchMetrics(
            pb.WatchMetricsRequest(window=window, granularity=pb.GRANULARITY_MINUTE), timeout=20
        )
        found = await stream.read()
        stream.cancel()
        return len(found.metrics.points)

    assert await points(fits) == 1500
    refusal = await refused(points(longer))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["granularity"])
    assert "1,501 points" in refusal.text
    assert "ask for the hour" in refusal.text


@pytest.mark.parametrize(("granularity", "days"), [("HOUR", 60), ("DAY", 730)])
async def test_hours_and_days_are_shown_for_as_long_as_they_are_kept(edge: Edge, granularity: str, days: int) -> None:
    number = pb.Granularity.Value(f"GRANULARITY_{granularity}")
    found = await edge.stub.GetMetrics(pb.GetMetricsRequest(window=Duration(seconds=days * 86_400), granularity=number))
    assert found.granularity == number


async def test_every_window_of_the_live_page_is_shown(edge: Edge) -> None:
    for seconds, granularity in WINDOWS.values():
        request = pb.GetMetricsRequest(window=Duration(seconds=seconds), granularity=granularity)
        assert (await edge.stub.GetMetrics(request)).points


async def test_figures_are_added_up_in_their_own_thread_and_not_in_those_of_answers(edge: Edge) -> None:
    loop, asked = asyncio.get_running_loop(), threading.Event()
    taken = [loop.run_in_executor(None, asked.wait, 20) for _ in range(64)]  # more than asyncio's own threads
    try:
        assert (await edge.stub.GetMetrics(pb.GetMetricsRequest(), timeout=10)).points
    finally:
        asked.set()
        await asyncio.gather(*taken)


async def test_figures_that_nobody_waits_for_are_not_read_on(edge: Edge) -> None:
    figures, going = Figures(edge.counters), asyncio.Event()

    async def hang(*_: object) -> Reading:
        going.set()
        try:
            await asyncio.Event().wait()
        finally:
            going.clear()
        raise AssertionError

    edge.counters.read = hang  # type: ignore[method-assign]
    waiting = [asyncio.create_task(figures.newest("default", 3600)) for _ in range(2)]
    await going.wait()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await asyncio.sleep(0)
    assert not going.is_set()
    edge.counters.read = Kept().read  # type: ignore[method-assign]
    assert (await figures.newest("default", 3600)).total.replies == 1


async def test_counters_that_do_not_answer_are_told_as_unavailable(edge: Edge) -> None:
    edge.counters.away = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.stub.GetMetrics(pb.GetMetricsRequest())
    assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "METRICS_UNAVAILABLE")


async def test_many_watchers_of_one_window_share_its_reads(edge: Edge) -> None:
    request = pb.WatchMetricsRequest(interval=Duration(nanos=200_000_000))

    async def two() -> None:
        stream = edge.stub.WatchMetrics(request)
        found = [await stream.read() for _ in range(2)]
        assert all(each.metrics.total.replies == 1 for each in found)
        stream.cancel()

    await asyncio.gather(*(two() for _ in range(20)))
    assert edge.counters.reads < 20


async def test_a_stream_ends_when_the_server_stops(edge: Edge) -> None:
    stream = edge.stub.WatchMetrics(pb.WatchMetricsRequest(interval=Duration(seconds=60)))
    await stream.read()
    edge.admission.draining = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert reason(caught.value) == "DRAINING"
    await edge.admission.idle()


async def test_a_watcher_who_leaves_leaves_nothing_behind(edge: Edge) -> None:
    stream = edge.stub.WatchMetrics(pb.WatchMetricsRequest(interval=Duration(seconds=60)))
    await stream.read()
    stream.cancel()
    await edge.admission.idle()
    assert edge.admission.watches == 0


async def test_a_rebuild_says_what_it_counted(edge: Edge) -> None:
    done = await edge.stub.RebuildMetrics(pb.RebuildMetricsRequest())
    assert (done.replies, done.revisions, done.duration.ToTimedelta()) == (12, 34, timedelta(seconds=1.25))


async def test_calls_that_generate_are_counted_with_our_errors_among_them() -> None:
    class Failing(inference_pb2_grpc.InferenceServiceServicer):
        async def Generate(self, request: inference_pb2.GenerateRequest, context: object) -> object:
            if request.query == "ours":
                raise RuntimeError
            return inference_pb2.GenerateResponse()

        async def StreamGenerate(self, request: inference_pb2.StreamGenerateRequest, context: object) -> object:
            yield inference_pb2.StreamGenerateResponse()

    counted: dict[str, list[str]] = {}

    class Noting(Calls):
        def ended(self, tenant: str, code: str) -> None:
            counted.setdefault(tenant, []).append(code)

    server = grpc.aio.server(interceptors=[Guard(Admission(8), calls=Noting(None))])  # type: ignore[arg-type]
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(Failing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        await stub.Generate(inference_pb2.GenerateRequest(query="fine"))
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Generate(inference_pb2.GenerateRequest(query="ours"))
        assert [each async for each in stub.StreamGenerate(inference_pb2.StreamGenerateRequest())]
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Score(inference_pb2.ScoreRequest())
    await server.stop(0)
    assert counted == {"default": ["OK", "INTERNAL", "OK"]}


def test_small_bars_show_the_highest_full_and_anything_at_all() -> None:
    assert sparkline([0, 1, 100, 50]) == " ▁█▄"
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "  "
    assert len(sparkline([1.0] * 730)) <= 60


def test_a_quantile_names_the_bound_that_holds_it() -> None:
    distribution = pb.Distribution(bounds=[1, 2, 5], counts=[50, 40, 9, 1])
    assert [quantile(distribution, share) for share in (0.5, 0.9, 0.95, 1.0)] == ["≤ 1", "≤ 2", "≤ 5", "> 5"]
    assert quantile(pb.Distribution(), 0.5) == "–"
