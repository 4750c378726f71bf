"""What people are asked to judge after a run, as rows of the review queue."""

import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from trainer.data.users import users_of
from trainer.database import Connection
from trainer.reward.findings import ReviewItem
from trainer.runs import Run, new_id

_PROFILE: Final = re.compile(r"User: [^\n;=]+ = [^\n;]*(?:; [^\n;=]+ = [^\n;]*)*(?:\n|$)")
"""How a system message that knows the user's profile begins: see `server/stages/prompt.py`."""
_ASKERS = """
SELECT response_id, user_id FROM training_replies_v1 WHERE tenant_id = $1 AND response_id = ANY($2) AND NOT erased
"""
_WRITE = """
INSERT INTO review_items
    (tenant_id, item_id, training_id, response_id, digest, query, context, response, score, rating, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


_OUTDATED = "DELETE FROM review_items WHERE tenant_id = $1 AND training_id <> $2 AND label = 0"
"""What nobody judged of older runs: their scores are of models that are behind."""


async def write(connection: Connection, run: Run, items: Sequence[ReviewItem]) -> None:
    """Adds the items whose replies are still there: an erasure since the snapshot took the others. Where
    there are any, they take the place of what is open of older runs."""
    wanted = [UUID(item.response_id) for item in items if item.response_id]
    askers = {row["response_id"]: row["user_id"] for row in await connection.fetch(_ASKERS, run.tenant, wanted)}
    users = await users_of(connection, run.tenant)
    rows = [
        (
            run.tenant,
            new_id(),
            run.training_id,
            UUID(item.response_id),
            bytes.fromhex(users.digest(askers[UUID(item.response_id)])),
            *(item.query, without_profile(item.context), item.response, item.score, item.rating, str(item.reason)),
        )
        for item in items
        if item.response_id and UUID(item.response_id) in askers
    ]
    if rows:
        await connection.execute(_OUTDATED, run.tenant, run.training_id)
    await connection.executemany(_WRITE, rows)


def without_profile(context: str) -> str:
    """A reward model's context without its line of what is known of the user, which reviewers need not see."""
    return _PROFILE.sub("", context, count=1) if _PROFILE.match(context) else context
