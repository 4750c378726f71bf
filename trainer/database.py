"""The trainer's connections to Postgres. It migrates nothing: the server does."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import asyncpg

from trainer.errors import StoreAway, TrainerError

GONE: Final = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError, TimeoutError)
"""What asyncpg raises when Postgres does not answer, or refuses."""
REFUSED: Final = (asyncpg.DataError, asyncpg.CardinalityViolationError)
"""Of them, what it says of values that it can't take, however often they are sent (SQLSTATE 22..., 21...)."""
PATIENCE: Final = 60.0
"""Seconds that a statement may take."""
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on a database that a server has made ready. Raises TrainerError."""
    try:
        pool = await asyncpg.create_pool(url, min_size=1, max_size=4, command_timeout=PATIENCE, timeout=10)
    except ValueError:  # its text quotes what it could not read, which may be the password
        raise TrainerError("DATABASE_URL can't be read: write postgresql://USER:PASSWORD@HOST:PORT/NAME.") from None
    except GONE as error:
        raise TrainerError(f"Postgres can't be reached: {told(error)}.") from error
    async with pool:
        with answering("training runs"):
            ready = await pool.fetchval("SELECT to_regclass('training_runs') IS NOT NULL")
        if not ready:
            raise TrainerError("The database has no tables for training yet: start this version's server on it first.")
        yield pool


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Tells what Postgres says as StoreAway; as TrainerError where repeating it would not help."""
    try:
        yield
    except REFUSED as error:
        raise TrainerError(f"The store of {what} can't take it: {told(error)}.") from error
    except GONE as error:
        raise StoreAway(f"The store of {what} did not answer: {told(error)}.") from error


def told(error: BaseException) -> str:
    """What an error says, to be put into a sentence: its first line, without its stop."""
    return str(error).strip().partition("\n")[0].strip().rstrip(".") or type(error).__name__
