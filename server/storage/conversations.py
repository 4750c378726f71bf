"""The log for people: searched page by page, and read reply by reply. Changes nothing.

A search goes back through time in slices of ids: each statement looks at a bounded number of rows, however rare what is
searched for, and a page that took too long ends early and says where the next one begins.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from server.errors import DeadlineExceeded, StoreUnavailable, told
from server.storage.conversation_search import Search, details, places
from server.storage.database import GONE, WAIT_AND_RETRY, Connection, bounded
from server.storage.history import Logged, logged_of

SLICE = 4096
"""Replies that one statement looks at."""
SEARCHING = 2.0
"""Seconds after which a search gives what it has."""
_GROWTH = 4
"""Each slice of a search is so many times the one before, until SLICE: what is frequent is found in the first."""

T = TypeVar("T")


class Flag(StrEnum):
    """What a reply was like; the values of `ratchet.v1.ConversationFlag`."""

    REFUSED = "refused"
    DEGRADED = "degraded"
    REGENERATED = "regenerated"
    EXPLORED = "explored"
    HAS_FEEDBACK = "has_feedback"
    SAFETY_REPORTED = "safety_reported"
    COMMENTED = "commented"


@dataclass(frozen=True, slots=True)
class Summary:
    """One reply in a list: texts cut to 500 characters, with the stars and the thumb of its current feedback."""

    response_id: UUID
    created_at: datetime
    user_id: str
    session_id: str
    query: str
    response: str
    reward_score: float | None
    policy_release: str
    reward_release: str
    total_seconds: float
    candidates_count: int
    erased: bool
    rating: int | None
    reaction: str | None
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Replies, newest first. `place` is the id before which the next page begins, None on the last one.

    `searched_from`: back to when was searched, this page included; None: to the beginning of the log.
    """

    found: tuple[Summary, ...]
    place: UUID | None
    searched_from: datetime | None


@dataclass(frozen=True, slots=True)
class Story:
    """One reply with all that is kept of it. `logged` is None for a row that a newer version wrote in words of its own;
    the columns that stand beside it are plain. `feedback` are rows of `feedback_data`, the rating first, withdrawn ones
    too."""

    response_id: UUID
    created_at: datetime
    user_id: str
    session_id: str
    request_id: str
    query: str
    response: str
    reward_score: float | None
    policy_release: str
    reward_release: str
    refused: bool
    arm: str
    arm_share: float
    erased: bool
    feedback: tuple[Mapping[str, Any], ...]
    logged: Logged | None


class Conversations:
    """The log of all tenants. Every method raises StoreUnavailable when Postgres does not answer and DeadlineExceeded
    when it takes longer than `seconds`. The pool is the caller's."""

    def __init__(self, pool: asyncpg.Pool, *, slice_rows: int = SLICE, searching: float = SEARCHING) -> None:
        """`slice_rows` and `searching` are for tests: rows of a statement, seconds of a search."""
        self._pool, self._slice, self._searching = pool, slice_rows, searching

    async def page(self, search: Search, before: UUID | None, size: int, seconds: float) -> Page:
        """At most `size` replies that fit, made before that id; fewer when looking further would take long."""

        async def look(connection: Connection) -> Page:
            return await self._look(connection, search, before, size)

        return await self._read(seconds, look)

    async def stories(self, tenant: str, ids: Sequence[UUID], seconds: float) -> list[Story]:
        """The replies of these ids that the tenant's log has, newest first."""

        async def read(connection: Connection) -> list[Story]:
            rows = await connection.fetch(_ROWS, tenant, list(ids), min(ids), max(ids))
            feedback = await connection.fetch(_FEEDBACK, tenant, list(ids))
            return await asyncio.to_thread(_stories, rows, feedback)

        return await self._read(seconds, read) if ids else []

    async def _look(self, connection: Connection, search: Search, before: UUID | None, size: int) -> Page:
        ends = asyncio.get_running_loop().time() + self._searching
        found: list[Summary] = []
        place, rows = before, min(size + 1, self._slice)
        while True:
            statement, values = places(search, place, rows)
            ids = [row["response_id"] for row in await connection.fetch(statement, *values)]
            found += await _matching(connection, search, ids)
            if len(found) > size:
                last = found[size - 1].response_id
                return Page(tuple(found[:size]), last, time_of(last))
            if len(ids) < rows:
                return Page(tuple(found), None, search.from_time)
            place = ids[-1]
            if asyncio.get_running_loop().time() >= ends:
                return Page(tuple(found), place, time_of(place))
            rows = min(rows * _GROWTH, self._slice)

    async def _read(self, seconds: float, call: Callable[[Connection], Awaitable[T]]) -> T:
        """What `call` gives, in a transaction that can't write and that Postgres itself ends in time."""

        async def within(connection: Connection) -> T:
            async with connection.transaction(readonly=True):
                # Plans for any value would be plans for rare users and for frequent ones alike.
                await connection.execute(_SETTINGS, f"{max(int(seconds * 1e3), 1)}ms")
                return await call(connection)

        with _answering():
            return await bounded(self._pool, seconds, within)


_SETTINGS = "SELECT set_config('statement_timeout', $1, true), set_config('plan_cache_mode', 'force_custom_plan', true)"
_ROWS = (
    "SELECT * FROM conversation_logs"
    " WHERE tenant_id = $1 AND response_id = ANY($2::uuid[]) AND response_id BETWEEN $3 AND $4"
    " ORDER BY response_id DESC"
)
_FEEDBACK = (
    "SELECT * FROM feedback_data WHERE tenant_id = $1 AND response_id = ANY($2::uuid[])"
    " ORDER BY array_position(ARRAY['rating', 'safety_report', 'preference'], kind)"
)
_PLAIN = (
    *("response_id", "user_id", "session_id", "request_id", "query", "reward_score", "policy_release"),
    *("reward_release", "refused", "arm", "arm_share", "erased"),
)


def time_of(response_id: UUID) -> datetime:
    """When the id was made: the first 48 bits of a UUIDv7 are milliseconds (RFC 9562, 5.7)."""
    return datetime.fromtimestamp((response_id.int >> 80) / 1000, UTC)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except asyncpg.QueryCanceledError as error:
        raise DeadlineExceeded("The search took too long: narrow its time window.") from error
    except (*GONE, *WAIT_AND_RETRY) as error:
        raise StoreUnavailable(f"The log can't be read: {told(error)}.") from error


async def _matching(connection: Connection, search: Search, ids: Sequence[UUID]) -> list[Summary]:
    if not ids:
        return []
    statement, values = details(search, ids)
    return [_summary(row) for row in await connection.fetch(statement, *values)]


def _summary(row: Any) -> Summary:
    columns = dict(row)
    flags = tuple(flag for flag in Flag if columns.pop(flag.value))
    return Summary(**columns, flags=flags)


def _stories(rows: Sequence[Any], feedback: Sequence[Any]) -> list[Story]:
    by_id: dict[UUID, list[Mapping[str, Any]]] = {}
    for each in feedback:
        by_id.setdefault(each["response_id"], []).append(dict(each))
    return [_story(row, tuple(by_id.get(row["response_id"], ()))) for row in rows]


def _story(row: Any, feedback: tuple[Mapping[str, Any], ...]) -> Story:
    try:
        logged = logged_of(row)
    except (KeyError, TypeError, ValueError):
        logged = None
    return Story(
        **{name: row[name] for name in _PLAIN},
        created_at=row["timestamp"],
        response=row["selected_response"],
        feedback=feedback,
        logged=logged,
    )
