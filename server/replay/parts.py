"""What replays run on: the parts of a running Ratchet, or of one that is started for them, and models in Triton."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg

from server import judging, models, services
from server.backends.embedding import Embedder
from server.backends.fake import FakeTriton
from server.backends.policy import ServedPolicy
from server.backends.reward import ServedReward
from server.backends.triton import TritonClient
from server.deliberation import Judges
from server.deployment import Deployment
from server.embedded import Endpoints, Stack, running
from server.errors import ConfigurationError, ReleaseNotFound, StoreUnavailable
from server.means import Services
from server.replay.recorded import NoLearner, NoLog, RecordedMemory
from server.replay.releases import Releases
from server.replay.request import Changes
from server.rollout.routed import FixedRoutes
from server.settings import Settings
from server.storage import database
from server.storage.history import History
from server.storage.profiles import PostgresProfiles, Profiles
from server.storage.rollouts import PostgresRollouts
from server.tools.registry import close_tools, open_tools
from server.tools.selector import make_selector
from server.tools.tool import Tool, ToolServices
from server.types import Recollection

CLOSE_SECONDS = 5.0
CONNECTIONS = 8
Tell = Callable[[str], None]


class Parts:
    """Opened by `opened`. Services are made once for each pair of releases."""

    def __init__(
        self,
        changes: Changes,
        endpoints: Endpoints,
        pool: asyncpg.Pool,
        backend: models.Backend,
        releases: Releases,
        threads: Executor,
        stack: AsyncExitStack,
    ) -> None:
        self.history, self.releases = History(pool), releases
        self._changes, self._settings = changes, changes.settings
        self._endpoints, self._pool, self._backend = endpoints, pool, backend
        self._threads, self._stack = threads, stack
        self._making = asyncio.Lock()
        self._made: dict[tuple[Path, Path], Services] = {}
        self._judges: Judges | None = None
        self._embedder: Embedder | None = None

    @property
    def cached(self) -> bool:
        """Whether the score cache is used: only when somebody asked for it."""
        return "score_cache" in self._changes.given and self._settings.score_cache == "on"

    async def prepare(self) -> None:
        """Holds the releases that flags name, so that a wrong one is refused before anything is replayed."""
        given = self._changes.given
        if "reward" in given:
            await self.releases.hold("reward", Path(self._settings.reward))
        if "policy" in given and not self._changes.rescore:
            await self.releases.hold("policy", Path(self._settings.policy))

    async def services(self, policy: Path, reward: Path, *, drawing: bool) -> Services:
        """Services that keep nothing, for the releases in these directories. Not `drawing`: the policy is not loaded.

        Raises ConfigurationError.
        """
        async with self._making:
            key = policy, reward
            if key not in self._made:
                self._made[key] = await self._make(policy, reward, drawing)
            return self._made[key]

    async def _make(self, policy: Path, reward: Path, drawing: bool) -> Services:
        hold = self.releases.hold
        served = await asyncio.to_thread(
            models.served_policy, await hold("policy", policy) if drawing else policy, self._backend
        )
        rewards = dict.fromkeys([await hold("reward", reward), *await self._fallback()])
        judges, embedder = await self._common()
        ladder = [
            await asyncio.to_thread(models.served_reward, place, self._backend, self._threads) for place in rewards
        ]
        profiles: Profiles = PostgresProfiles(self._pool)
        if self._settings.opensearch_url and self._changes.run_tools:
            profiles = await services.profiles_of(self._settings, self._pool, self._stack)
        return Services(
            routes=FixedRoutes(served, replace(judges, rewards=ladder, thresholds=await self._thresholds(ladder))),
            log=NoLog(),
            memory=RecordedMemory(Recollection()),
            profiles=profiles,
            learner=NoLearner(profiles, embedder.model),
            embedder=embedder,
            tools=await self._tools(served, embedder, profiles) if self._changes.run_tools else (),
            selector=make_selector(served, self._settings.tool_threshold, self._threads),
            threads=self._threads,
        )

    async def _thresholds(self, rewards: Sequence[ServedReward]) -> dict[str, float]:
        """Those that the registry has in place of the releases' own; none where a database knows no registry yet."""
        found, store = {}, PostgresRollouts(self._pool)
        for reward in rewards:
            with suppress(ReleaseNotFound, StoreUnavailable):
                threshold = (await store.release(reward.release.id)).threshold
                if threshold is not None:
                    found[reward.release.id] = threshold
        return found

    async def _fallback(self) -> list[Path]:
        named = self._settings.reward_fallback
        return [await self.releases.hold("reward", Path(named))] if named else []

    async def _common(self) -> tuple[Judges, Embedder]:
        """What does not depend on policy and reward: made once."""
        if self._judges is None or self._embedder is None:
            settings, hold = self._settings, self.releases.hold
            # Only tools and the score cache of similar queries look at embeddings.
            embedding = settings.embedding if self.cached or self._changes.run_tools else None
            deployment = Deployment(
                policy=Path(settings.policy),
                reward=Path(settings.reward),
                embedding=await hold("embedding", Path(embedding)) if embedding else None,
                toxicity=await hold("classifier", Path(settings.toxicity)) if settings.toxicity else None,
                entailment=await hold("classifier", Path(settings.entailment)) if settings.entailment else None,
            )
            self._embedder = await judging.embedder_of(deployment, self._backend, self._threads)
            redis = services.redis_of(self._endpoints.redis_url) if self.cached else None
            if redis is not None:
                self._stack.push_async_callback(redis.aclose)
            self._judges = await judging.judges_of(
                settings, deployment, self._backend, [], self._embedder.model, redis, self._threads, self._stack
            )
        return self._judges, self._embedder

    async def _tools(self, policy: ServedPolicy, embedder: Embedder, profiles: Profiles) -> tuple[Tool, ...]:
        made_of = ToolServices(
            self._settings, self._pool, self._endpoints.database_url, embedder, policy, self._threads, profiles
        )
        tools = await open_tools(made_of)
        self._stack.push_async_callback(close_tools, tools)
        return tools


