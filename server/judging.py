"""The models that know texts, scores and faults, as they are served: the embedder, the rewards, and what checks."""

import asyncio
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from pathlib import Path

from redis.asyncio import Redis

from server import models
from server.backends.classifier import ServedClassifier
from server.backends.embedding import Embedder, HashingEmbedder
from server.backends.reward import ServedReward
from server.deliberation import Judges
from server.deployment import Deployment
from server.quality import safety
from server.settings import Settings
from server.stages import quality, stopping
from server.stages.settings import PathSettings
from server.storage.scores import RedisScores


async def embedder_of(deployment: Deployment, backend: models.Backend, threads: Executor) -> Embedder:
    """The embedding release, or the light local one."""
    if deployment.embedding is None:
        return HashingEmbedder(threads)
    return await asyncio.to_thread(models.served_embedder, deployment.embedding, backend, threads)


async def rewards_of(deployment: Deployment, backend: models.Backend, threads: Executor) -> list[ServedReward]:
    """The release in service, then the one to fall back to."""
    places = dict.fromkeys(place for place in (deployment.reward, deployment.reward_fallback) if place is not None)
    return [await asyncio.to_thread(models.served_reward, place, backend, threads) for place in places]


async def judges_of(
    settings: Settings,
    deployment: Deployment,
    backend: models.Backend,
    rewards: list[ServedReward],
    model: str,
    redis: Redis | None,
    threads: Executor,
    stack: AsyncExitStack,
) -> Judges:
    """What scores and checks: `rewards` in this order, without a cache where there is no `redis`; `model` names the
    queries' embeddings."""
    cache = None
    if settings.score_cache == "on" and redis is not None:
        cache = RedisScores(
            redis,
            ttl=settings.score_cache_ttl,
            similarity=settings.score_similarity,
            budget=settings.score_cache_budget,
        )
        stack.push_async_callback(cache.close)
    classifiers = quality.Classifiers(
        toxicity=await _classifier(deployment.toxicity, backend, threads),
        entailment=await _classifier(deployment.entailment, backend, threads),
    )
    rules = await asyncio.to_thread(rules_of, settings)
    return Judges(rewards, cache, model, rules, classifiers, stopping.Priors())


def rules_of(settings: PathSettings) -> quality.Rules:
    """What the quality checks go by. Reads word lists: not for the event loop."""
    return quality.Rules(
        safety.lexicon(settings.blocked_words),
        settings.minimum_characters,
        settings.maximum_characters,
        settings.grounding == "on",
    )


async def _classifier(place: Path | None, backend: models.Backend, threads: Executor) -> ServedClassifier | None:
    return await asyncio.to_thread(models.served_classifier, place, backend, threads) if place else None
