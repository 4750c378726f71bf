"""What one server process is made of: connections, models, stores and tools, opened in order and given back in reverse
when the stack closes."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import asyncpg
from redis.asyncio import Redis

from server import alerting, models
from server.analytics import live
from server.backends.champion import ChampionPolicy
from server.backends.embedding import Embedder
from server.backends.policy import ServedPolicy
from server.deployment import Deployment, named
from server.documents.library import Library
from server.documents.reader import Reader
from server.embedded import Endpoints
from server.erasing import Eraser
from server.errors import ConfigurationError
from server.feedback.intake import Intake
from server.feedback.lessons import Lessons
from server.feedback.receipts import PURPOSE, Receipts
from server.judging import embedder_of, judges_of, rewards_of
from server.keyring import KeyRing
from server.learning import Learner
from server.means import Services
from server.publisher import Publisher
from server.rollout import reconciler, retirement
from server.rollout.readiness import awaited
from server.rollout.routes import Routes
from server.rollout.shadow import Shadow
from server.rollout.table import Champions
from server.settings import Settings
from server.storage import database, leases, notices, opensearch
from server.storage import memory as memories
from server.storage.api_keys import PostgresKeys
from server.storage.arrivals import PostgresArrivals
from server.storage.conversations import Conversations
from server.storage.documents import PostgresDocuments
from server.storage.ended import PostgresEnded
from server.storage.erasure import Erasures
from server.storage.evidence import LONGEST, PostgresEvidence
from server.storage.experiments import PostgresExperiments
from server.storage.feedback import PostgresFeedback
from server.storage.feedback_reading import FeedbackReader
from server.storage.forgetting import UserKeys
from server.storage.journal import Journal
from server.storage.memory import RedisMemory
from server.storage.profiles import PostgresProfiles, Profiles
from server.storage.reviews import PostgresReviews
from server.storage.rollouts import PostgresRollouts
from server.storage.safety import PostgresSafetyReports
from server.storage.secrets import shared_secret
from server.storage.shadows import PostgresShadows
from server.storage.spool import Spool
from server.storage.training import READING, PostgresTrainings, as_unavailable
from server.storage.windows import FEEDBACK, RedisWindow
from server.tools.registry import close_tools, open_tools
from server.tools.selector import PolicySelector, Router
from server.tools.tool import ToolServices
from triton_models.config import Options

log = logging.getLogger(__name__)

ROUTES = "ratchet_routes"
"""What Postgres notifies of a change of champions, rollouts or releases."""
FLUSH_SECONDS = 5.0
"""What the log, and each pool of connections, may take to close."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The request path's services, and those that other RPCs need."""

    path: Services
    routes: Routes
    library: Library
    keys: KeyRing | None
    """None: nobody is asked for a key."""
    conversations: Conversations
    listing: FeedbackReader
    completing: FeedbackReader
    receipts: Receipts
    analytics: live.Live
    alerts: alerting.Alerting
    feedback: Intake
    eraser: Eraser
    trainings: PostgresTrainings
    reviews: PostgresReviews
    rollouts: PostgresRollouts
    experiments: PostgresExperiments
    safety_reports: PostgresSafetyReports
    publish: Publisher
    evidence: PostgresEvidence
    arrivals: PostgresArrivals
    in_use: reconciler.InUse
    needed: retirement.Needed
    ended: PostgresEnded


@dataclass(frozen=True, slots=True)
class _Ground:
    """What the parts are made from."""

    settings: Settings
    endpoints: Endpoints
    deployment: Deployment
    backend: models.Backend
    stack: AsyncExitStack
    threads: Executor
    redis: Redis
    pool: asyncpg.Pool
    erasures: Erasures

    async def apart(self, size: int, patience: float = 30.0) -> asyncpg.Pool:
        """Connections of its own, so that one part keeps no other waiting."""
        return await _pool(self.endpoints.database_url, size, self.stack, patience)


