"""The log and the revisions of feedback in the order of their transactions, for those who follow them.

Commits land out of order, so only transactions below `pg_snapshot_xmin` are read: all of those have ended, and nothing
will be added to what they wrote. Updates in place (erasure, rows of the spool) keep a row's transaction id.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg

from server.analytics.contributions import LoggedReply, Revision, Said
from server.errors import StoreUnavailable, told
from server.storage.database import GONE, WAIT_AND_RETRY, Connection, bounded

Event = LoggedReply | Revision
Take = Callable[[Sequence[Event]], None]

CHUNK = 256
"""Rows that are decoded at a time."""
PATIENCE = 30.0
"""Seconds for what belongs to one step."""
LONGEST = 600.0
"""Seconds to read one step's rows; a transaction of millions of rows is one step."""

_HORIZON = """
SELECT pg_snapshot_xmin(snapshot) AS below, pg_snapshot_xmax(snapshot) AS newest,
       concat((SELECT system_identifier FROM pg_control_system()), '.',
              (SELECT oid FROM pg_database WHERE datname = current_database())) AS database
FROM pg_current_snapshot() AS snapshot
"""

_ROW = "SELECT transaction_id FROM {table} WHERE transaction_id >= $1::xid8 AND transaction_id < $2::xid8"
_ENDS = f"""
SELECT ({_ROW} ORDER BY transaction_id LIMIT 1) AS first,
       ({_ROW} ORDER BY transaction_id DESC LIMIT 1) AS last,
       ({_ROW} ORDER BY transaction_id OFFSET $3 LIMIT 1) AS cut
"""
"""The first and last transaction, and that of the first row which is too many: all from the index alone."""

_REPLIES = """
SELECT tenant_id, "timestamp", policy_release, reward_release, reward_score, refused, total_seconds, latencies,
       jsonb_path_exists(degradations, '$[*] ? (@.reason != "log_spooled")') AS degraded
FROM conversation_logs WHERE transaction_id >= $1::xid8 AND transaction_id < $2::xid8
"""
"""That a row was spooled may be noted in it later, and is no fault of its answer."""

_REVISIONS = """
SELECT feedback.tenant_id, feedback."timestamp", feedback.kind, feedback.policy_release, feedback.reward_release,
       changed.rating_overall, changed.rating_dimensions, changed.commented, changed.reaction_type, changed.withdrawn,
       earlier.revision IS NOT NULL AS edited, earlier.rating_overall AS before_rating_overall,
       earlier.rating_dimensions AS before_rating_dimensions, earlier.commented AS before_commented,
       earlier.reaction_type AS before_reaction_type, earlier.withdrawn AS before_withdrawn
FROM feedback_revisions AS changed
JOIN feedback_data AS feedback USING (tenant_id, feedback_id)
LEFT JOIN feedback_revisions AS earlier
  ON earlier.tenant_id = changed.tenant_id AND earlier.feedback_id = changed.feedback_id
 AND earlier.revision = changed.revision - 1
WHERE changed.transaction_id >= $1::xid8 AND changed.transaction_id < $2::xid8
"""


@dataclass(frozen=True, slots=True)
class Horizon:
    """What can be read: transactions below `below`. All that has committed so far is below `newest`. `database` tells
    databases apart."""

    below: int
    newest: int
    database: str


class Feed(Protocol):
    """What following needs of the log. Raises StoreUnavailable."""

    async def horizon(self) -> Horizon:
        """How far the log can be read now."""

    async def end(self, after: int, below: int, rows: int) -> int:
        """Where a step from `after` ends that holds about so many rows: right after a transaction that has some.

        `after` itself, when there are none. Not beyond the last row's: after a crash Postgres may use again the numbers
        of transactions that wrote nothing durable.
        """

    async def read(self, after: int, below: int, take: Take) -> None:
        """Hands all rows of these transactions to `take`, a chunk at a time, in a thread."""


class PostgresFeed:
    """`Feed` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def horizon(self) -> Horizon:
        """See `Feed.horizon`."""
        row = await self._row(_HORIZON)
        return Horizon(row["below"], row["newest"], row["database"])

    async def end(self, after: int, below: int, rows: int) -> int:
        """See `Feed.end`. One transaction that has more rows than that is a step of its own, or ends one."""
        last, cuts = after, []
        for table in ("conversation_logs", "feedback_revisions"):
            found = await self._row(_ENDS.format(table=table), after, below, rows)
            if found["last"] is not None:
                last = max(last, int(found["last"]) + 1)
            if found["cut"] is not None:
                cuts.append(int(found["cut"]) + int(found["cut"] == found["first"]))
        return min([last, *cuts])

    async def read(self, after: int, below: int, take: Take) -> None:
        """See `Feed.read`."""

        async def hand_over(connection: Connection) -> None:
            async with connection.transaction(readonly=True):
                for statement, decode in ((_REPLIES, _reply), (_REVISIONS, _revision)):
                    cursor = await connection.cursor(statement, after, below)
                    while rows := await cursor.fetch(CHUNK):
                        await asyncio.to_thread(_hand, take, decode, rows)

        await self._ask(LONGEST, hand_over)

    async def _row(self, statement: str, *arguments: int) -> Mapping[str, Any]:
        row: Mapping[str, Any] = await self._ask(PATIENCE, lambda c: c.fetchrow(statement, *arguments))
        return row

    async def _ask(self, seconds: float, call: Callable[[Connection], Awaitable[Any]]) -> Any:
        try:
            return await bounded(self._pool, seconds, call)
        except (*GONE, *WAIT_AND_RETRY) as error:
            raise StoreUnavailable(f"The log can't be followed for now: {told(error)}.") from error


def _hand(take: Take, decode: Callable[[Mapping[str, Any]], Event], rows: Sequence[Any]) -> None:
    take([decode(row) for row in rows])


def _reply(row: Mapping[str, Any]) -> LoggedReply:
    return LoggedReply(
        tenant_id=row["tenant_id"],
        at=row["timestamp"],
        policy_release=row["policy_release"],
        reward_release=row["reward_release"],
        reward_score=row["reward_score"],
        refused=row["refused"],
        degraded=row["degraded"],
        total_seconds=_finite(row["total_seconds"]),
        stages=_stages(row["latencies"]),
    )


def _revision(row: Mapping[str, Any]) -> Revision:
    return Revision(
        tenant_id=row["tenant_id"],
        at=row["timestamp"],
        policy_release=row["policy_release"],
        reward_release=row["reward_release"],
        before=_said(row, "before_") if row["edited"] else None,
        after=_said(row, ""),
    )


def _said(row: Mapping[str, Any], when: str) -> Said:
    return Said(
        kind=row["kind"],
        stars=row[f"{when}rating_overall"],
        dimensions=_dimensions(row[f"{when}rating_dimensions"]),
        commented=row[f"{when}commented"],
        reaction=row[f"{when}reaction_type"],
        withdrawn=row[f"{when}withdrawn"],
    )


def _stages(text: str) -> tuple[tuple[str, float], ...]:
    """What another version wrote in a way of its own counts as nothing: one row must not stop all."""
    found = json.loads(text)
    if not isinstance(found, list):
        return ()
    pairs = [each for each in found if isinstance(each, list) and len(each) == 2]
    return tuple((str(name), _finite(seconds)) for name, seconds in pairs if isinstance(seconds, int | float))


def _dimensions(text: str) -> dict[str, int]:
    found = json.loads(text)
    if not isinstance(found, dict):
        return {}
    return {name: stars for name, stars in found.items() if isinstance(stars, int)}


def _finite(seconds: float) -> float:
    return seconds if math.isfinite(seconds) else 0.0
