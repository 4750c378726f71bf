"""The queue of replies that people are asked to judge, in Postgres. The trainer fills it and reads the judgements."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from server.errors import ReviewItemNotFound
from server.storage.database import Connection, bounded
from server.storage.training import READING, WRITING, as_unavailable
from server.training.types import ReviewItem, ReviewPlace, ReviewReason

PAGE_BYTES = 4 << 20
"""Of the texts of a page; a first item that is larger comes alone. gRPC messages end at 8 MiB."""
T = TypeVar("T")

_ITEM = (
    "item_id, training_id, response_id, query, context, response, score, rating, reason, label, labelled_by,"
    " labelled_at, note"
)
_PAGE = f"""
SELECT {_ITEM}, rest FROM (
    SELECT {_ITEM}, count(*) OVER () AS rest, row_number() OVER listed AS place,
        sum(octet_length(query) + octet_length(context) + octet_length(response)) OVER listed AS bytes
    FROM review_items
    WHERE tenant_id = $1 AND ($2::uuid IS NULL OR training_id = $2) AND (label = 0 OR NOT $3)
        AND ($4::boolean IS NULL OR ((label = 0), item_id) < ($4, $5))
    WINDOW listed AS (ORDER BY (label = 0) DESC, item_id DESC ROWS UNBOUNDED PRECEDING)
    ORDER BY (label = 0) DESC, item_id DESC LIMIT $6
) AS page
WHERE bytes <= {PAGE_BYTES} OR place = 1 ORDER BY place
"""
_OPEN = "SELECT count(*) FROM review_items WHERE tenant_id = $1 AND label = 0"
_LABEL = f"""
UPDATE review_items SET label = $3, note = $4,
    labelled_by = CASE WHEN $3 = 0 THEN '' ELSE $5 END, labelled_at = CASE WHEN $3 = 0 THEN NULL ELSE now() END
WHERE tenant_id = $1 AND item_id = $2 AND (label, note) IS DISTINCT FROM ($3::smallint, $4::text)
RETURNING {_ITEM}
"""
_GET = f"SELECT {_ITEM} FROM review_items WHERE tenant_id = $1 AND item_id = $2"


class PostgresReviews:
    """The store of review items; every method raises StoreUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(
        self, tenant: str, training_id: UUID | None, open_only: bool, after: ReviewPlace | None, limit: int
    ) -> tuple[list[ReviewItem], bool]:
        """Items after a place, open ones first, then the newest, and whether there are more than these. A page of long
        texts has fewer than `limit`."""
        place = (after.is_open, after.item_id) if after else (None, None)
        values = (tenant, training_id, open_only, *place, limit)
        rows = await self._do(READING, lambda connection: connection.fetch(_PAGE, *values))
        return [_item(row) for row in rows], bool(rows) and rows[0]["rest"] > len(rows)

    async def open_count(self, tenant: str) -> int:
        """How many wait for a judgement."""
        found: int = await self._do(READING, lambda connection: connection.fetchval(_OPEN, tenant))
        return found

    async def label(self, tenant: str, item_id: UUID, label: int, note: str, who: str) -> ReviewItem:
        """The item with this judgement, 1 to 5, or without one at 0. Saying the same again changes nothing. Raises
        ReviewItemNotFound."""

        async def label_in(connection: Connection) -> ReviewItem:
            row = await connection.fetchrow(_LABEL, tenant, item_id, label, note if label else "", who)
            row = row or await connection.fetchrow(_GET, tenant, item_id)
            if row is None:
                raise ReviewItemNotFound("There is no item of this id; its user may have been erased.")
            return _item(row)

        return await self._do(WRITING, label_in)

    async def _do(self, seconds: float, work: Callable[[Connection], Awaitable[T]]) -> T:
        with as_unavailable("review items"):
            return await bounded(self._pool, seconds, work)


def _item(row: Any) -> ReviewItem:
    return ReviewItem(
        item_id=row["item_id"],
        training_id=row["training_id"],
        response_id=row["response_id"],
        query=row["query"],
        context=row["context"],
        response=row["response"],
        score=row["score"],
        rating=row["rating"],
        reason=ReviewReason(row["reason"]),
        label=row["label"],
        labelled_by=row["labelled_by"],
        labelled_at=row["labelled_at"],
        note=row["note"],
    )
