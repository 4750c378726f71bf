"""The live analytics of one server process, put together."""

from concurrent.futures import Executor
from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from server.analytics.calls import Calls
from server.analytics.figures import Figures
from server.analytics.follower import Follower
from server.storage.counters import PATIENCE, RedisCounters
from server.storage.following import PostgresFeed

__all__ = ["PATIENCE", "Live", "live"]


@dataclass(frozen=True, slots=True)
class Live:
    """`follower.tick` and `calls.flush` are to be called again and again, the former by whoever leads."""

    figures: Figures
    follower: Follower
    calls: Calls


def live(redis: Redis, pool: asyncpg.Pool, threads: Executor | None = None) -> Live:
    """On clients and threads that the caller closes, after the follower. Figures are read in `threads`."""
    counters = RedisCounters(redis, threads)
    return Live(Figures(counters, threads), Follower(counters, PostgresFeed(pool)), Calls(counters))
