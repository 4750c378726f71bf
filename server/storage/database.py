"""The connection pool, and migrations. Holds no table's SQL."""

import hashlib
import re
from pathlib import Path

import asyncpg

from server.errors import ConfigurationError

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
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


async def connect(url: str, *, size: int) -> asyncpg.Pool:
    """A pool of at most `size` connections. Raises ConfigurationError when `url` can't be used."""
    try:
        return await asyncpg.create_pool(url, min_size=1, max_size=size, command_timeout=30, timeout=10)
    except asyncpg.InvalidPasswordError as error:
        raise ConfigurationError(f"Postgres refuses the user or password of DATABASE_URL: {error}.") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise ConfigurationError(f"The database of DATABASE_URL does not exist: {error}; create it.") from error
    except (*GONE, ValueError) as error:
        raise ConfigurationError(
            f"Postgres can't be reached by DATABASE_URL: {error or type(error).__name__}."
        ) from error


async def migrate(pool: asyncpg.Pool) -> list[str]:
    """Applies the migrations that are missing, each in a transaction, and gives their names.

    Raises ConfigurationError when an applied migration's text has changed since, or is unknown to this version.
    """
    files = {path.name: path.read_text() for path in sorted(MIGRATIONS.glob("[0-9]*.sql"))}
    applied: list[str] = []
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        known = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT * FROM schema_migrations")}
        _require_history(files, known)
        for name, text in files.items():
            if name not in known:
                await connection.execute(text)
                await connection.execute(
                    "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", name, _sha256(text)
                )
                applied.append(name)
    return applied


def _require_history(files: dict[str, str], known: dict[str, str]) -> None:
    for name, digest in known.items():
        if name not in files:
            raise ConfigurationError(f"The database has migration {name} of a newer Ratchet: upgrade this one.")
        if _sha256(files[name]) != digest:
            raise ConfigurationError(f"Migration {name} was changed after it was applied: restore its text.")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def redact(url: str) -> str:
    """The URL without its password, fit for logs."""
    return re.sub(r"(://[^:/@]*:)[^@]*@", r"\1…@", url)
