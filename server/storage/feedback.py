"""Feedback in Postgres: given, edited, withdrawn. Reading it is in `feedback_reading`.

A change is one transaction: the request's id, the current feedback and its revision appear together or not at all. Of
those who change one feedback at the same time, each builds upon the one before.

Whoever claims a request's id holds a feedback of the same user until the transaction ends, and an erasure waits for
that before it deletes the ids: none is left behind.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import uuid_utils

from server.errors import FeedbackNotFound, ResponseNotFound, StoreUnavailable, told
from server.feedback.types import (
    Change,
    Effect,
    Feedback,
    GivenReply,
    Kept,
    Kind,
    Opinion,
    Reaction,
    SafetyCategory,
    Standing,
    following,
    lesson_weight,
)
from server.storage.database import GONE, WAIT_AND_RETRY, Connection, bounded
from server.storage.erasure import Digest, nobody
from server.storage.feedback_requests import NO_REPLY, REACHED, RequestKey, claim, forget, repeated, require_same, scope

WRITING = 5.0
"""Seconds after which the connection is cut off on which Postgres has not answered."""
_SAID = "rating_overall, rating_dimensions, text_feedback, reaction_type, safety_category, chosen_index, rejected_index"
SHOWN = (
    f'feedback_id, response_id, user_id, session_id, kind, {_SAID}, "timestamp", updated_at, revision, withdrawn,'
    " policy_release, reward_release, arm, arm_share, selection_probability, is_training_data, learned_weight"
)
"""The columns of `Feedback`."""
CONTEXT = """jsonb_build_object(
    'query', logs.query,
    'previous_messages', coalesce(logs.context -> 'turns', '[]'),
    'user_profile', coalesce(logs.context -> 'profile' -> 'attributes', '{}')
)"""
"""What a feedback keeps of the conversation that its reply, in `logs`, belongs to."""

_LOOK = f"""
SELECT keys.fingerprint, logs.session_id, logs."timestamp", logs.policy_release, logs.reward_release,
    logs.response_id IS NOT NULL AS logged, {REACHED.format(digest="$6", response="$5")} AS erased
FROM (SELECT) AS always
LEFT JOIN feedback_requests AS keys
    ON keys.tenant_id = $1 AND keys.user_id = $2 AND keys.response_id = $3 AND keys.request_id = $4
LEFT JOIN conversation_logs AS logs ON logs.tenant_id = $1 AND logs.response_id = $5 AND logs.user_id = $2
"""
"""Another user's reply and one that does not exist look the same already here, and take the same time."""

_REVISE = f"""
INSERT INTO feedback_revisions (tenant_id, feedback_id, revision, {_SAID}, withdrawn, recorded_at)
SELECT tenant_id, feedback_id, revision, {_SAID}, withdrawn, updated_at FROM changed
"""
_GIVE = f"""
WITH changed AS (
    INSERT INTO feedback_data (
        tenant_id, response_id, user_id, kind, {_SAID}, updated_at, "timestamp", feedback_id, session_id,
        policy_release, reward_release, learned_weight, context, arm, arm_share, selection_probability
    )
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, $14, $15, $16,
        CASE WHEN logs.response_id IS NULL THEN 0 ELSE $17::float8 END,
        CASE WHEN logs.response_id IS NOT NULL THEN {CONTEXT} END,
        logs.arm, logs.arm_share, logs.selection_probability
    FROM (SELECT) AS always
    LEFT JOIN conversation_logs AS logs ON logs.tenant_id = $1 AND logs.response_id = $2 AND logs.user_id = $3
    WHERE NOT {REACHED.format(digest="$18", response="$2")}
    ON CONFLICT (tenant_id, response_id, user_id, kind) DO NOTHING
    RETURNING *
), revised AS ({_REVISE}), claimed AS (
    INSERT INTO feedback_requests (tenant_id, user_id, response_id, request_id, fingerprint)
    SELECT $1, $3, $21, $19, $20 FROM changed WHERE $19::text <> ''
)
SELECT {SHOWN} FROM changed
"""
"""A first feedback, with the id of its request, where that has one: whole, or not at all."""
_CHANGE = f"""
WITH changed AS (
    UPDATE feedback_data SET
        rating_overall = $5, rating_dimensions = $6, text_feedback = $7, reaction_type = $8, safety_category = $9,
        chosen_index = $10, rejected_index = $11, updated_at = greatest(updated_at, $12),
        withdrawn = $13, revision = revision + 1, is_training_data = false,
        learned_weight = CASE WHEN context IS NULL THEN learned_weight ELSE $14::float8 END
    WHERE tenant_id = $1 AND response_id = $2 AND user_id = $3 AND kind = $4
    RETURNING *
), revised AS ({_REVISE})
SELECT {SHOWN} FROM changed
"""
"""A training run that used it has learned from other words: after an edit it counts as unused."""
_CURRENT = f"""
SELECT {SHOWN} FROM feedback_data WHERE tenant_id = $1 AND response_id = $2 AND user_id = $3 AND kind = ANY($4::text[])
"""
_OWN = f"SELECT {SHOWN} FROM feedback_data WHERE tenant_id = $1 AND user_id = $2 AND feedback_id = $3"


