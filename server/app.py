"""One server process: what is made in which order, and ended in which.

Start: connections, models, gRPC (NOT_SERVING), one sample query through the whole path, SERVING.
Stop: NOT_SERVING and no new calls, `lame_duck` seconds for balancers to see that, the port closes, calls under way get
`drain` seconds, the log is flushed, connections close.
Never imports torch, the trainer or the exporters.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import grpc
import uuid_utils
from grpc_health.v1 import health, health_pb2

from server import services
from server.analytics import calls, follower
from server.backends.fake import FakeTriton
from server.backends.triton import TritonClient
from server.deployment import Deployment, renewed
from server.documents import sample as pages
from server.documents.library import Library
from server.embedded import Endpoints
from server.errors import ConfigurationError, RatchetError, Unavailable, told
from server.experiments import controller as experimenting
from server.feedback import completion, pruning
from server.listening import SERVICES, add_services, bind, bind_near, grpc_server
from server.notice import before
from server.patience import doubled
from server.pipeline import Pipeline
from server.rollout import arrivals, controller, replicas, retirement
from server.rollout.arrivals import Arrivals
from server.rollout.controller import Controller
from server.rollout.holding import Holder
from server.rollout.leading import Job, Leader
from server.rollout.orders import Orders
from server.rollout.reconciler import Reconciler
from server.rollout.retirement import Remover
from server.rollout.shadow import BUSY_SHARE
from server.rollout.store import Rollouts
from server.rollout.types import Kind
from server.rpc.interceptors import Admission
from server.settings import Settings
from server.storage import database, leases, partitions
from server.trouble import Trouble
from server.types import Reply, SelectionMethod, Turn

log = logging.getLogger(__name__)

SAMPLE_TENANT = "ratchet"
"""The tenant of our own sample queries: no caller's log or memory has them."""
SAMPLE_SECONDS = 60.0
PROBE_EVERY = 1.0
LOOK_EVERY = 1.0
"""Seconds between two looks at which models the Triton replicas have."""
CHALLENGER_SECONDS = 60.0
"""What loading the challengers of rollouts may hold the start up: their users would find them missing."""
HOUR = 3600.0
FLUSH_SECONDS = 5.0
"""What replies get to leave, the log to be written, and connections to close, each, at the end."""
STOP_SECONDS = 6 * FLUSH_SECONDS
"""What `App.stop` may take beyond `lame_duck` and `drain`."""
FLUSH_GRACE = 0.5
"""What the last replies get to leave the socket."""
LONGEST_RETRY = 60.0
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


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
        self._reconciler: Reconciler | None = None
        self._leader: Leader | None = None
        self._resources = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: grpc.aio.Server | None = None
        self._connected: services.Connected | None = None
        self.port = 0
        self.near = ""
        """Where the API speaks without TLS on this machine: for the console beside us."""

    async def start(self) -> Reply:
        """Serves, and gives the reply to the sample query. Raises ConfigurationError; call `stop` in any case."""
        if isinstance(self._backend, TritonClient):
            self._resources.push_async_callback(self._backend.close)
        if not self._leads:
            self._deployment = await renewed(self._deployment, self._endpoints)
        connected = await services.connect(
            self._settings, self._endpoints, self._deployment, self._backend, self._resources, self._is_busy
        )
        self._connected = connected
        if self._leads or self._has_fake:
            await self._load_models(connected)
        if self._leads and self._settings.samples:
            await _load_pages(connected.library)
        pipeline = Pipeline(connected.path, self._settings)
        self._server = grpc_server(self._settings, self._admission, connected, shared_port=self._shared_port)
        add_services(self._server, self._settings, self._admission, connected, pipeline, self._health, self._backend)
        self.port = bind(self._server, self._settings)
        self.near = bind_near(self._server, self._settings, self.port) if self._leads else ""
        await self._set_health(_NOT_SERVING)
        await self._server.start()
        reply = await pipeline.answer(_sample(self._settings))
        if self._leads:
            await connected.analytics.follower.begin()
        await self._set_health(_SERVING)
        self._tasks = [asyncio.create_task(task) for task in self._background()]
        return reply

    @property
    def closed_to_all(self) -> bool:
        """Whether every caller is asked for a key and none has one."""
        return self._connected is not None and self._connected.keys is not None and self._connected.keys.empty

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

    def _is_busy(self) -> bool:
        """Whether so many calls are under way that challengers in shadow have to wait for better times."""
        return self._admission.in_flight > BUSY_SHARE * self._admission.limit

    @property
    def _linger(self) -> float:
        """Seconds that calls of a release may still take when others get its users."""
        return self._settings.max_deadline + FLUSH_SECONDS

    @property
    def _has_fake(self) -> bool:
        """Whether the models are this process's own."""
        return isinstance(self._backend, FakeTriton)

    async def _load_models(self, connected: services.Connected) -> None:
        """Has Triton load what answers, and what rollouts try. Raises ConfigurationError for the former."""
        found = await replicas.connect(self._settings, self._endpoints, self._backend, self._resources)
        self._reconciler = Reconciler(
            found,
            connected.rollouts,
            self._deployment.repository,
            self._deployment.unrolled,
            stand_ins={Kind.POLICY: self._deployment.policy.name, Kind.REWARD: self._deployment.reward.name},
            linger=self._linger,
            reports=self._leads,
            in_use=connected.in_use,
        )
        self._resources.push_async_callback(self._reconciler.close)
        if not self._has_fake:
            holder = Holder(self._endpoints.database_url, self._deployment.unrolled)
            self._resources.push_async_callback(holder.close)
        await self._reconciler.bring(self._deployment.ids)
        await self._load_challengers(self._reconciler, connected.rollouts)

    async def _load_challengers(self, reconciler: Reconciler, rollouts: Rollouts) -> None:
        """What is not there in time, or can't be told while Postgres is away, comes later."""
        try:
            challengers = [each.challenger for each in await rollouts.active() if each.is_active]
        except (Unavailable, ValueError) as error:
            log.warning("what is being rolled out can't be read, so it is not loaded yet: %s", told(error))
            return
        for challenger in challengers:
            try:
                async with asyncio.timeout(CHALLENGER_SECONDS):
                    await reconciler.bring([challenger])
            except (ConfigurationError, TimeoutError) as error:
                log.warning("%s, which is being rolled out, is not loaded: %s", challenger, told(error))

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

    async def _set_health(self, status: "health_pb2.HealthCheckResponse.ServingStatus") -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    def _background(self) -> list[Coroutine[None, None, None]]:
        """What goes on while it serves, each for ever."""
        assert self._connected is not None
        analytics = self._connected.analytics
        tasks = [_repeat(self._show_health, PROBE_EVERY, "looking after the health")]
        tasks.append(_repeat(analytics.calls.flush, calls.EVERY, "counting calls"))
        if self._leads:
            tasks.append(_repeat(analytics.follower.tick, follower.EVERY, "following the log"))
            leader = self._leader = Leader(self._endpoints.database_url, self._jobs)
            tasks.append(leader.run())
            tasks.append(_repeat(self._make_partitions, HOUR, "making the log's next partitions"))
            tasks.append(_repeat(self._prepare_profiles, HOUR, "indexing the user profiles"))
            tasks.append(_repeat(self._complete_feedback, completion.EVERY, "completing feedback"))
            forgetting = self._connected.feedback.forget_requests
            tasks.append(_repeat(forgetting, pruning.EVERY, "forgetting old requests to rate"))
            tasks.extend(_repeat(*task) for task in self._connected.alerts.tasks)
        if self._reconciler is not None:
            tasks.append(_repeat(self._keep_models, LOOK_EVERY, "looking after the models"))
        return tasks

    def _jobs(self, stack: contextlib.AsyncExitStack) -> list[Job]:
        """What the one process does that leads the rollouts, of all that could."""
        connected, settings = self._connected, self._settings
        assert connected is not None
        assert self._reconciler is not None
        rollouts = connected.rollouts
        orders = Orders(rollouts, connected.safety_reports, settings.max_deadline)
        coming = Arrivals(connected.arrivals, connected.publish, orders.start if settings.rollout_new == "on" else None)
        steering = Controller(rollouts, connected.evidence)
        stack.push_async_callback(steering.close)
        trying = experimenting.Controller(connected.experiments, connected.evidence)
        stack.push_async_callback(trying.close)
        jobs: list[Job] = [
            (steering.look, controller.EVERY, "looking after the rollouts"),
            (trying.look, experimenting.EVERY, "looking after the experiments"),
            (coming.look, arrivals.EVERY, "looking for what training made"),
            (self._remover(self._reconciler, connected).look, retirement.EVERY, "removing retired releases"),
            (connected.ended.prune, HOUR, "forgetting details of rollouts that ended"),
        ]
        if not self._has_fake:
            jobs.append((self._reconciler.look, LOOK_EVERY, "looking after the models"))
        return jobs

    def _remover(self, reconciler: Reconciler, connected: services.Connected) -> Remover:
        addresses = dict.fromkeys((*reconciler.addresses, self._endpoints.triton_url))  # replays know the latter
        return Remover(
            connected.rollouts,
            self._deployment.repository,
            is_gone=reconciler.is_gone,
            is_needed=connected.needed,
            names=lambda model: [leases.of_server(model), *(leases.of_model(address, model) for address in addresses)],
            linger=self._linger,
        )

    async def _keep_models(self) -> None:
        """Who does not lead only brings back what Triton lost; a fake is its process's own."""
        assert self._reconciler is not None
        if self._has_fake:
            await self._reconciler.look()
        elif self._leader is None or not self._leader.leads:
            await self._reconciler.restore()

    async def _show_health(self) -> None:
        """Turns the health with the policy: without it there are no answers, without the reward there still are."""
        assert self._connected is not None
        champion = self._connected.routes.policy.release.id
        await self._set_health(_SERVING if await self._backend.ready(champion) else _NOT_SERVING)

    async def _make_partitions(self) -> None:
        async with await database.connect(self._endpoints.database_url, size=1) as pool:
            await partitions.ensure(pool, datetime.now(UTC))

    async def _prepare_profiles(self) -> None:
        assert self._connected is not None
        path = self._connected.path
        await path.profiles.prepare(path.embedder.model, path.embedder.dimension)

    async def _complete_feedback(self) -> None:
        assert self._connected is not None
        await completion.complete(self._connected.completing)


async def _repeat(work: Callable[[], Awaitable[object]], every: float, what: str) -> None:
    """Does `work` every so many seconds. What fails is logged and tried again, each time after twice the wait."""
    failures, trouble = 0, Trouble(log, what)
    while True:
        try:
            await work()
            failures = 0
            trouble.works()
        except (RatchetError, asyncpg.PostgresError, *database.GONE) as error:
            failures += 1
            trouble.failed(error)
        except Exception as error:  # a defect of ours must not end what keeps the service up
            failures += 1
            trouble.failed(error, defect=True)
        await asyncio.sleep(doubled(1.0, failures, LONGEST_RETRY) if failures else every)


async def _load_pages(library: Library) -> None:
    try:
        for tenant in (pages.TENANT, SAMPLE_TENANT):
            await pages.load(library, tenant=tenant)
    except RatchetError as error:
        log.warning("the starter's help pages can't be loaded, the docs tool does without: %s", error)


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
