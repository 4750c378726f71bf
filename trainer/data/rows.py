"""The rows that training reads: which feedback is eligible, the replies that it is about, the review queue's labels."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from trainer.data.assembly import Label, Reply, Said
from trainer.data.users import Connection, Users

REASONS: Final[Mapping[str, str]] = {
    "erased": "Their users were erased.",
    "withdrawn": "Taken back by who gave it.",
    "comment_only": "A comment alone says nothing that can be compared.",
    "no_reply": "The reply's log row is not there yet.",
    "refused": "The reply was a refusal, which no candidate gave.",
    "shadow": "Nobody saw the reply.",
    "degraded": "The reply was scored by another release or by none, or made without its memory or profile.",
    "no_context": "What the reward model was given is not known: the row is older than that column.",
    "in_flight": "The transaction, or one that began before it, was still under way.",
    "older": "Beyond the newest that data.most_feedback allows.",
    "not_found": "The candidate that it speaks of is not in the log row, or has no text.",
}
"""Why feedback stays out, a sentence each: the exclusions of `training_eligibility_v1`, and what is found out here."""
PATIENCE: Final = 600.0
"""Seconds that a statement may take which looks at all feedback."""
_BATCH: Final = 2000
"""Rows that are asked for at a time, and read in a thread: the trainer's heartbeat goes on beside them."""

_SETTLED = "greatest(transaction_id, reply_transaction_id) < pg_snapshot_xmin(pg_current_snapshot())"
_COUNTS = f"""
SELECT CASE WHEN exclusion <> '' OR {_SETTLED} THEN exclusion ELSE 'in_flight' END AS reason, count(*) AS count
FROM training_eligibility_v1 WHERE tenant_id = $1 GROUP BY reason
"""
_UNUSED = "SELECT count(*) FROM (SELECT FROM training_unused_v1 WHERE tenant_id = $1 AND {} LIMIT $2) AS found"
_CHANGED = """
AND feedback_id IN (
    SELECT feedback_id FROM training_changes_v1 WHERE tenant_id = $1 AND transaction_id >= $3::text::xid8
)
"""
_UNSEEN, _UNSEEN_SINCE = _UNUSED.format(_SETTLED), _UNUSED.format(_SETTLED + _CHANGED)
_BY_ITS_VALUES = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"
"""A plan for any mark reads all that no run has used, where most often little or nothing came since."""
_NEWEST = f"""
SELECT feedback_id, revision, response_id, user_id, session_id, kind, rating_overall, rating_dimensions, text_feedback,
       reaction_type, chosen_index, rejected_index, updated_at, user_profile, is_training_data
FROM training_eligibility_v1 WHERE tenant_id = $1 AND exclusion = '' AND {_SETTLED}
ORDER BY updated_at DESC, feedback_id DESC LIMIT $2
"""
_REPLIES = """
SELECT r.response_id, r.user_id, r.session_id, r.query, r.reward_context, r.policy_release, r.reward_release,
       r.selection_probability, (
           SELECT jsonb_agg(jsonb_build_object(
               'index', c -> 'index', 'text', c -> 'text', 'score', c -> 'reward_score', 'source', c -> 'score_source',
               'probability', c -> 'selection_probability', 'selected', c -> 'selected'))
           FROM jsonb_path_query(r.all_candidates, '$[*]') AS c
           WHERE c -> 'selected' = 'true' OR c -> 'index' = ANY(wanted.indexes::jsonb[])
       ) AS candidates
FROM unnest($2::uuid[], $3::text[]) AS wanted (response_id, indexes)
JOIN training_replies_v1 AS r ON r.tenant_id = $1 AND r.response_id = wanted.response_id
"""
_LABELS = """
SELECT i.item_id, i.response_id, encode(i.digest, 'hex') AS asker, coalesce(r.query, i.query) AS query,
    coalesce(r.reward_context, i.context) AS context, i.response, i.label, i.labelled_at
FROM review_items AS i LEFT JOIN training_replies_v1 AS r USING (tenant_id, response_id)
WHERE i.tenant_id = $1 AND i.label > 0 ORDER BY i.item_id
"""
"""Beside the reply's own query and context: reviewers saw a part of them."""