async def connect(
    settings: Settings,
    endpoints: Endpoints,
    deployment: Deployment,
    backend: models.Backend,
    stack: AsyncExitStack,
    busy: Callable[[], bool] = lambda: False,
) -> Connected:
    """Everything, open; `busy` says whether this process has its hands full. Raises ConfigurationError."""
    threads = ThreadPoolExecutor(settings.tokenizer_threads, thread_name_prefix="tokenize")
    stack.callback(threads.shutdown, wait=False, cancel_futures=True)
    redis = redis_of(endpoints.redis_url)
    stack.push_async_callback(redis.aclose)
    pool = await _pool(endpoints.database_url, 8, stack)
    erasures = await Erasures.open(pool)
    ground = _Ground(settings, endpoints, deployment, backend, stack, threads, redis, pool, erasures)
    journal = await _journal(settings, endpoints, pool, erasures, stack)
    embedder = await embedder_of(deployment, backend, threads)
    adding = await ground.apart(2, patience=120)  # a large document takes long
    library = Library(PostgresDocuments(adding), Reader(), embedder)
    stack.push_async_callback(library.close)
    routed = await ground.apart(2)
    rollouts, experiments = PostgresRollouts(routed), PostgresExperiments(routed)
    routes = await _routes(ground, embedder.model, rollouts, experiments)
    path = await _path(ground, journal, embedder, routes, busy)
    reading, caring, watching, training = [await ground.apart(2) for _ in range(4)]
    rolling = await ground.apart(3)
    weighing = await ground.apart(3, patience=LONGEST)  # all that a rollout's users did
    keys = await _keys(settings, caring, stack)
    receipts = Receipts(await shared_secret(pool, PURPOSE))
    analytics = _analytics(endpoints, caring, stack)
    return Connected(
        path,
        routes,
        library,
        keys,
        Conversations(reading),
        FeedbackReader(reading),
        FeedbackReader(caring),
        receipts,
        analytics,
        alerting.connect(settings, watching, analytics.figures, stack),
        await _intake(ground, receipts, path),
        _eraser(settings, pool, redis, erasures, path),
        PostgresTrainings(training),
        PostgresReviews(training),
        rollouts,
        experiments,
        PostgresSafetyReports(rolling),
        publisher(settings, deployment, rollouts),
        PostgresEvidence(weighing, erasures.digest, rolling),
        PostgresArrivals(rolling),
        partial(_in_use, rolling),
        partial(needed, await asyncio.to_thread(named, settings), routes),
        PostgresEnded(rolling),
    )


async def _routes(ground: _Ground, model: str, rollouts: PostgresRollouts, experiments: PostgresExperiments) -> Routes:
    """Who answers whom, begun. `model` names the queries' embeddings."""
    deployment, backend, threads = ground.deployment, ground.backend, ground.threads
    policy = await asyncio.to_thread(models.served_policy, deployment.policy, backend)
    rewards = await rewards_of(deployment, backend, threads)
    routes = Routes(
        rollouts,
        Champions(policy, rewards[0]),
        await judges_of(ground.settings, deployment, backend, rewards[1:], model, ground.redis, threads, ground.stack),
        open_policy=lambda name: asyncio.to_thread(models.served_policy, deployment.repository / name, backend),
        open_reward=lambda name: asyncio.to_thread(
            models.served_reward, deployment.repository / name, backend, threads
        ),
        answers=partial(answers_everywhere, rollouts, backend),
        digest=ground.erasures.digest,
        listen=partial(notices.listen, ground.endpoints.database_url, ROUTES),
        experiments=experiments,
    )
    ground.stack.push_async_callback(routes.stop)
    await routes.start()
    return routes


async def _path(
    ground: _Ground, journal: Journal, embedder: Embedder, routes: Routes, busy: Callable[[], bool]
) -> Services:
    """What the request path has to work with."""
    settings, stack, threads, erasures = ground.settings, ground.stack, ground.threads, ground.erasures
    profiles = await profiles_of(settings, ground.pool, stack, lambda: journal.away)
    champion = ChampionPolicy(lambda: cast("ServedPolicy", routes.policy))
    url = ground.endpoints.database_url
    tools = await open_tools(
        ToolServices(settings, ground.pool, url, embedder, champion, threads, profiles, lambda: journal.away)
    )
    stack.push_async_callback(close_tools, tools)
    return Services(
        routes=routes,
        log=journal,
        memory=RedisMemory(
            ground.redis,
            turns=settings.memory_turns,
            tokens=settings.memory_tokens,
            ttl=settings.memory_ttl,
            digest=erasures.digest,
        ),
        profiles=profiles,
        learner=_learner(profiles, embedder, erasures, stack),
        embedder=embedder,
        tools=tools,
        selector=PolicySelector(champion, Router(settings.tool_threshold), threads),
        threads=threads,
        shadow=await _shadow(settings, ground.endpoints, threads, busy, stack),
    )


async def answers_everywhere(rollouts: PostgresRollouts, backend: models.Backend, release: str) -> bool:
    """Whether the inference server answers for a release, on whichever replica a call may come to. Where no replica was
    looked at, one has to do that we may ask. Raises StoreUnavailable."""
    if not await backend.ready(release):
        return False
    return not awaited(await rollouts.replicas(), release, await rollouts.now())


def needed(names: Mapping[str, str], routes: Routes, release: str) -> str:
    """Why the release can't go, whatever the rollouts say; "": it can."""
    if release in names:
        return f"The settings name {release} ({names[release]}): name another one there first, and start again."
    if release in (routes.policy.release.id, routes.reward.release.id):
        return f"{release} answers in place of the champion, which can't: see to the champion first."
    return ""


async def _in_use(pool: asyncpg.Pool, triton: str, model: str) -> bool:
    """Whether a replay has the model, or a server wants it whatever the rollouts want. Raises StoreUnavailable."""

    async def ask(connection: database.Connection) -> bool:
        names = leases.of_model(triton, model), leases.of_server(model)
        return not all([await leases.free(connection, name) for name in names])

    with as_unavailable("leases"):
        return await database.bounded(pool, READING, ask)


