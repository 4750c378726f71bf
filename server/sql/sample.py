"""The sample shop: a database beside Ratchet's own, and the role that reads it. Both are made where they are missing.

The role may not connect to Ratchet's database. Its password follows from that of Ratchet's own role, so that every
process knows it and nobody has to keep it.
"""

import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from server.errors import ConfigurationError, told
from server.sql.reader import Place
from server.storage.database import GONE, Connection

HERE = Path(__file__).parent
SCHEMA = "shop"
_LOCK = 0x53484F50  # any constant of our own: one process at a time makes the sample
_SECONDS = 60.0
_EXISTS = (asyncpg.DuplicateDatabaseError, asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError)
_ROLE = """NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS LOGIN CONNECTION LIMIT 32"""
_ROLE_SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "5s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "10s",
    "max_parallel_workers_per_gather": "0",
    "temp_file_limit": "64MB",
    "search_path": "",
}


async def ensure(url: str, orders: Path, *, own_cluster: bool) -> None:
    """Makes database and role, and loads `orders`, where they are missing or of another version.

    `url` is Ratchet's own database, by a superuser; `own_cluster`: no one else's databases are on that server, so that
    none of them needs to be open to everyone. Raises ConfigurationError.
    """
    try:
        async with _connection(url) as own:
            await own.execute("SELECT pg_advisory_lock($1)", _LOCK)  # until the connection closes
            name = str(await own.fetchval("SELECT current_database()"))
            place = place_beside(url, name)
            await _make(own, place, own_cluster)
            async with _connection(url, database=place.database) as shop, shop.transaction():
                await _fill(shop, place, orders)
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            f"The sample data needs a superuser at DATABASE_URL ({told(error)}): set RATCHET_SAMPLE_DATA=off."
        ) from error
    except (*GONE, asyncpg.PostgresError) as error:
        raise ConfigurationError(f"The sample data can't be loaded: {told(error)}.") from error


async def find(pool: asyncpg.Pool, url: str) -> Place | None:
    """How to read the sample that lies beside Ratchet's own database; None when it was never made."""
    name = str(await pool.fetchval("SELECT current_database()"))
    place = place_beside(url, name)
    made = await pool.fetchval("SELECT true FROM pg_database WHERE datname = $1", place.database)
    return place if made else None


def place_beside(url: str, name: str) -> Place:
    """The sample's database and role, named after Ratchet's own database `name`."""
    role = f"{name}_{SCHEMA}_reader"
    parts = urlsplit(url)
    password = unquote(parts.password or "") or "".join(parse_qs(parts.query).get("password", ()))
    derived = hmac.new(password.encode(), role.encode(), hashlib.sha256).hexdigest() if password else None
    return Place(url, role, derived, f"{name}_{SCHEMA}")


@contextlib.asynccontextmanager
async def _connection(url: str, **other: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=10, command_timeout=_SECONDS, **other)
    try:
        yield connection
    finally:
        await connection.close()


async def _make(own: Connection, place: Place, own_cluster: bool) -> None:
    role, database = _name(place.user), _name(place.database)
    with contextlib.suppress(*_EXISTS):
        await own.execute(f"CREATE ROLE {role}")
    password = f"'{place.password}'" if place.password else "NULL"
    await own.execute(f"ALTER ROLE {role} WITH {_ROLE} PASSWORD {password}")
    for setting, value in _ROLE_SETTINGS.items():
        await own.execute(f"ALTER ROLE {role} SET {setting} = '{value}'")
    with contextlib.suppress(*_EXISTS):
        await own.execute(f"CREATE DATABASE {database}")
    closed = [str(await own.fetchval("SELECT current_database()")), str(place.database)]
    if own_cluster:
        closed += [row["datname"] for row in await own.fetch("SELECT datname FROM pg_database WHERE datallowconn")]
    for each in dict.fromkeys(closed):
        await own.execute(f"REVOKE ALL ON DATABASE {_name(each)} FROM PUBLIC")
    await own.execute(f"GRANT CONNECT ON DATABASE {database} TO {role}")


async def _fill(shop: Connection, place: Place, orders: Path) -> None:
    """Tables, rows and rights, unless this very version of them is there."""
    texts = [path.read_text(encoding="utf-8") for path in (HERE / "shop.sql", HERE / "confine.sql", orders)]
    version = hashlib.sha256("\0".join([*texts, str(place.user)]).encode()).hexdigest()
    known = await shop.fetchval("SELECT obj_description(oid) FROM pg_namespace WHERE nspname = $1", SCHEMA)
    if known == version:
        return
    await shop.execute(texts[0])
    for table, rows in _rows(json.loads(texts[2])).items():
        records = [tuple(row.values()) for row in rows]
        await shop.copy_records_to_table(table, schema_name=SCHEMA, columns=list(rows[0]), records=records)
    await shop.execute(texts[1].replace("{reader}", _name(place.user)).replace("{schema}", SCHEMA))
    await shop.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{version}'")


def _rows(data: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The tables with the users whose rows they are: a customer's user id is the address before its @."""
    users = {each["customer"]: each["email"].partition("@")[0] for each in data["customers"]}
    customers = [{"user_id": users[each["customer"]], **each} for each in data["customers"]]
    orders = [
        {"user_id": users[each["customer"]], "placed": number, **each}
        for number, each in enumerate(data["orders"], start=1)
    ]
    return {"customers": customers, "orders": orders}


def _name(name: str | None) -> str:
    """Quoted as an identifier."""
    return '"' + str(name).replace('"', '""') + '"'
