"""One server process: what is made in which order, and ended in which.

Start: connections, models, gRPC (NOT_SERVING), one sample query through the whole path, SERVING.
Stop: NOT_SERVING and no new calls, `lame_duck` seconds for balancers to see that, the port closes, calls under way get
`drain` seconds, the log is flushed, connections close.
Never imports torch, the trainer or the exporters.
"""

import asyncio
import contextlib
import importlib.metadata
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import grpc
import uuid_utils
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from redis.asyncio import Redis
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ratchet.v1 import inference_pb2, inference_pb2_grpc
from server import models
from server.backends.fake import FakeTriton
from server.backends.triton import TritonClient
from server.embedded import Endpoints
from server.errors import ConfigurationError, RatchetError
from server.notice import before
from server.pipeline import Pipeline, Services
from server.rpc.inference import InferenceService
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.rpc.open_inference import OpenInferenceService
from server.settings import Settings
from server.storage import database, partitions
from server.storage import memory as memories
from server.storage.journal import Journal
from server.types import Reply, SelectionMethod, Turn
from triton_models.config import Options

log = logging.getLogger(__name__)

SERVICE = str(inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name)
OPEN_INFERENCE = str(service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name)
VERSION = importlib.metadata.version("ratchet")
SAMPLE_TENANT = "ratchet"
"""The tenant of our own sample queries: no caller's log or memory has them."""
SAMPLE_SECONDS = 60.0
PROBE_EVERY = 1.0
SURELY_MISSING = 3
"""Probes in a row that must miss a model before it is loaded again."""
HOUR = 3600.0
FLUSH_SECONDS = 5.0
"""What replies get to leave, the log to be written, and connections to close, each, at the end."""
STOP_SECONDS = 6 * FLUSH_SECONDS
"""What `App.stop` may take beyond `lame_duck` and `drain`."""
FLUSH_GRACE = 0.5
"""What the last replies get to leave the socket."""
LONGEST_RETRY = 60.0
_MESSAGE_BYTES = 8 << 20
"""A request may hold 16 texts of 64 KiB and a context of 1 MiB; a batch of token ids stays below it too."""
_CALLS_OVER_LIMIT = 4
"""Up to so many times `max_in_flight` calls are answered, by a refusal if need be; beyond it grpc refuses by itself."""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Deployment:
    """Directories of the releases in service, inside Triton's repository."""

    policy: Path
    reward: Path

    @property
    def ids(self) -> tuple[str, str]:
        """Their names as Triton models."""
        return self.policy.name, self.reward.name


async def deploy(settings: Settings, endpoints: Endpoints) -> Deployment:
    """Migrates the database and installs the releases: once, however many processes serve."""
    async with await database.connect(endpoints.database_url, size=1, patience=None) as pool:
        applied = await database.migrate(pool)
        await _first_partitions(pool)
    log.info("migrations applied: %s", ", ".join(applied) or "none")
    repository = settings.model_repository or endpoints.model_repository
    if repository is None:
        raise ConfigurationError(
            "With TRITON_URL set, RATCHET_MODEL_REPOSITORY must name that Triton's model repository."
        )
    policy = models.Source("policy", Path(settings.policy), Options(layout=settings.policy_layout))
    reward = models.Source("reward", Path(settings.reward), Options(layout=settings.reward_layout))
    return Deployment(await models.deploy(policy, repository), await models.deploy(reward, repository))


