"""What calls are counted as that nobody answered, and which places they take: handlers that hang, on a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from server.analytics.calls import Calls
from server.errors import DeadlineExceeded
from server.rpc.interceptors import Admission, Guard
from tests.unit.test_rpc import refused

SERVICE = "ratchet.v1.InferenceService"
METHODS = ("Generate", "StreamGenerate")
WATCHES = ("/ratchet.v1.AlertService/WatchAlerts", "/ratchet.v1.AnalyticsService/WatchMetrics")


class Noting(Calls):
    def __init__(self) -> None:
        self.codes: asyncio.Queue[str] = asyncio.Queue()

    def ended(self, tenant: str, code: str) -> None:
        self.codes.put_nowait(code)


class Edge:
    """Handlers that hang: Generate at once, streams after what `says` holds. `failure` is raised instead."""

    def __init__(self) -> None:
        self.calls, self.admission = Noting(), Admission(limit=2, watch_limit=3)
        self.server = grpc.aio.server(interceptors=[Guard(self.admission, calls=self.calls)])
        self.says: Iterable[bytes] = (b"first",)
        self.failure: Exception | None = None
        self._add(SERVICE, "Generate", grpc.unary_unary_rpc_method_handler(self._unary))
        for path in (f"/{SERVICE}/StreamGenerate", *WATCHES):
            _, service, method = path.split("/")
            self._add(service, method, grpc.unary_stream_rpc_method_handler(self._stream))
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}")

    def call(self, method: str, seconds: float | None) -> Any:
        """A call that gets so much time."""
        if method == "Generate":
            return self.channel.unary_unary(f"/{SERVICE}/Generate")(b"", timeout=seconds)
        return self.channel.unary_stream(f"/{SERVICE}/{method}")(b"", timeout=seconds)

    def watch(self, path: str) -> Any:
        return self.channel.unary_stream(path)(b"", timeout=20)

    def _add(self, service: str, method: str, handler: Any) -> None:
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])

    async def _unary(self, request: bytes, context: Any) -> bytes:
        await self._hang()
        return b""

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for each in self.says:
            yield each
        await self._hang()

    async def _hang(self) -> None:
        if self.failure is not None:
            raise self.failure
        await asyncio.Event().wait()


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    found = Edge()
    await found.server.start()
    yield found
    await found.channel.close()
    await found.server.stop(0)
    await found.admission.idle()


def handled(method: str, code: str) -> float:
    kind = "unary" if method == "Generate" else "server_stream"
    labels = {"grpc_type": kind, "grpc_service": SERVICE, "grpc_method": method, "grpc_code": code}
    return REGISTRY.get_sample_value("grpc_server_handled_total", labels) or 0


@pytest.mark.parametrize("method", METHODS)
async def test_a_deadline_that_passes_counts_as_a_deadline_and_not_as_a_caller_who_left(
    edge: Edge, method: str
) -> None:
    before = handled(method, "DEADLINE_EXCEEDED")
    assert await edge.call(method, 0.2).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await edge.calls.codes.get() == "DEADLINE_EXCEEDED"
    assert handled(method, "DEADLINE_EXCEEDED") == before + 1


async def test_a_deadline_that_passes_while_the_caller_does_not_read_counts_as_well(edge: Edge) -> None:
    edge.says = [bytes(1 << 20)] * 32
    assert await edge.call("StreamGenerate", 0.3).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await edge.calls.codes.get() == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seconds", [None, 20.0])
async def test_a_caller_who_leaves_counts_as_one_who_left(edge: Edge, method: str, seconds: float | None) -> None:
    call = edge.call(method, seconds)
    while not edge.admission.in_flight:  # the test's own time limit ends it
        await asyncio.sleep(0.001)
    call.cancel()
    assert await edge.calls.codes.get() == "CANCELLED"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("failure", [None, DeadlineExceeded("Late.")])
async def test_who_grants_hardly_any_time_counts_as_one_who_left(
    edge: Edge, method: str, failure: Exception | None
) -> None:
    edge.failure = failure
    assert await edge.call(method, 0.05).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await edge.calls.codes.get() == "CANCELLED"


@pytest.mark.parametrize("path", WATCHES)
async def test_streams_that_watch_take_no_places_of_answers_and_only_so_many_of_their_own(
    edge: Edge, path: str
) -> None:
    watches = [edge.watch(path) for _ in range(3)]
    for watch in watches:
        assert await watch.read() == b"first"
    refusal = await refused(edge.watch(path).read())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert refusal.retry_after > 0
    assert (edge.admission.in_flight, edge.admission.watches) == (0, 3)
    edge.says = ()
    edge.failure = DeadlineExceeded("It was let in.")
    refusal = await refused(edge.call("Generate", 20))
    assert refusal.reason == "DEADLINE_EXCEEDED"
    waiting = asyncio.create_task(edge.admission.idle())
    await asyncio.sleep(0)
    assert not waiting.done()
    for watch in watches:
        watch.cancel()
    await waiting
    assert edge.admission.watches == 0


async def test_answers_take_no_places_of_streams_that_watch(edge: Edge) -> None:
    calls = [edge.call("Generate", 20) for _ in range(2)]
    while edge.admission.in_flight < 2:
        await asyncio.sleep(0.001)
    assert (await refused(edge.call("Generate", 20))).reason == "OVERLOADED"
    assert await edge.watch(WATCHES[0]).read() == b"first"
    for call in calls:
        call.cancel()


async def test_a_server_that_stops_lets_nobody_watch(edge: Edge) -> None:
    edge.admission.draining = True
    assert (await refused(edge.watch(WATCHES[0]).read())).reason == "DRAINING"