_NO_FEEDBACK = "This user gave no such feedback."
_CLAIMED_BEFORE = RequestKey("", b"")
"""For what is given in a transaction that claimed the request's id already."""


@dataclass(frozen=True, slots=True)
class Seen:
    """`reply`, if its log row says that this user got it; whether the request was done before; whether the user was
    erased since the reply."""

    reply: GivenReply | None
    repeated: bool
    erased: bool


@dataclass(frozen=True, slots=True)
class Submission:
    """What a user says of a reply, now. At most one change of each kind."""

    reply: GivenReply
    changes: tuple[Change, ...]
    key: RequestKey
    at: datetime


class PostgresFeedback:
    """The feedback of all tenants. Every method raises StoreUnavailable. The pool is the caller's.

    `digest` finds users who were erased: nothing more is taken of what they got before, whatever receipts they hold.
    """

    def __init__(self, pool: asyncpg.Pool, digest: Digest = nobody) -> None:
        self._pool, self._digest = pool, digest

    async def look(self, tenant: str, key: RequestKey, response_id: UUID, user: str) -> Seen:
        """What there is of a request and its reply. Raises RequestIdReused."""
        wanted = (tenant, user, scope(user, response_id), key.id, response_id, self._digest(tenant, user))
        with answering():
            row: Any = await bounded(self._pool, WRITING, lambda c: c.fetchrow(_LOOK, *wanted))
        if known := row["fingerprint"] is not None:
            require_same(key, row["fingerprint"])
        facts = (row[name] for name in ("session_id", "timestamp", "policy_release", "reward_release"))
        reply = GivenReply(tenant, response_id, user, *facts) if row["logged"] else None
        return Seen(reply, repeated=known, erased=row["erased"])

    async def current(self, tenant: str, response_id: UUID, user: str, kinds: Sequence[Kind]) -> list[Feedback]:
        """The user's feedback on a reply, of those kinds that there are, in this order."""
        with answering():
            return await bounded(self._pool, WRITING, lambda c: _current(c, tenant, response_id, user, kinds))

    async def submit(self, submission: Submission) -> list[Kept]:
        """Makes the changes; a request that was done before changes nothing. Raises RequestIdReused, and
        ResponseNotFound when the user was erased since the reply."""
        digest = self._digest(submission.reply.tenant_id, submission.reply.user_id)
        if len(submission.changes) == 1 and (first := await self._first(submission, digest)):
            return [first]

        async def change(connection: Connection) -> list[Kept]:
            async with connection.transaction():
                return await _submit(connection, submission, digest)

        with answering():
            return await bounded(self._pool, WRITING, change)

    async def _first(self, submission: Submission, digest: bytes) -> Kept | None:
        """The feedback, in one round trip, where it is the first one and its request the first of its id."""
        (change,) = submission.changes
        if (standing := following(None, change)) is None:
            return None
        giving = partial(
            _give, submission=submission, kind=change.kind, standing=standing, digest=digest, key=submission.key
        )
        try:
            with answering():
                return await bounded(self._pool, WRITING, giving)
        except asyncpg.UniqueViolationError:  # the request's id is taken
            return None

    async def withdraw(self, tenant: str, user: str, feedback_id: UUID, key: RequestKey, at: datetime) -> Kept:
        """Takes the feedback back, unless it was before. Raises FeedbackNotFound, RequestIdReused."""

        digest = self._digest(tenant, user)

        async def change(connection: Connection) -> Kept:
            async with connection.transaction():
                row = await connection.fetchrow(f"{_OWN} FOR UPDATE", tenant, user, feedback_id)
                if row is None:
                    raise FeedbackNotFound(_NO_FEEDBACK)
                return await _withdraw(connection, tenant, feedback_of(row), key, digest, at)

        with answering():
            return await bounded(self._pool, WRITING, change)

    async def forget_requests(self, before: datetime, limit: int) -> int:
        """Forgets requests that were done before that moment, `limit` at most, the oldest first; how many it were."""
        with answering():
            return await bounded(self._pool, WRITING, lambda c: forget(c, before, limit))


@contextmanager
def answering() -> Iterator[None]:
    """Turns what says that Postgres is away or out of time into StoreUnavailable."""
    try:
        yield
    except (*GONE, *WAIT_AND_RETRY, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError) as error:
        raise StoreUnavailable(f"The store of feedback did not answer: {told(error)}.") from error


def feedback_of(row: Any) -> Feedback:
    """The feedback of a row with the columns SHOWN."""
    return Feedback(
        **{
            **row,
            "kind": Kind(row["kind"]),
            "rating_dimensions": json.loads(row["rating_dimensions"]),
            "reaction_type": Reaction(row["reaction_type"]) if row["reaction_type"] else None,
            "safety_category": SafetyCategory(row["safety_category"]) if row["safety_category"] else None,
        }
    )