async def _first_partitions(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(SAMPLE_SECONDS):
            await partitions.ensure(pool, datetime.now(UTC))
    except asyncpg.InsufficientPrivilegeError as error:
        raise database.may_not(error) from error
    except (*database.GONE, asyncpg.PostgresError) as error:
        log.warning("the log's partitions can't be made yet, rows go to the default one: %s", error or "out of time")


class App:
    """Serves one deployment from this process. The one that `leads` looks after what all share: models, partitions."""

    def __init__(
        self, settings: Settings, endpoints: Endpoints, deployment: Deployment, *, shared_port: bool, leads: bool = True
    ) -> None:
        self._settings, self._endpoints, self._deployment = settings, endpoints, deployment
        self._shared_port, self._leads = shared_port, leads
        self._admission = Admission(settings.max_in_flight)
        self._health = health.aio.HealthServicer()
        self._backend = FakeTriton() if settings.backend == "fake" else TritonClient(endpoints.triton_url)
        self._loading = asyncio.Lock()
        self._missed = 0
        self._resources = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: grpc.aio.Server | None = None
        self._pipeline: Pipeline | None = None
        self.port = 0

    async def start(self) -> Reply:
        """Serves, and gives the reply to the sample query. Raises ConfigurationError; call `stop` in any case."""
        if self._leads or isinstance(self._backend, FakeTriton):  # each process has a fake of its own
            await self.load_models()
        services = await self._connect()
        self._pipeline = Pipeline(services)
        self._server = self._listen(services)
        await self._set_health(_NOT_SERVING)
        await self._server.start()
        reply = await self._pipeline.answer(_sample(self._settings))
        await self._set_health(_SERVING)
        self._tasks = [asyncio.create_task(task) for task in self._background()]
        return reply

    async def stop(self, urgent: asyncio.Event) -> None:
        """Ends everything that `start` made, in the order the module's docstring gives, at once when `urgent` is set.

        Takes `lame_duck` + `drain` + STOP_SECONDS at most. Harmless when called twice.
        """
        try:
            await self._refuse_calls()
            if self._server is not None:
                await self._lame_duck(urgent)
                await self._end_calls(self._server, urgent)
        finally:
            self._server = None
            await self._resources.aclose()

    async def load_models(self) -> None:
        """Has Triton load the releases in service: at the start, and when a restarted Triton has forgotten them."""
        async with self._loading:
            await models.load(self._deployment.ids, self._backend)

    async def _refuse_calls(self) -> None:
        self._admission.draining = True
        await self._health.enter_graceful_shutdown()  # NOT_SERVING from here on, whatever is set
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FLUSH_SECONDS)

    async def _lame_duck(self, urgent: asyncio.Event) -> None:
        if self._tasks:  # else it never was SERVING
            await before(urgent, asyncio.sleep(self._settings.lame_duck))
        self._tasks = []

    async def _end_calls(self, server: grpc.aio.Server, urgent: asyncio.Event) -> None:
        """Closes the port, and ends once no call of ours is under way: streams that watch the health never end."""
        stopping = asyncio.create_task(server.stop(self._settings.drain))
        idle = asyncio.create_task(self._admission.idle())
        await before(urgent, idle, self._settings.drain)
        await server.stop(0 if urgent.is_set() else FLUSH_GRACE)
        await stopping
        # server.stop does not wait for handlers that are aborting (grpc #37239).
        await asyncio.wait([idle], timeout=FLUSH_SECONDS)
        idle.cancel()

    async def _connect(self) -> Services:
        settings, stack = self._settings, self._resources
        threads = ThreadPoolExecutor(settings.tokenizer_threads, thread_name_prefix="tokenize")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        if isinstance(self._backend, TritonClient):
            stack.push_async_callback(self._backend.close)
        redis = _memory_client(self._endpoints.redis_url)
        stack.push_async_callback(redis.aclose)
        self._pool = await database.connect(self._endpoints.database_url, size=8)
        stack.push_async_callback(database.close, self._pool, FLUSH_SECONDS)
        writers = await database.connect(self._endpoints.database_url, size=2)
        stack.push_async_callback(database.close, writers, FLUSH_SECONDS)
        journal = Journal(writers, lookups=self._pool)
        await journal.start()
        stack.push_async_callback(_flush, journal)
        policy = await asyncio.to_thread(models.served_policy, self._deployment.policy, self._backend)
        reward = await asyncio.to_thread(models.served_reward, self._deployment.reward, self._backend, threads)
        memory = memories.RedisMemory(redis, turns=settings.memory_turns)
        return Services(policy, reward, journal, memory, threads)

    def _listen(self, services: Services) -> grpc.aio.Server:
        settings = self._settings
        options = [
            ("grpc.so_reuseport", int(self._shared_port)),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ]
        guard, bound = Guard(self._admission), settings.max_in_flight * _CALLS_OVER_LIMIT
        server = grpc.aio.server(interceptors=[guard], options=options, maximum_concurrent_rpcs=bound)
        defaults = Defaults(settings.candidates, settings.max_output_tokens, settings.deadline, settings.max_deadline)
        assert self._pipeline is not None
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(
            InferenceService(self._pipeline, services.reward, defaults), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME]
        if isinstance(self._backend, TritonClient):
            champion = services.reward.release.id
            open_inference = OpenInferenceService(self._backend, lambda: champion, VERSION)
            service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(open_inference, server)
            names.append(OPEN_INFERENCE)
        reflection.enable_server_reflection(names, server)
        self.port = _bind(server, settings.listen)
        return server

    async def _set_health(self, status: "health_pb2.HealthCheckResponse.ServingStatus") -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)

    def _background(self) -> list[Coroutine[None, None, None]]:
        """What goes on while it serves, each for ever."""
        tasks = [_repeat(self._show_health, PROBE_EVERY, "looking after the health")]
        if self._leads:
            tasks.append(_repeat(self._load_what_is_missing, PROBE_EVERY, "loading models again"))
            tasks.append(_repeat(self._make_partitions, HOUR, "making the log's next partitions"))
        return tasks

    async def _show_health(self) -> None:
        """Turns the health with the policy: without it there are no answers, without the reward there still are."""
        policy, _ = self._deployment.ids
        await self._set_health(_SERVING if await self._backend.ready(policy) else _NOT_SERVING)

    async def _load_what_is_missing(self) -> None:
        """A Triton that restarted has no models, whoever started it. One that is only slow must not load them twice."""
        async with self._loading:
            missing = [model for model in self._deployment.ids if not await self._backend.ready(model)]
            self._missed = self._missed + 1 if missing else 0
            if self._missed >= SURELY_MISSING:
                await models.load(missing, self._backend)
                log.warning("Triton had lost %s and has loaded it again", " and ".join(missing))

    async def _make_partitions(self) -> None:
        await partitions.ensure(self._pool, datetime.now(UTC))


