"""The connection pool, and migrations. Holds no table's SQL."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import asyncpg

from server.errors import ConfigurationError, told

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
T = TypeVar("T")
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

log = logging.getLogger(__name__)

_LOCK = 0x52415443  # any constant of our own: one migrating process at a time
LOCK_TIMEOUT = "3s"
"""What a migration waits for a table's lock: statements of others queue behind whoever waits. Autovacuum gives way
after a second."""
LOCK_PAUSE, LOCK_ATTEMPTS = 2.0, 60
"""Seconds in which those go on, and how often it comes again."""

GONE = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError, TimeoutError)
"""What asyncpg raises when the server is away (InternalClientError is not among its documented ones)."""

WAIT_AND_RETRY = (
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
)
"""What the server answers while it can't serve anyone: the same statement may succeed later."""


async def connect(
    url: str, *, size: int, patience: float | None = 30.0, stateless: bool = False, planned_once: bool = False
) -> asyncpg.Pool:
    """A pool of at most `size` connections whose statements may take `patience` seconds, or any time.

    With `stateless`, whoever uses it leaves no state in a session (no lock, no setting), which saves a round trip at
    each use. `planned_once`, for a stateless pool: a connection plans each statement once, not for each call's values.
    Raises ConfigurationError when `url` can't be used.
    """
    try:
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            command_timeout=patience,
            timeout=10,
            init=_plan_once if planned_once else None,
            reset=_leave if stateless else None,
        )
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise ConfigurationError(f"Postgres refuses the user or password of DATABASE_URL: {told(error)}.") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise ConfigurationError(f"The database of DATABASE_URL does not exist: {told(error)}; create it.") from error
    except WAIT_AND_RETRY as error:
        raise ConfigurationError(f"Postgres takes no connection for now: {told(error)}; start again later.") from error
    except GONE as error:
        raise ConfigurationError(f"Postgres can't be reached by DATABASE_URL: {told(error)}.") from error
    except asyncpg.PostgresError as error:
        raise ConfigurationError(f"Postgres refuses the connection of DATABASE_URL: {told(error)}.") from error
    except ValueError:  # its text quotes what it could not read, which may be the password
        raise ConfigurationError(
            "DATABASE_URL can't be read: write postgresql://USER:PASSWORD@HOST:PORT/NAME, "
            "special characters of the password percent-encoded."
        ) from None


async def _plan_once(connection: Connection) -> None:
    """Not as a setting of the connection's start: connection poolers refuse those that they don't know."""
    try:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
    except BaseException:
        connection.terminate()  # the pool would close it, and wait for a Postgres that does not answer
        raise


async def _leave(connection: Connection) -> None:
    """Instead of asyncpg's reset of the session."""


async def bounded(pool: asyncpg.Pool, seconds: float, call: Callable[[Connection], Awaitable[T]]) -> T:
    """What `call` gives within `seconds`; then, or when the caller leaves, the connection is cut off.

    Not asyncpg's own timeout: a server that is paused, or gone without a word, answers not even the request to cancel,
    and giving the connection back would wait for that without bound. Raises what `call` does, and GONE when time is up;
    what `call` gave stands, however giving the connection back ends.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + max(seconds, 0)
    async with asyncio.timeout_at(ends):
        connection = await pool.acquire()
    watchdog = loop.call_at(ends, _cut_off, connection)
    try:
        return await _unless_left(connection, call)
    except AttributeError as error:
        if not _is_cut_off(connection):
            raise
        # Cut off just after Postgres answered a step of a statement, it has no protocol for asyncpg to take the next.
        raise asyncpg.ConnectionDoesNotExistError("the connection was cut off within a statement") from error
    finally:
        await _give_back(pool, connection)  # a caller who leaves here leaves the watchdog to see to it
        watchdog.cancel()


async def _give_back(pool: asyncpg.Pool, connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """What can't be given back, asyncpg closes. Cut off just before, it is no longer asyncpg's to be given back."""
    try:
        await pool.release(connection)
    except (asyncpg.PostgresError, *GONE) as error:
        log.debug("a connection was lost as it was given back: %s", told(error))


async def _unless_left(connection: Connection, call: Callable[[Connection], Awaitable[T]]) -> T:
    """What `call` gives. When the caller leaves, it ends at once: its rollback, too, would wait for the server."""
    working = asyncio.ensure_future(call(connection))
    try:
        await asyncio.wait([working])
    except asyncio.CancelledError:
        _cut_off(connection)
        await asyncio.wait([working])
        if not working.cancelled():
            working.exception()
        raise
    return working.result()


def _cut_off(connection: Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # it is back in the pool
        connection.terminate()


def _is_cut_off(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # it is back in the pool
        return True


async def close(pool: asyncpg.Pool, seconds: float) -> None:
    """Closes the pool; connections that are still busy after `seconds` are cut off."""
    try:
        async with asyncio.timeout(seconds):
            await pool.close()
    except TimeoutError:
        log.warning("connections to Postgres were still busy at the end and are cut off")
        pool.terminate()


async def migrate(pool: asyncpg.Pool) -> list[str]:
    """Applies the migrations that are missing, each in a transaction of its own, and gives their names.

    One process migrates, the others wait for it: the pool's statements need unbounded time. Raises ConfigurationError
    when an applied migration's text has changed since, is unknown to this version, or the user may not make tables;
    and when others keep a table that is to be changed for minutes.
    """
    files = {path.name: path.read_text() for path in sorted(MIGRATIONS.glob("[0-9]*.sql"))}
    async with pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)  # the pool unlocks what comes back to it
        try:
            return await _apply(connection, files)
        except asyncpg.InsufficientPrivilegeError as error:
            raise may_not(error) from error
        except (asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFileError) as error:
            raise ConfigurationError(
                f"The Postgres of DATABASE_URL lacks something ({told(error)}): it needs pgvector 0.8 or newer."
            ) from error


def may_not(error: asyncpg.InsufficientPrivilegeError) -> ConfigurationError:
    """The error for a user of the database who may not do what Ratchet needs."""
    return ConfigurationError(
        f"The user of DATABASE_URL may not make Ratchet's tables ({told(error)}): "
        "make that user the owner of the database."
    )


async def _apply(connection: Connection, files: dict[str, str]) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    known = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT * FROM schema_migrations")}
    _require_history(files, known)
    missing = [name for name in files if name not in known]
    for name in missing:
        await _apply_one(connection, name, files[name])
    return missing


async def _apply_one(connection: Connection, name: str, text: str) -> None:
    for _ in range(LOCK_ATTEMPTS):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                await connection.execute(text)
                await connection.execute(
                    "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", name, _sha256(text)
                )
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            log.warning("migration %s lets others go on who have a table that it changes, and comes again", name)
            await asyncio.sleep(LOCK_PAUSE)
        else:
            return
    raise ConfigurationError(
        f"Migration {name} changes a table that others have had for minutes: end what reads it for long, such as a dump"
        " or an export, and start again."
    )


def _require_history(files: dict[str, str], known: dict[str, str]) -> None:
    for name, digest in known.items():
        if name not in files:
            raise ConfigurationError(f"The database has migration {name} of a newer Ratchet: upgrade this one.")
        if _sha256(files[name]) != digest:
            raise ConfigurationError(f"Migration {name} was changed after it was applied: restore its text.")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
