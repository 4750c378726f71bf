"""Who may call what: every method of every service, with each role, over a loopback server that has nothing behind."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from server.errors import PermissionDenied
from server.identity import ANYONE, Caller, Role, caller
from server.keyring import KeyRing, issue
from server.listening import OPEN_INFERENCE, SERVICES
from server.rpc import interceptors
from server.rpc.access import ACCESS, OPEN
from server.rpc.interceptors import Admission, Guard
from tests.unit.test_keyring import Store

PROTOS = Path(__file__).resolve().parents[2] / "protos" / "ratchet" / "v1"
FILES = [import_module(f"ratchet.v1.{path.stem}_pb2").DESCRIPTOR for path in sorted(PROTOS.glob("*.proto"))]
NAMES = {str(service.full_name) for file in FILES for service in file.services_by_name.values()} | {OPEN_INFERENCE}
METHODS = {
    f"/{name}/{method.name}": method
    for name in sorted(NAMES)
    for method in descriptor_pool.Default().FindServiceByName(name).methods
}
"""Everything that the API has, whether it is served yet or not."""

MAY = {
    Role.CALLER: {
        *(f"InferenceService/{name}" for name in ("Generate", "StreamGenerate", "Score")),
        *(f"FeedbackService/{name}" for name in ("SubmitFeedback", "SubmitPreference", "WithdrawFeedback")),
        *("FeedbackService/ListFeedback", "UserService/GetProfile", "UserService/UpdateProfile"),
        *("DocumentService/GetDocument", "DocumentService/ListDocuments"),
        *(f"GRPCInferenceService/Server{name}" for name in ("Live", "Ready", "Metadata")),
        *(f"GRPCInferenceService/Model{name}" for name in ("Ready", "Metadata", "Config", "Statistics")),
        *("GRPCInferenceService/ModelInfer", "GRPCInferenceService/ModelStreamInfer"),
    },
    Role.RATER: {
        *(f"FeedbackService/{name}" for name in ("SubmitFeedback", "SubmitPreference", "WithdrawFeedback")),
        *("FeedbackService/ListFeedback", "ConversationService/GetConversation"),
        "ConversationService/ListConversations",
        *("TrainingService/ListReviewItems", "TrainingService/LabelReviewItem"),
    },
    Role.TRAINER: {
        *("ConversationService/GetConversation", "ConversationService/ListConversations"),
        *("FeedbackService/ListFeedback", "AnalyticsService/GetMetrics", "AnalyticsService/WatchMetrics"),
        *("InferenceService/Generate", "InferenceService/Score"),
        *(f"TrainingService/{name}Training" for name in ("Start", "Get", "Watch", "Cancel")),
        *("TrainingService/ListTrainings", "TrainingService/GetTrainingReport"),
        *("TrainingService/ListReviewItems", "TrainingService/LabelReviewItem"),
        *(f"ReleaseService/{name}" for name in ("ListReleases", "GetRelease", "PublishRelease")),
        "ReleaseService/ListRefusedReleases",
        *(f"RolloutService/{name}" for name in ("GetRollout", "ListRollouts", "WatchRollout", "ListRolloutEvents")),
        *("ExperimentService/GetExperiment", "ExperimentService/ListExperiments"),
    },
}
"""What each role may, by service and method; the operator everything."""


def allowed(method: str, role: Role) -> bool:
    return role is Role.OPERATOR or method.rpartition(".")[2] in MAY[role]


def test_every_method_that_is_served_is_in_the_table_and_nothing_else_is() -> None:
    assert {*SERVICES, OPEN_INFERENCE} <= NAMES
    assert set(ACCESS) == set(METHODS)
    assert all(Role.OPERATOR in roles for roles in ACCESS.values())


def test_only_health_and_reflection_are_open() -> None:
    assert set(OPEN) == {f"/{health.SERVICE_NAME}/", f"/{reflection.SERVICE_NAME}/"}


class Edge:
    """A server that answers every method with who called, a stream three times. `entered` counts the calls that came
    through; `read` the messages that were read."""

    def __init__(self, keys: KeyRing | None, limit: int) -> None:
        self.keys, self.admission = keys, Admission(limit=limit)
        self.guard = Guard(self.admission, keys)
        self.server = grpc.aio.server(interceptors=[self.guard])
        self.entered = 0
        self.read = 0
        self.going: asyncio.Event | None = None
        self.says: Iterable[bytes] = ()
        methods = chain(METHODS.items(), [("/ratchet.v1.NewService/Forgotten", next(iter(METHODS.values())))])
        for path, method in methods:
            _, service, name = path.split("/")
            self.server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(service, {name: self._of(method)})]
            )
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    def _of(self, method: Any) -> Any:
        reading = {"request_deserializer": self._count}
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream, **reading)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream, **reading)
        return grpc.unary_unary_rpc_method_handler(self._unary, **reading)

    def _count(self, data: bytes) -> bytes:
        self.read += 1
        return data

    async def _unary(self, request: bytes, context: Any) -> bytes:
        self.entered += 1
        await asyncio.sleep(0.001)
        return await asyncio.create_task(_who())

    async def _stream(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        self.entered += 1
        for each in self.says:
            yield each
        for _ in range(3):
            await asyncio.sleep(0.001)
            yield await asyncio.create_task(_who())
            if self.going is not None:
                await self.going.wait()

    async def call(self, path: str, key: str | None = None, data: bytes = b"") -> list[str]:
        """Who called, each time that the server says so."""
        method = METHODS.get(path)
        metadata = [("authorization", f"Bearer {key}")] if key is not None else []
        if method is not None and method.client_streaming:
            stream = self.channel.stream_stream(path)(iter([data]), metadata=metadata, timeout=20)
        elif method is not None and method.server_streaming:
            stream = self.channel.unary_stream(path)(data, metadata=metadata, timeout=20)
        else:
            return [(await self.channel.unary_unary(path)(data, metadata=metadata, timeout=20)).decode()]
        return [reply.decode() async for reply in stream]


async def _who() -> bytes:
    return caller().name.encode()


@pytest.fixture
def store() -> Store:
    return Store()


@asynccontextmanager
async def serving(store: Store | None, limit: int = 200, every: float = 3600.0) -> AsyncIterator[Edge]:
    """Without a store nobody is asked for a key."""
    ring = KeyRing(store, grace=60, every=every, at_most_every=0.002) if store is not None else None
    if ring is not None:
        await ring.start()
    found = Edge(ring, limit)
    await found.server.start()
    try:
        yield found
    finally:
        await found.channel.close()
        await found.server.stop(0)
        if ring is not None:
            await ring.stop()


@pytest.fixture
async def edge(store: Store) -> AsyncIterator[Edge]:
    async with serving(store, every=0.01) as found:
        yield found


async def told(call: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Code, reason and metadata of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    assert status is not None, caught.value
    assert status.details[0].Unpack(info)
    assert info.domain == "ratchet.v1"
    return caught.value.code(), info.reason, dict(info.metadata)


@pytest.mark.parametrize("role", Role)
async def test_each_role_may_what_it_should_and_is_told_which_role_may_else(
    edge: Edge, store: Store, role: Role
) -> None:
    key, entered = store.add(role), 0
    for path in METHODS:
        if allowed(path, role):
            assert set(await edge.call(path, key)) == {"key of default"}
            entered += 1
            continue
        code, reason, metadata = await told(edge.call(path, key))
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        assert allowed(path, Role(metadata["role"]))
    assert edge.entered == entered


async def test_nobody_gets_in_without_a_key_that_works(edge: Edge, store: Store) -> None:
    revoked = store.add(Role.OPERATOR)
    await edge.call("/ratchet.v1.InferenceService/Generate", revoked)
    store.revoke(revoked)
    await asyncio.sleep(0.05)
    edge.entered = edge.read = 0
    unknown = issue("default", "nobody", [Role.OPERATOR])[1]
    for path in METHODS:
        for key in (None, "", "nonsense", revoked, unknown):
            code, reason, _ = await told(edge.call(path, key))
            assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert (edge.entered, edge.read) == (0, 0)


async def test_a_method_that_is_in_no_table_is_open_to_nobody(edge: Edge, store: Store) -> None:
    call = edge.call("/ratchet.v1.NewService/Forgotten", store.add(*Role))
    assert await told(call) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", {})


async def test_health_is_open(edge: Edge) -> None:
    answer = await health_pb2_grpc.HealthStub(edge.channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_who_only_watches_the_health_takes_no_place_of_those_with_a_key(
    edge: Edge, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptors, "MOST_STRANGERS", 3)
    stub = health_pb2_grpc.HealthStub(edge.channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
    for watch in watches:
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    code, reason, _ = await told(stub.Check(health_pb2.HealthCheckRequest()))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert await edge.call("/ratchet.v1.InferenceService/Generate", store.add())
    for watch in watches:
        watch.cancel()
    while edge.guard._strangers:  # the test's own time limit ends it
        await asyncio.sleep(0.01)
    assert await stub.Check(health_pb2.HealthCheckRequest())


async def test_a_stream_ends_once_its_key_is_revoked(edge: Edge, store: Store) -> None:
    key, edge.going = store.add(Role.TRAINER), asyncio.Event()
    metadata = [("authorization", f"Bearer {key}")]
    watch = edge.channel.unary_stream("/ratchet.v1.AnalyticsService/WatchMetrics")(b"", metadata=metadata, timeout=20)
    assert await watch.read() == b"key of default"
    store.revoke(key)
    await asyncio.sleep(0.05)
    edge.going.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await edge.admission.idle()


async def watching(edge: Edge, store: Store) -> tuple[Any, Any]:
    """Two streams, of which the first has lost its key and its place."""
    edge.going = asyncio.Event()
    keys = [store.add(Role.TRAINER) for _ in range(2)]
    method = edge.channel.unary_stream("/ratchet.v1.AnalyticsService/WatchMetrics")
    streams = [method(b"", metadata=[("authorization", f"Bearer {key}")], timeout=20) for key in keys]
    while edge.admission.watches < 2:  # the test's own time limit ends it
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    assert edge.admission.watches == 2
    store.revoke(keys[0])
    while edge.admission.watches > 1:
        await asyncio.sleep(0.001)
    return streams[0], streams[1]


async def test_a_stream_that_says_nothing_ends_once_its_key_is_revoked_and_others_go_on(
    edge: Edge, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptors, "RECHECK_SECONDS", 0.01)
    revoked, kept = await watching(edge, store)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [each async for each in revoked]
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await asyncio.sleep(0.05)
    assert not kept.done()
    kept.cancel()
    await edge.admission.idle()


async def test_a_revoked_key_keeps_no_place_by_not_reading(
    edge: Edge, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no status: gRPC sends none behind a message that does not leave."""
    monkeypatch.setattr(interceptors, "RECHECK_SECONDS", 0.01)
    edge.says = [bytes(1 << 20)] * 50
    for stream in await watching(edge, store):
        stream.cancel()
    await edge.admission.idle()


