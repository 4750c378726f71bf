"""Reads feedback, and what it is about, from Postgres; completes what came before its reply's log row."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from server.feedback.types import Feedback, Kind
from server.storage.database import Connection, bounded
from server.storage.feedback import CONTEXT, SHOWN, answering, feedback_of

READING = 10.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""

_COMPLETE = f"""
WITH incomplete AS (
    SELECT data.tenant_id, data.feedback_id, logs.arm, logs.arm_share, logs.selection_probability, {CONTEXT} AS context
    FROM feedback_data AS data
    JOIN conversation_logs AS logs USING (tenant_id, response_id, user_id)
    WHERE data.context IS NULL AND NOT data.erased AND NOT logs.erased
    LIMIT $1
    FOR UPDATE OF data SKIP LOCKED
)
UPDATE feedback_data AS data
SET context = incomplete.context, arm = incomplete.arm, arm_share = incomplete.arm_share,
    selection_probability = incomplete.selection_probability
FROM incomplete
WHERE data.tenant_id = incomplete.tenant_id AND data.feedback_id = incomplete.feedback_id
"""
"""What waits for rows that never come is passed over: it keeps nobody behind it waiting."""

_CANDIDATES = """
SELECT (candidate ->> 'index')::integer AS index, candidate ->> 'text' AS text
FROM conversation_logs, jsonb_array_elements(all_candidates) AS candidate
WHERE tenant_id = $1 AND response_id = $2 AND user_id = $3
"""
_EXCHANGE = "SELECT query, selected_response FROM conversation_logs WHERE tenant_id = $1 AND response_id = $2"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which feedback to list; what is None or "" does not matter. Times are those at which it was first given."""

    tenant_id: str
    response_id: UUID | None = None
    user_id: str | None = None
    session_id: str = ""
    kind: Kind | None = None
    withdrawn: bool = False
    """Withdrawn ones too."""
    policy_release: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> Mapping[str, Any]:
        """SQL conditions with their values."""
        conditions = {
            "tenant_id = {}": self.tenant_id,
            "response_id = {}": self.response_id,
            "user_id = {}": self.user_id,
            "session_id = {}": self.session_id or None,
            "kind = {}": self.kind,
            "policy_release = {}": self.policy_release or None,
            '"timestamp" >= {}': self.since,
            '"timestamp" < {}': self.until,
            "withdrawn = {}": None if self.withdrawn else False,
        }
        return {condition: value for condition, value in conditions.items() if value is not None}


class FeedbackReader:
    """Reads the feedback of all tenants. Every method raises StoreUnavailable. The pool is the caller's."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, wanted: Wanted, before: UUID | None, limit: int) -> list[Feedback]:
        """At most `limit` of them, the newest first, beginning after the id `before`."""
        conditions = {**wanted.conditions(), **({"feedback_id < {}": before} if before else {})}
        where = " AND ".join(each.format(f"${place}") for place, each in enumerate(conditions, 1))
        statement = f"SELECT {SHOWN} FROM feedback_data WHERE {where} ORDER BY feedback_id DESC LIMIT {int(limit)}"
        with answering():
            rows = await bounded(self._pool, READING, lambda c: c.fetch(statement, *conditions.values()))
        return [feedback_of(row) for row in rows]

    async def candidates(self, tenant: str, response_id: UUID, user: str) -> dict[int, str]:
        """The texts of a reply's candidates by index; "" for one that has none."""
        with answering():
            rows = await bounded(self._pool, READING, lambda c: c.fetch(_CANDIDATES, tenant, response_id, user))
        return {row["index"]: row["text"] or "" for row in rows}

    async def exchange(self, tenant: str, response_id: UUID) -> tuple[str, str] | None:
        """A reply's query and answer; None when its log row is not there."""
        with answering():
            row = await bounded(self._pool, READING, lambda c: c.fetchrow(_EXCHANGE, tenant, response_id))
        return (row["query"], row["selected_response"]) if row else None

    async def complete(self, limit: int) -> int:
        """Fills in what feedback lacks whose reply's log row has come since, `limit` at most; how many it were."""

        async def fill(connection: Connection) -> str:
            return await connection.execute(_COMPLETE, limit)

        with answering():
            return int((await bounded(self._pool, READING, fill)).rpartition(" ")[2])