def publisher(settings: Settings, deployment: Deployment, rollouts: PostgresRollouts) -> Publisher:
    """Publishes into the repository that the settings' own releases are in."""
    layouts = {"reward": settings.reward_layout, "policy": settings.policy_layout}
    options = {kind: Options(layout=layout) for kind, layout in layouts.items()}
    return Publisher(rollouts, deployment.repository, options)


async def _shadow(
    settings: Settings, endpoints: Endpoints, threads: Executor, busy: Callable[[], bool], stack: AsyncExitStack
) -> Shadow:
    answers = PostgresShadows(await _pool(endpoints.database_url, 1, stack))
    shadow = Shadow(answers, threads=threads, evidence_tokens=settings.evidence_tokens, busy=busy)
    shadow.start()
    stack.push_async_callback(shadow.stop)
    return shadow


def _analytics(endpoints: Endpoints, pool: asyncpg.Pool, stack: AsyncExitStack) -> live.Live:
    redis = redis_of(endpoints.redis_url, timeout=live.PATIENCE)
    stack.push_async_callback(redis.aclose)
    threads = ThreadPoolExecutor(1, thread_name_prefix="figures")  # wide windows must not keep replies waiting
    stack.callback(threads.shutdown, wait=False, cancel_futures=True)
    found = live.live(redis, pool, threads)
    stack.push_async_callback(found.follower.close)
    stack.push_async_callback(found.calls.flush)
    return found


async def _intake(ground: _Ground, receipts: Receipts, path: Services) -> Intake:
    settings = ground.settings
    pool = await ground.apart(4)
    reader = FeedbackReader(pool)
    lessons = Lessons(reader, path.embedder, path.learner)
    window = RedisWindow(ground.redis, FEEDBACK, settings.feedback_per_minute)
    feedback = PostgresFeedback(pool, ground.erasures.digest)
    return Intake(feedback, reader, receipts, window, lessons, settings.feedback_horizon)


async def _keys(settings: Settings, pool: asyncpg.Pool, stack: AsyncExitStack) -> KeyRing | None:
    if settings.keys == "off":
        return None
    keys = KeyRing(PostgresKeys(pool), settings.keys_grace)
    stack.push_async_callback(keys.stop)
    await keys.start()
    return keys


async def _pool(
    url: str, size: int, stack: AsyncExitStack, patience: float = 30.0, *, planned_once: bool = False
) -> asyncpg.Pool:
    pool = await database.connect(url, size=size, patience=patience, stateless=True, planned_once=planned_once)
    stack.push_async_callback(database.close, pool, FLUSH_SECONDS)
    return pool


def _eraser(settings: Settings, pool: asyncpg.Pool, redis: Redis, erasures: Erasures, path: Services) -> Eraser:
    keys = UserKeys(redis, erasures.digest, settings.max_deadline)
    return Eraser(pool, erasures, keys, path.profiles, _spool_of(settings))


def _spool_of(settings: Settings) -> Path | None:
    return (settings.spool_dir or settings.home / "spool") if settings.spool == "on" else None


async def _journal(
    settings: Settings, endpoints: Endpoints, lookups: asyncpg.Pool, erasures: Erasures, stack: AsyncExitStack
) -> Journal:
    # Planning an insert of forty columns takes a third of its time, and its plan hangs on no value.
    writers = await _pool(endpoints.database_url, 2, stack, planned_once=True)
    directory = _spool_of(settings)
    spool = Spool(directory, settings.spool_size) if directory is not None else None
    journal = Journal(writers, lookups=lookups, spool=spool, digest=erasures.digest)
    stack.push_async_callback(_flush, journal)
    await journal.start()
    return journal


async def _flush(journal: Journal) -> None:
    try:
        async with asyncio.timeout(FLUSH_SECONDS):
            await journal.stop()
    except TimeoutError:
        log.warning("the log's last rows could not be written; the replies they belong to were never sent")


async def profiles_of(
    settings: Settings, pool: asyncpg.Pool, stack: AsyncExitStack, away: Callable[[], bool] = lambda: False
) -> Profiles:
    """Where the users' profiles are kept."""
    profiles: Profiles = PostgresProfiles(pool, away)
    if settings.opensearch_url:
        profiles = await opensearch.connect(settings.opensearch_url)
    stack.push_async_callback(profiles.close)
    return profiles


def _learner(profiles: Profiles, embedder: Embedder, erasures: Erasures, stack: AsyncExitStack) -> Learner:
    learner = Learner(profiles, embedder.model, erasures.reached)
    learner.start()
    stack.push_async_callback(learner.stop)
    return learner


def redis_of(url: str, timeout: float = 1.0) -> Redis:
    """A client, not connected yet. Raises ConfigurationError for a URL that can't be read."""
    try:
        return memories.connect(url, timeout=timeout)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL can't be used: {error}.") from error
