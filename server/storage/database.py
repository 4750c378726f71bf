"""The connection pool, and migrations. Holds no table's SQL."""

import asyncio
import hashlib
import logging
from pathlib import Path

import asyncpg

from server.errors import ConfigurationError

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

log = logging.getLogger(__name__)

_LOCK = 0x52415443  # any constant of our own: one migrating process at a time

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


async def connect(url: str, *, size: int, patience: float | None = 30.0) -> asyncpg.Pool:
    """A pool of at most `size` connections whose statements may take `patience` seconds, or any time.

    Raises ConfigurationError when `url` can't be used.
    """
    try:
        return await asyncpg.create_pool(url, min_size=1, max_size=size, command_timeout=patience, timeout=10)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise ConfigurationError(f"Postgres refuses the user or password of DATABASE_URL: {error}.") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise ConfigurationError(f"The database of DATABASE_URL does not exist: {error}; create it.") from error
    except WAIT_AND_RETRY as error:
        raise ConfigurationError(f"Postgres takes no connection for now: {error}; start again later.") from error
    except GONE as error:
        raise ConfigurationError(
            f"Postgres can't be reached by DATABASE_URL: {error or type(error).__name__}."
        ) from error
    except asyncpg.PostgresError as error:
        raise ConfigurationError(f"Postgres refuses the connection of DATABASE_URL: {error}.") from error
    except ValueError:  # its text quotes what it could not read, which may be the password
        raise ConfigurationError(
            "DATABASE_URL can't be read: write postgresql://USER:PASSWORD@HOST:PORT/NAME, "
            "special characters of the password percent-encoded."
        ) from None


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
    when an applied migration's text has changed since, is unknown to this version, or the user may not make tables.
    """
    files = {path.name: path.read_text() for path in sorted(MIGRATIONS.glob("[0-9]*.sql"))}
    async with pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)  # the pool unlocks what comes back to it
        try:
            return await _apply(connection, files)
        except asyncpg.InsufficientPrivilegeError as error:
            raise may_not(error) from error


def may_not(error: asyncpg.InsufficientPrivilegeError) -> ConfigurationError:
    """The error for a user of the database who may not do what Ratchet needs."""
    return ConfigurationError(
        f"The user of DATABASE_URL may not make Ratchet's tables ({error}): make that user the owner of the database."
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
        async with connection.transaction():
            await connection.execute(files[name])
            await connection.execute(
                "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", name, _sha256(files[name])
            )
    return missing


def _require_history(files: dict[str, str], known: dict[str, str]) -> None:
    for name, digest in known.items():
        if name not in files:
            raise ConfigurationError(f"The database has migration {name} of a newer Ratchet: upgrade this one.")
        if _sha256(files[name]) != digest:
            raise ConfigurationError(f"Migration {name} was changed after it was applied: restore its text.")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