async def test_calls_at_once_are_each_of_their_own_caller(edge: Edge, store: Store) -> None:
    keys = {f"key of tenant-{number}": store.add(tenant=f"tenant-{number}") for number in range(20)}
    paths = ("/ratchet.v1.InferenceService/Generate", "/ratchet.v1.InferenceService/StreamGenerate")
    calls = [(name, edge.call(path, key)) for name, key in keys.items() for path in paths]
    unknown = [edge.call(paths[0], None) for _ in range(20)]
    answers = asyncio.gather(*(call for _, call in calls))
    refusals = await asyncio.gather(*unknown, return_exceptions=True)
    assert [set(answer) for answer in await answers] == [{name} for name, _ in calls]
    assert all(isinstance(refusal, grpc.aio.AioRpcError) for refusal in refusals)
    assert caller() is ANYONE, "nobody has entered where the server was started"


async def test_a_call_without_a_key_is_refused_before_its_message_is_read_and_takes_no_place(store: Store) -> None:
    async with serving(store, limit=0) as edge:
        code, _, _ = await told(edge.call("/ratchet.v1.InferenceService/Generate", None, b"x" * 3_000_000))
        assert (code, edge.read) == (grpc.StatusCode.UNAUTHENTICATED, 0)
        code, _, _ = await told(edge.call("/ratchet.v1.InferenceService/Generate", store.add()))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, "who is known is told how busy it is"


async def test_without_keys_everybody_is_anyone_whatever_they_send() -> None:
    async with serving(None) as edge:
        for path in METHODS:
            assert set(await edge.call(path, "nonsense")) == {ANYONE.name}


async def test_what_waits_for_a_key_to_be_looked_up_ends_with_its_caller(store: Store) -> None:
    async with serving(store) as edge:
        store.delay = 0.3
        unknown = issue("default", "nobody", [Role.CALLER])[1]
        call = edge.channel.unary_unary("/ratchet.v1.InferenceService/Generate")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", metadata=[("authorization", f"Bearer {unknown}")], timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert edge.keys is not None
        while edge.keys._waiting:
            await asyncio.sleep(0.01)
        assert edge.entered == 0


@pytest.mark.parametrize(("user", "refused"), [("ann", False), ("bob", True), ("", True)])
def test_a_key_of_one_user_acts_for_nobody_else(user: str, refused: bool) -> None:
    of_ann = Caller("default", frozenset({Role.CALLER}), user_id="ann")

    def act() -> None:
        of_ann.require_user(user)

    if not refused:
        act()
        return
    with pytest.raises(PermissionDenied) as caught:
        act()
    assert caught.value.role == "", "no role would help"
