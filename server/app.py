"""One server process: what is made in which order, and ended in which.

Start: connections, models, gRPC (NOT_SERVING), one sample query through the whole path, SERVING.
Stop: NOT_SERVING, calls under way get `drain` seconds, the log is flushed, connections close.
Never imports torch, the trainer or the exporters.
"""

import asyncio
import contextlib
import importlib.metadata
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import grpc
import uuid_utils
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ratchet.v1 import inference_pb2, inference_pb2_grpc
from server import models
from server.backends.fake import FakeTriton
from server.backends.triton import TritonClient
from server.embedded import Endpoints
from server.errors import ConfigurationError
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
HOUR = 3600.0
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
    async with await database.connect(endpoints.database_url, size=2) as pool:
        applied = await database.migrate(pool)
        await partitions.ensure(pool, datetime.now(UTC))
    log.info("migrations applied: %s", ", ".join(applied) or "none")
    repository = settings.model_repository or endpoints.model_repository
    if repository is None:
        raise ConfigurationError(
            "With TRITON_URL set, RATCHET_MODEL_REPOSITORY must name that Triton's model repository."
        )
    policy = models.Source("policy", Path(settings.policy), Options(layout=settings.policy_layout))
    reward = models.Source("reward", Path(settings.reward), Options(layout=settings.reward_layout))
    return Deployment(await models.deploy(policy, repository), await models.deploy(reward, repository))


class App:
    """Serves one deployment from this process."""

    def __init__(self, settings: Settings, endpoints: Endpoints, deployment: Deployment, *, shared_port: bool) -> None:
        self._settings, self._endpoints, self._deployment = settings, endpoints, deployment
        self._shared_port = shared_port
        self._admission = Admission(settings.max_in_flight)
        self._health = health.aio.HealthServicer()
        self._backend = FakeTriton() if settings.backend == "fake" else TritonClient(endpoints.triton_url)
        self._resources = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: grpc.aio.Server | None = None
        self._pipeline: Pipeline | None = None
        self.port = 0

    async def start(self) -> Reply:
        """Serves, and gives the reply to the sample query. Raises ConfigurationError; call `stop` in any case."""
        await self.load_models()
        services = await self._connect()
        self._pipeline = Pipeline(services)
        self._server = self._listen(services)
        await self._server.start()
        await self._set_health(_NOT_SERVING)
        reply = await self._pipeline.answer(_sample(self._settings))
        await self._set_health(_SERVING)
        self._tasks = [asyncio.create_task(self._watch_models()), asyncio.create_task(self._make_partitions())]
        return reply

    async def stop(self) -> None:
        """Ends everything that `start` made, in the order the module's docstring gives. Harmless when called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._set_health(_NOT_SERVING)
        if self._server is not None:
            await self._server.stop(self._settings.drain)
            self._admission.draining = True
        # server.stop does not wait for handlers that are aborting (grpc #37239).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain):
                await self._admission.idle()
        await self._resources.aclose()

    async def load_models(self) -> None:
        """Has Triton load the releases in service: at the start, and when a restarted Triton has forgotten them."""
        await models.load(self._deployment.ids, self._backend)

    async def _connect(self) -> Services:
        settings, stack = self._settings, self._resources
        threads = ThreadPoolExecutor(settings.tokenizer_threads, thread_name_prefix="tokenize")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        if isinstance(self._backend, TritonClient):
            stack.push_async_callback(self._backend.close)
        redis = memories.connect(self._endpoints.redis_url)
        stack.push_async_callback(redis.aclose)
        self._pool = await stack.enter_async_context(await database.connect(self._endpoints.database_url, size=8))
        writers = await stack.enter_async_context(await database.connect(self._endpoints.database_url, size=2))
        journal = Journal(writers, lookups=self._pool)
        await journal.start()
        stack.push_async_callback(journal.stop)
        policy = await asyncio.to_thread(models.served_policy, self._deployment.policy, self._backend)
        reward = await asyncio.to_thread(models.served_reward, self._deployment.reward, self._backend, threads)
        memory = memories.RedisMemory(redis, turns=settings.memory_turns)
        return Services(policy, reward, journal, memory, threads)

    def _listen(self, services: Services) -> grpc.aio.Server:
        settings = self._settings
        options = [
            ("grpc.so_reuseport", int(self._shared_port)),
            ("grpc.max_receive_message_length", 64 << 20),
            ("grpc.max_send_message_length", 64 << 20),
        ]
        server = grpc.aio.server(interceptors=[Guard(self._admission)], options=options)
        defaults = Defaults(settings.candidates, settings.max_output_tokens, settings.deadline)
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

    async def _watch_models(self) -> None:
        """Turns the health with the policy: without it there are no answers, without the reward there still are."""
        policy, _ = self._deployment.ids
        while True:
            await asyncio.sleep(PROBE_EVERY)
            await self._set_health(_SERVING if await self._backend.ready(policy) else _NOT_SERVING)

    async def _make_partitions(self) -> None:
        while True:
            await asyncio.sleep(HOUR)
            try:
                await partitions.ensure(self._pool, datetime.now(UTC))
            except (*database.GONE, *database.WAIT_AND_RETRY) as error:
                log.warning("the log's next partitions could not be made, rows go to the default one: %s", error)


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
