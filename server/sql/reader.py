"""Runs checked statements: in a read-only transaction that knows who asks, for a bounded time, and always rolls back.

Row-level security reads who asks from the setting `ratchet.user_id`, which lives as long as the transaction. A
statement can't change it: it is one SELECT, its role may not call set_config, and the protocol takes no second one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import asyncpg

from server.errors import ConfigurationError
from server.patience import Late, within
from server.sql.catalog import Catalog
from server.sql.guard import USER, Statement
from server.sql.rows import LONGEST_READ
from server.storage import database
from server.storage.database import GONE, WAIT_AND_RETRY, Connection
from server.tools.tool import ToolFailed, ToolRefused

Row = Mapping[str, Any]

CONNECTIONS = 4
"""Of one server process."""
IDLE = 60.0
"""Seconds after which an unused connection closes."""
GRACE = 0.5
"""Seconds beyond a statement's own time for connecting, and for Postgres to say that the time is over."""
_SHORT = frozenset(
    "bool int2 int4 int8 float4 float8 numeric date time timetz timestamp timestamptz interval uuid".split()  # noqa: SIM905
)
"""Types without long values."""
_BUSY = "The database is busy with other statements."
_UNKNOWN = "42"
"""The class of errors in the statement itself; their texts hold names, no data."""


@dataclass(frozen=True, slots=True)
class Place:
    """A database and the role to read it with. What is not None wins over the URL's."""

    url: str
    user: str | None = None
    password: str | None = None
    database: str | None = None

    def __repr__(self) -> str:
        """Without passwords."""
        return f"Place({self.user}, {self.database})"


@dataclass(slots=True)
class _Work:
    """What is to be read; `begun` once it has a connection."""

    sql: str
    user: str
    arguments: Sequence[str]
    rows: int
    cut: bool
    begun: bool = False