@asynccontextmanager
async def opened(changes: Changes, tell: Tell) -> AsyncIterator[Parts]:
    """Everything that replays need. Afterwards Triton has the models that it had before, and nothing runs that did not.

    `tell` gets one line for people at each step. Raises a RatchetError.
    """
    settings = changes.settings
    async with AsyncExitStack() as stack:
        endpoints = await _endpoints(settings, stack, tell)
        pool = await database.connect(endpoints.database_url, size=CONNECTIONS)
        stack.push_async_callback(database.close, pool, CLOSE_SECONDS)
        threads = ThreadPoolExecutor(settings.tokenizer_threads, thread_name_prefix="tokenize")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        if settings.backend == "fake":
            backend: models.Backend = FakeTriton()
            releases = Releases(settings, endpoints, backend, None, tell)
        else:
            client = TritonClient(endpoints.triton_url)
            stack.push_async_callback(client.close)
            backend = client
            connection = await pool.acquire()
            stack.push_async_callback(pool.release, connection)
            releases = Releases(settings, endpoints, client, connection, tell)
        stack.push_async_callback(releases.close)
        yield Parts(changes, endpoints, pool, backend, releases, threads, stack)


async def _endpoints(settings: Settings, stack: AsyncExitStack, tell: Tell) -> Endpoints:
    """Those of the Ratchet that runs from the home; else the parts that have no URL are started, as `serve` does."""
    wanted = settings.embedded()
    found = await asyncio.to_thread(running.endpoints, wanted)
    if found is not None:
        return found
    if not running.holds_data(wanted):
        raise ConfigurationError(
            f"Nothing was ever logged under {settings.home}: set RATCHET_HOME as the server had it, or DATABASE_URL."
        )
    return await stack.enter_async_context(Stack(wanted, on_event=tell))