async def count(connection: Connection, tenant: str) -> dict[str, int]:
    """How much feedback there is by reason of REASONS, or "" for what is eligible."""
    rows = await connection.fetch(_COUNTS, tenant, timeout=PATIENCE)
    return {row["reason"]: row["count"] for row in rows}


async def unseen(connection: Connection, tenant: str, since: int | None, most: int) -> int:
    """How much eligible feedback no run has used, of what was given or changed in transactions from `since`
    on; counted up to `most`. In a transaction."""
    await connection.execute(_BY_ITS_VALUES)
    statement, values = (_UNSEEN, ()) if since is None else (_UNSEEN_SINCE, (str(since),))
    found: int = await connection.fetchval(statement, tenant, most, *values, timeout=PATIENCE)
    return found


async def newest(connection: Connection, users: Users, most: int) -> list[Said]:
    """The eligible feedback that was given or changed last."""
    cursor = await connection.cursor(_NEWEST, users.tenant, most, timeout=PATIENCE)
    found: list[Said] = []
    while rows := await cursor.fetch(_BATCH, timeout=PATIENCE):
        found += await asyncio.to_thread(_each_said, rows, users)
    return found


async def labels(connection: Connection, tenant: str) -> list[Label]:
    """What reviewers said."""
    return [_label(row) for row in await connection.fetch(_LABELS, tenant)]


async def replies(connection: Connection, users: Users, said: Iterable[Said]) -> dict[str, Reply]:
    """The replies of these feedback by their ids, each with the candidates that are spoken of."""
    spoken_of: dict[UUID, set[int]] = {}
    for each in said:
        spoken_of.setdefault(UUID(each.response_id), set()).update(each.indexes)
    ids = sorted(spoken_of)
    found: dict[str, Reply] = {}
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        indexes = [f"{{{','.join(map(str, sorted(spoken_of[each])))}}}" for each in batch]
        rows = await connection.fetch(_REPLIES, users.tenant, batch, indexes)
        found |= await asyncio.to_thread(_each_reply, rows, users)
    return found


def _each_reply(rows: Iterable[Any], users: Users) -> dict[str, Reply]:
    return {reply.response_id: reply for row in rows if (reply := _reply(row, users))}


def _reply(row: Any, users: Users) -> Reply | None:
    """None for a row whose shown candidate is not there, or which a newer version wrote in words of its own."""
    each: Iterable[dict[str, Any]] = json.loads(row["candidates"] or "[]")
    candidates = {c["index"]: c for c in each if _readable(c)}
    shown = next((index for index, c in candidates.items() if c["selected"]), None)
    if shown is None:
        return None
    candidates[shown]["probability"] = row["selection_probability"]
    return Reply(
        response_id=str(row["response_id"]),
        asker=users.rater(row["user_id"], row["session_id"], row["response_id"]),
        query=row["query"],
        context=row["reward_context"],
        policy_release=row["policy_release"],
        reward_release=row["reward_release"],
        shown=shown,
        candidates=candidates,
    )


def _readable(candidate: Mapping[str, Any]) -> bool:
    index, text, probability = (candidate[name] for name in ("index", "text", "probability"))
    return isinstance(index, int) and isinstance(text, str) and text != "" and isinstance(probability, int | float)


def _each_said(rows: Iterable[Any], users: Users) -> list[Said]:
    return [_said(row, users) for row in rows]


def _said(row: Any, users: Users) -> Said:
    profile = json.loads(row["user_profile"] or "{}")
    return Said(
        feedback_id=str(row["feedback_id"]),
        revision=row["revision"],
        response_id=str(row["response_id"]),
        rater=users.rater(row["user_id"], row["session_id"], row["response_id"]),
        kind=row["kind"],
        rating_overall=row["rating_overall"],
        rating_dimensions=json.loads(row["rating_dimensions"]),
        text_feedback=row["text_feedback"],
        reaction_type=row["reaction_type"],
        chosen_index=row["chosen_index"],
        rejected_index=row["rejected_index"],
        updated_at=row["updated_at"],
        country=profile.get("country", "") if isinstance(profile, dict) else "",
        new=not row["is_training_data"],
    )


def _label(row: Any) -> Label:
    return Label(
        item_id=str(row["item_id"]),
        response_id=str(row["response_id"] or ""),
        asker=row["asker"],
        query=row["query"],
        context=row["context"],
        response=row["response"],
        stars=row["label"],
        time=row["labelled_at"],
    )