class Reader:
    """Reads one database. Connects when first asked; a database that is away costs only the statement.

    A late statement is cancelled in Postgres and keeps its connection until Postgres has let go of it, so that no more
    than CONNECTIONS of them are ever at work.
    """

    def __init__(
        self, place: Place, catalog: Catalog, timeout: float, away: Callable[[], bool] = lambda: False
    ) -> None:
        """`timeout` is in seconds; `away` tells whether the database is known not to answer."""
        self._place, self._catalog, self._timeout, self._away = place, catalog, timeout, away
        self._pool: asyncpg.Pool | None = None
        self._late = 0
        """Statements that were given up and that Postgres still works on."""

    async def open(self) -> None:
        """Makes the pool, without connecting."""
        place = self._place
        self._pool = await asyncpg.create_pool(
            place.url,
            user=place.user,
            password=place.password,
            database=place.database,
            min_size=0,
            max_size=CONNECTIONS,
            max_inactive_connection_lifetime=IDLE,
            timeout=self._timeout + GRACE,
            init=self._require_confined,
            reset=_forget,
            server_settings={"application_name": "ratchet sql tool"},
        )

    async def close(self) -> None:
        """Closes the connections; what still runs gets `GRACE` seconds."""
        if self._pool is not None:
            await database.close(self._pool, GRACE)

    async def read(self, statement: Statement, user: str, values: Mapping[str, str], rows: int) -> list[Row]:
        """At most `rows` rows that `user` may see, LONGEST_READ characters of each value. Raises ToolFailed or
        ToolRefused; cancelled, it ends in Postgres."""
        arguments = [user if name == USER else values[name] for name in statement.arguments]
        return await self._read(_Work(statement.sql, user, arguments, rows, cut=True))

    async def read_unchecked(self, sql: str, user: str, arguments: Sequence[str], rows: int) -> list[Row]:
        """The same for a text that nothing checked: what the database itself must hold against. Cuts no values."""
        return await self._read(_Work(sql, user, arguments, rows, cut=False))

    async def _read(self, work: "_Work") -> list[Row]:
        assert self._pool is not None
        if self._away():
            raise ToolFailed("The database is away for now.")
        if self._late >= CONNECTIONS:
            raise ToolFailed(_BUSY)
        try:
            return await within(self._timeout + GRACE, self._connected(work))
        except Late as error:
            waited = not work.begun and self._pool.get_size() >= CONNECTIONS
            raise ToolFailed(_BUSY if waited else self._late_text()) from error
        except asyncpg.QueryCanceledError as error:
            raise ToolFailed(self._late_text()) from error
        except ConfigurationError as error:
            raise ToolFailed(str(error)) from error
        except WAIT_AND_RETRY as error:
            raise ToolFailed("The database takes no statements for now.") from error
        except asyncpg.PostgresError as error:
            told = _message(error) if str(error.sqlstate).startswith(_UNKNOWN) else type(error).__name__
            raise ToolRefused(f"The database refuses the statement: {told}.") from error
        except (*GONE, ValueError) as error:  # ValueError: a URL that can't be read, whose text may quote the password
            raise ToolFailed("The database can't be reached.") from error

    def _late_text(self) -> str:
        return f"The statement took longer than {self._timeout:g} seconds."

    async def _connected(self, work: "_Work") -> list[Row]:
        """In a transaction that is rolled back. Cancelled, it lasts until Postgres has let go of the statement."""
        assert self._pool is not None
        async with self._pool.acquire() as connection:
            work.begun, late = True, 0
            transaction = connection.transaction(readonly=True)
            beginning = asyncio.ensure_future(transaction.start())
            try:
                await asyncio.shield(beginning)  # cut short, nobody could say whether there is one to roll back
                return await self._fetch(connection, work)
            except asyncio.CancelledError:
                late = 1
                raise
            finally:
                self._late += late
                try:
                    await beginning
                    await transaction.rollback()
                finally:
                    self._late -= late

    async def _fetch(self, connection: Connection, work: "_Work") -> list[Row]:
        await connection.execute(
            f"SET LOCAL statement_timeout = {max(1, int(self._timeout * 1000))};"
            f" SET LOCAL ratchet.user_id = {_quoted(work.user)}"
        )
        prepared = await connection.prepare(work.sql)
        if work.cut:
            prepared = await connection.prepare(_cut(work.sql, prepared.get_attributes()))
        cursor = await prepared.cursor(*work.arguments)
        return [MappingProxyType(dict(row)) for row in await cursor.fetch(work.rows)]

    async def _require_confined(self, connection: Connection) -> None:
        """Of each new connection: raises ConfigurationError where the role would see every user's rows."""
        for name, table in self._catalog.tables.items():
            full = f"{self._catalog.schema_name}.{name}"
            if table.owner and not await connection.fetchval("SELECT row_security_active($1::text)", full):
                raise ConfigurationError(
                    f"The table {full} shows its reader every user's rows: enable row-level security on it, and "
                    "read it with a role that is neither its owner nor a superuser."
                )


def _cut(sql: str, columns: Sequence[asyncpg.Attribute]) -> str:
    """`sql` with no more of each value than is read: a column may hold a book."""
    names = [f"c{number}" for number in range(len(columns))]
    values = ", ".join(
        f"{_short(name, column.type.name)} AS {_identifier(column.name)}"
        for name, column in zip(names, columns, strict=True)
    )
    return f"SELECT {values} FROM ({sql}) AS whole ({', '.join(names)})"  # noqa: S608 - the guard wrote it


def _short(name: str, kind: str) -> str:
    return name if kind in _SHORT else f"CAST({name} AS varchar({LONGEST_READ}))"


def _message(error: asyncpg.PostgresError) -> str:
    """What Postgres says, in one line, without details and hints."""
    return str(error).partition("\n")[0]


async def _forget(connection: Connection) -> None:
    """What asyncpg does with a connection that comes back, without the function that the role may not call."""
    await connection.execute("CLOSE ALL; UNLISTEN *; RESET ALL")


def _quoted(text: str) -> str:
    """As a constant that means the same under all settings. SET takes no bound values."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("\0", "")
    return f"E'{escaped}'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