async def _current(
    connection: Connection, tenant: str, response_id: UUID, user: str, kinds: Sequence[Kind]
) -> list[Feedback]:
    rows = await connection.fetch(_CURRENT, tenant, response_id, user, list(kinds))
    return sorted(map(feedback_of, rows), key=lambda each: kinds.index(each.kind))


async def _locked(connection: Connection, reply: GivenReply, kinds: Sequence[Kind]) -> dict[Kind, Feedback]:
    """The user's feedback on the reply, by kind: nobody else changes it until the transaction ends."""
    place = (reply.tenant_id, reply.response_id, reply.user_id)
    rows = await connection.fetch(f"{_CURRENT} ORDER BY kind FOR UPDATE", *place, list(kinds))
    return {each.kind: each for each in map(feedback_of, rows)}


async def _submit(connection: Connection, submission: Submission, digest: bytes) -> list[Kept]:
    """Makes the changes in the transaction that is open."""
    reply, changes = submission.reply, submission.changes
    tenant, response_id, user = reply.tenant_id, reply.response_id, reply.user_id
    kinds = [change.kind for change in changes]
    known = await _locked(connection, reply, kinds)
    if not known and not any(following(None, change) for change in changes):
        return []  # there is nothing to hold on to, so its request leaves no trace
    if not await claim(connection, tenant, user, response_id, submission.key, digest):
        now = await _current(connection, tenant, response_id, user, kinds)
        return [Kept(each, Effect.UNCHANGED) for each in now]
    made = [await _apply(connection, submission, change, known.get(change.kind), digest) for change in changes]
    return [kept for kept in made if kept is not None]


async def _apply(
    connection: Connection, submission: Submission, change: Change, known: Feedback | None, digest: bytes
) -> Kept | None:
    """The feedback of one kind, `known` and locked before, after the change; None when there is none, before or
    after."""
    if known is None:
        if (first := following(None, change)) is None:
            return None
        if given := await _give(connection, submission, change.kind, first, digest, _CLAIMED_BEFORE):
            return given
        known = (await _locked(connection, submission.reply, [change.kind])).get(change.kind)
        if known is None:  # the user was erased
            raise ResponseNotFound(NO_REPLY)
    after = following(known.standing, change)
    if after is None:
        return Kept(known, Effect.UNCHANGED)
    return await _write(connection, submission.reply.tenant_id, known, after, submission.at)


async def _withdraw(
    connection: Connection, tenant: str, known: Feedback, key: RequestKey, digest: bytes, at: datetime
) -> Kept:
    """Takes back the feedback, whose row is locked. Where that changes nothing its request leaves no trace."""
    user, response_id = known.user_id, known.response_id
    if known.withdrawn:
        await repeated(connection, tenant, user, response_id, key)
        return Kept(known, Effect.UNCHANGED)
    try:
        first = await claim(connection, tenant, user, response_id, key, digest)
    except ResponseNotFound as error:
        raise FeedbackNotFound(_NO_FEEDBACK) from error
    if not first:
        return Kept(known, Effect.UNCHANGED)
    return await _write(connection, tenant, known, replace(known.standing, withdrawn=True), at)


async def _give(
    connection: Connection, submission: Submission, kind: Kind, standing: Standing, digest: bytes, key: RequestKey
) -> Kept | None:
    """A first feedback; None when there is one already, or the user was erased since the reply."""
    reply = submission.reply
    row = await connection.fetchrow(
        _GIVE,
        reply.tenant_id,
        reply.response_id,
        reply.user_id,
        kind,
        *_said(standing.opinion),
        submission.at,
        UUID(int=uuid_utils.uuid7().int),
        reply.session_id,
        reply.policy_release,
        reply.reward_release,
        lesson_weight(kind, standing) if reply.user_id else 0.0,
        digest,
        key.id,
        key.fingerprint,
        scope(reply.user_id, reply.response_id),
    )
    if row is None:
        return None
    given = feedback_of(row)
    return Kept(given, Effect.GIVEN, given.learned_weight)


async def _write(connection: Connection, tenant: str, known: Feedback, after: Standing, at: datetime) -> Kept:
    """Puts `after` in the place of `known`, whose row is locked."""
    weight = lesson_weight(known.kind, after) if known.user_id else 0.0
    place = (tenant, known.response_id, known.user_id, known.kind)
    row = await connection.fetchrow(_CHANGE, *place, *_said(after.opinion), at, after.withdrawn, weight)
    changed = feedback_of(row)
    effect = Effect.WITHDRAWN if after.withdrawn else Effect.GIVEN if known.withdrawn else Effect.EDITED
    return Kept(changed, effect, changed.learned_weight - known.learned_weight)


def _said(opinion: Opinion) -> tuple[Any, ...]:
    """In the order of _SAID."""
    return (
        opinion.rating_overall,
        json.dumps(dict(opinion.rating_dimensions)),
        opinion.text_feedback,
        opinion.reaction_type,
        opinion.safety_category,
        opinion.chosen_index,
        opinion.rejected_index,
    )