async def _repeat(work: Callable[[], Awaitable[None]], every: float, what: str) -> None:
    """Does `work` every so many seconds. What fails is logged and tried again, each time after twice the wait."""
    failures = 0
    while True:
        try:
            await work()
            failures = 0
        except (RatchetError, asyncpg.PostgresError, *database.GONE) as error:
            failures += 1
            log.warning("%s failed and is tried again: %s", what, error or type(error).__name__)
        except Exception:  # a defect of ours must not end what keeps the service up
            failures += 1
            log.exception("%s failed and is tried again", what)
        await asyncio.sleep(min(2.0**failures, LONGEST_RETRY) if failures else every)


async def _flush(journal: Journal) -> None:
    try:
        async with asyncio.timeout(FLUSH_SECONDS):
            await journal.stop()
    except TimeoutError:
        log.warning("the log's last rows could not be written; the replies they belong to were never sent")


def _memory_client(url: str) -> Redis:
    try:
        return memories.connect(url)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL can't be used: {error}.") from error


def _bind(server: grpc.aio.Server, address: str) -> int:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise _port_taken(address) from error
    if not port:
        raise _port_taken(address)
    return port


def _port_taken(address: str) -> ConfigurationError:
    return ConfigurationError(
        f"{address} can't be listened on: stop the process that uses it, or pass --listen HOST:PORT."
    )


def _sample(settings: Settings) -> Turn:
    return Turn(
        tenant_id=SAMPLE_TENANT,
        request_id="",
        user_id="",
        session_id="",
        query=settings.sample_query,
        context="",
        candidate_count=settings.candidates,
        seed=secrets.randbits(63),
        seed_given=False,
        selection_method=SelectionMethod.BEST,
        max_output_tokens=settings.max_output_tokens,
        response_id=UUID(int=uuid_utils.uuid7().int),
        received_at=datetime.now(UTC),
        deadline=asyncio.get_running_loop().time() + SAMPLE_SECONDS,
        fingerprint=b"",
    )
