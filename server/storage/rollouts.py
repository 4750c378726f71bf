"""Rollouts and their audit in Postgres: `server.rollout.store.Rollouts`.

A step is one transaction: the rollout if it is of the version before, its event, and the champion where it changes. Who
dies before the commit has changed nothing, and of two writers one waits for the other and finds another version.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from server.errors import FeedbackNotFound, RequestIdReused, RolloutNotFound, UnreadableRow
from server.rollout import documents
from server.rollout.documents import plain
from server.rollout.errors import RolloutChanged, RolloutNotPossible
from server.rollout.registry import Assignment, Looked
from server.rollout.types import Actor, Event, Kind, Move, Rollout, State, Trigger
from server.storage.database import Connection
from server.storage.releases import READING, WRITING, dump, load, not_published
from server.storage.retirements import PostgresRetirements

_ENDED = "('draft', 'verified', 'rolled_back', 'failed')"
_ROLLOUT = (
    "rollout_id, kind, challenger, champion, plan, state, stage, version, since, served, lost, resumes_to, pauses,"
    " drain_seconds, undoes"
)
_CREATE = f"""
INSERT INTO rollouts ({_ROLLOUT}, created_at, created_by, request_id, fingerprint)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, nullif($18, ''), $19)
ON CONFLICT (request_id) WHERE request_id IS NOT NULL DO NOTHING
"""
_STEP = """
UPDATE rollouts SET champion = $2, state = $3, stage = $4, version = $5, since = $6, served = $7, lost = $8,
    resumes_to = $9, pauses = $10
WHERE rollout_id = $1 AND version = $5 - 1
"""
_EVENT = "rollout_id, version, at, actor, is_person, trigger, before, after, reason, evidence"
_TELL = f"INSERT INTO rollout_events ({_EVENT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_CROWN = """
INSERT INTO champions (kind, release, since) VALUES ($1, $2, $3)
ON CONFLICT (kind) DO UPDATE SET release = excluded.release, since = excluded.since
"""
_CHAMPION = "SELECT release FROM champions WHERE kind = $1 FOR SHARE"
_RETIRED = "SELECT retired_at IS NOT NULL FROM releases WHERE release = $1"
_BY_ID = f"SELECT {_ROLLOUT} FROM rollouts WHERE rollout_id = $1"
_BY_REQUEST = f"SELECT {_ROLLOUT}, fingerprint FROM rollouts WHERE request_id = $1"
_VERSION = "SELECT version FROM rollouts WHERE rollout_id = $1"
_CHALLENGER = "SELECT challenger FROM rollouts WHERE rollout_id = $1"
_ACTIVE = f"""
SELECT {_ROLLOUT} FROM rollouts
WHERE state NOT IN {_ENDED} OR state = 'verified' AND since > clock_timestamp() - make_interval(secs => drain_seconds)
ORDER BY rollout_id
"""
_PAGE = f"""
SELECT {_ROLLOUT} FROM rollouts
WHERE ($1::uuid IS NULL OR rollout_id < $1) AND ($2::text IS NULL OR kind = $2) AND (NOT $3 OR state NOT IN {_ENDED})
ORDER BY rollout_id DESC LIMIT $4
"""
_CREATED = "SELECT rollout_id, created_at, created_by FROM rollouts WHERE rollout_id = ANY($1::uuid[])"
_EVENTS = f"""
SELECT {_EVENT} FROM rollout_events WHERE rollout_id = $1 AND ($2 = 0 OR version < $2) ORDER BY version DESC LIMIT $3
"""
_LOOK = """
INSERT INTO rollout_looks AS known (rollout_id, version, at, reason, evidence)
SELECT rollout_id, $2, $3, $4, $5 FROM rollouts WHERE rollout_id = $1 AND version <= $2
ON CONFLICT (rollout_id) DO UPDATE SET version = excluded.version, at = excluded.at, reason = excluded.reason,
    evidence = excluded.evidence
WHERE known.version <= excluded.version
"""
_LOOKED = "SELECT version, at, reason, evidence FROM rollout_looks WHERE rollout_id = $1"
_FAILED = """
INSERT INTO rollout_failures (rollout_id, stage, challenger, sticky, tenant_id, digest, reason)
SELECT part.rollout_id, part.stage, part.challenger, part.sticky AND NOT erased, $5,
    CASE WHEN erased THEN '' ELSE $6::bytea END, $7
FROM unnest($1::uuid[], $2::int[], $3::boolean[], $4::boolean[]) AS part (rollout_id, stage, challenger, sticky), (
    SELECT EXISTS (
        SELECT FROM erasures WHERE tenant_id = $5 AND digest = $6 AND erased_at > now() - interval '15 min'
    ) AS erased
) AS lately
"""
"""The call of somebody who was erased lately may have come in before that: it is counted as nobody's."""
_REPORTED = """
SELECT EXISTS (
    SELECT FROM feedback_data AS f JOIN rollouts AS r ON r.rollout_id = $1
    LEFT JOIN conversation_logs AS l ON l.tenant_id = f.tenant_id AND l.response_id = f.response_id
    LEFT JOIN safety_decisions AS d ON d.tenant_id = f.tenant_id AND d.feedback_id = f.feedback_id
    WHERE f.tenant_id = $2 AND f.feedback_id = $3 AND f.kind = 'safety_report'
        AND (NOT f.withdrawn OR d.confirmed IS NOT NULL) AND (
        l.assignments @> jsonb_build_array(jsonb_build_object('experiment', r.rollout_id, 'challenger', true))
        OR l.response_id IS NULL
            AND CASE r.kind WHEN 'policy' THEN f.policy_release ELSE f.reward_release END = r.challenger
    )
)
"""
"""A reply whose row still waits in a spool is known by its release alone. What was decided may be decided again."""
DECIDE = """
INSERT INTO safety_decisions (tenant_id, feedback_id, confirmed, decided_by, note, releases)
VALUES ($1, $2, $3, $4, $5, coalesce((
    SELECT array_agg(DISTINCT part ->> 'release') FILTER (WHERE part ->> 'release' IS NOT NULL)
    FROM feedback_data AS f JOIN conversation_logs AS l ON l.tenant_id = f.tenant_id AND l.response_id = f.response_id
    CROSS JOIN jsonb_path_query(l.assignments, '$[*] ? (@.challenger == true)') AS part
    WHERE f.tenant_id = $1 AND f.feedback_id = $2
), $6))
ON CONFLICT (tenant_id, feedback_id) DO UPDATE SET confirmed = excluded.confirmed, decided_by = excluded.decided_by,
    note = excluded.note, releases = excluded.releases, decided_at = now()
"""
"""With all challengers that gave the reply; while its row waits in a spool, with whom the decision is about."""
CONDEMNED = "SELECT count(*) FROM safety_decisions WHERE confirmed AND releases @> ARRAY[{0}::text]"
"""In any rollout: what people found unsafe once is not rolled out again. To be formatted with the release."""


class PostgresRollouts(PostgresRetirements):
    """The store of rollouts; every method raises StoreUnavailable, and who reads rollouts UnreadableRow."""

    async def create(self, move: Move, *, request_id: str = "", fingerprint: bytes = b"") -> Rollout:
        """Stores a draft and its first event; gives it, or the rollout that the same request made before.

        Raises RequestIdReused, ReleaseNotFound, RolloutNotFound (what it undoes).
        """

        async def create_in(connection: Connection) -> Rollout:
            async with connection.transaction():
                if found := await _of_request(connection, request_id, fingerprint):
                    return found
                if await _create(connection, move, request_id, fingerprint):
                    await _tell(connection, move.event)
                    return move.rollout
            found = await _of_request(connection, request_id, fingerprint)  # who came at the same time
            assert found is not None
            return found

        return await self._do(WRITING, create_in)

    async def requested(self, request_id: str, fingerprint: bytes) -> Rollout | None:
        """What a request of this id made before, as it is now; None of a new one. Raises RequestIdReused."""
        return await self._do(READING, lambda connection: _of_request(connection, request_id, fingerprint))

    async def apply(self, move: Move) -> None:
        """Stores a step, its event and its champion, all or nothing.

        Raises RolloutChanged when the stored rollout is not of the version before, or the champion is not who it was
        started against; RolloutNotFound; RolloutNotPossible when another of its kind is under way.
        """

        async def apply_in(connection: Connection) -> None:
            async with connection.transaction():
                await _step(connection, move.rollout)
                if move.event.trigger is Trigger.START:
                    await _require_champion(connection, move.rollout)
                    await _require_unretired(connection, move.rollout.challenger)
                if move.rollout.state is State.VERIFIED:
                    rollout = move.rollout
                    await connection.execute(_CROWN, rollout.kind.value, rollout.challenger, rollout.since)
                await _tell(connection, move.event)

        await self._do(WRITING, apply_in)

    async def get(self, rollout_id: str) -> Rollout:
        """Raises RolloutNotFound."""
        known = identifier(rollout_id)
        row = await self._do(READING, lambda connection: connection.fetchrow(_BY_ID, known))
        if row is None:
            raise _not_found()
        return _rollout(row)

    async def created(self, rollout_ids: Sequence[str]) -> dict[str, tuple[datetime, str]]:
        """When, and by whom, each was drafted."""
        known = [identifier(each) for each in rollout_ids]
        rows = await self._do(READING, lambda connection: connection.fetch(_CREATED, known))
        return {str(row["rollout_id"]): (row["created_at"], row["created_by"]) for row in rows}

    async def active(self) -> list[Rollout]:
        """Those under way, of all kinds, and those VERIFIED whose former champion may still have calls."""
        rows = await self._do(READING, lambda connection: connection.fetch(_ACTIVE))
        return [_rollout(row) for row in rows]

    async def page(self, *, size: int, before: str, kind: Kind | None, active_only: bool) -> list[Rollout]:
        """Newest first, those older than the rollout `before` ("": from the newest)."""
        values = identifier(before) if before else None, kind.value if kind else None, active_only, size
        rows = await self._do(READING, lambda connection: connection.fetch(_PAGE, *values))
        return [_rollout(row) for row in rows]

    async def events(self, rollout_id: str, *, size: int, before: int) -> list[Event]:
        """Newest first, of versions below `before` (0: from the newest)."""
        values = identifier(rollout_id), before, size
        rows = await self._do(READING, lambda connection: connection.fetch(_EVENTS, *values))
        return [_event(row) for row in rows]

    async def look(self, rollout_id: str, looked: Looked) -> None:
        """Keeps what the controller saw last; what is of an older version than the rollout's is dropped."""
        values = looked.version, looked.at, plain(looked.reason), dump(looked.evidence)
        known = identifier(rollout_id)
        await self._do(WRITING, lambda connection: connection.execute(_LOOK, known, *values))

    async def looked(self, rollout_id: str) -> Looked | None:
        """What `look` kept."""
        known = identifier(rollout_id)
        row = await self._do(READING, lambda connection: connection.fetchrow(_LOOKED, known))
        return Looked(row["version"], row["at"], row["reason"], load(row["evidence"])) if row else None

    async def failed(self, tenant_id: str, digest: bytes, assignments: Sequence[Assignment], reason: str) -> None:
        """Notes a call of experiments that gave no reply. `digest`: of its user or session, see `storage.erasure`."""
        columns = (
            [identifier(each.experiment) for each in assignments],
            [each.stage for each in assignments],
            [each.challenger for each in assignments],
            [each.sticky for each in assignments],
        )
        if assignments:
            values = *columns, tenant_id, digest, plain(reason)
            await self._do(WRITING, lambda connection: connection.execute(_FAILED, *values))

    async def decide_report(
        self, rollout_id: str, tenant_id: str, feedback_id: UUID, *, confirmed: bool, by: str, note: str
    ) -> None:
        """Keeps what a person makes of a safety report on a reply of the challenger; the last decision counts.

        Raises RolloutNotFound, FeedbackNotFound.
        """
        known = identifier(rollout_id)

        async def decide_in(connection: Connection) -> None:
            challenger = await connection.fetchval(_CHALLENGER, known)
            if challenger is None:
                raise _not_found()
            if not await connection.fetchval(_REPORTED, known, tenant_id, feedback_id):
                raise FeedbackNotFound("There is no such safety report on a reply of this rollout's challenger.")
            await connection.execute(DECIDE, tenant_id, feedback_id, confirmed, by, plain(note), [challenger])

        await self._do(WRITING, decide_in)


def identifier(rollout_id: str) -> UUID:
    """Raises RolloutNotFound for what is no id."""
    try:
        return UUID(rollout_id)
    except ValueError:
        raise _not_found() from None


async def _create(connection: Connection, move: Move, request_id: str, fingerprint: bytes) -> bool:
    """Whether it was stored: not when a request of this id was at the same time."""
    rollout, event = move.rollout, move.event
    fixed = UUID(rollout.rollout_id), rollout.kind.value, rollout.challenger, rollout.champion
    now = rollout.state.value, rollout.stage, rollout.version, rollout.since, rollout.served, rollout.lost
    pauses = rollout.resumes_to, dump(documents.of_pauses(rollout.pauses))
    undoes = UUID(rollout.undoes) if rollout.undoes else None
    plan = dump(documents.of_plan(rollout.plan))
    asked = event.at, event.actor.name, request_id, fingerprint
    try:
        made = await connection.execute(_CREATE, *fixed, plan, *now, *pauses, rollout.drain_seconds, undoes, *asked)
    except asyncpg.ForeignKeyViolationError as error:
        if error.constraint_name == "rollouts_undoes_fkey":
            raise _not_found() from None
        missing = rollout.champion if error.constraint_name == "rollouts_champion_fkey" else rollout.challenger
        raise not_published(missing) from None
    return bool(made == "INSERT 0 1")


async def _step(connection: Connection, rollout: Rollout) -> None:
    values = (
        *(UUID(rollout.rollout_id), rollout.champion, rollout.state.value, rollout.stage, rollout.version),
        *(rollout.since, rollout.served, rollout.lost, rollout.resumes_to, dump(documents.of_pauses(rollout.pauses))),
    )
    try:
        done = await connection.execute(_STEP, *values)
    except asyncpg.UniqueViolationError:
        raise RolloutNotPossible(
            f"Another rollout of a {rollout.kind} release is under way, and each kind has one at a time: wait for it,"
            " or roll it back."
        ) from None
    if done == "UPDATE 1":
        return
    version = await connection.fetchval(_VERSION, values[0])
    if version is None:
        raise _not_found()
    raise RolloutChanged(f"The rollout is at version {version}, no longer at {rollout.version - 1}: look at it again.")


async def _require_champion(connection: Connection, rollout: Rollout) -> None:
    """Nobody else of its kind is under way by now, so that no other rollout changes the champion any more; who would
    crown what the settings name waits until this one is known."""
    champion = await connection.fetchval(_CHAMPION, rollout.kind.value)
    if champion != rollout.champion:
        raise RolloutChanged(
            f"The champion is {champion or 'nobody'}, no longer {rollout.champion}: look at the rollout again."
        )


async def _require_unretired(connection: Connection, challenger: str) -> None:
    """Who retires a release holds the champion of its kind, as we do by now."""
    if await connection.fetchval(_RETIRED, challenger):
        raise RolloutNotPossible(f"{challenger} was retired: publish it again first.")


async def _tell(connection: Connection, event: Event) -> None:
    before = dump(documents.of_position(event.before)) if event.before else None
    evidence = dump(documents.of_evidence(event.evidence)) if event.evidence else None
    who = event.actor.name, event.actor.is_person, event.trigger.value
    what = before, dump(documents.of_position(event.after)), plain(event.reason), evidence
    await connection.execute(_TELL, UUID(event.rollout_id), event.version, event.at, *who, *what)


async def _of_request(connection: Connection, request_id: str, fingerprint: bytes) -> Rollout | None:
    """The rollout that a request of this id made. Raises RequestIdReused when that asked for something else."""
    row = await connection.fetchrow(_BY_REQUEST, request_id) if request_id else None
    if row is not None and row["fingerprint"] != fingerprint:
        raise RequestIdReused(f"The request_id {request_id!r} was used before for a different rollout; use a new one.")
    return _rollout(row) if row is not None else None


def _not_found() -> RolloutNotFound:
    return RolloutNotFound("There is no rollout of this id.")


def _rollout(row: Any) -> Rollout:
    """Raises UnreadableRow."""
    with as_unreadable(f"The rollout {row['rollout_id']}"):
        return _rollout_of(row)


def _event(row: Any) -> Event:
    """Raises UnreadableRow."""
    with as_unreadable(f"Version {row['version']} of the rollout {row['rollout_id']}"):
        return _event_of(row)


@contextmanager
def as_unreadable(what: str) -> Iterator[None]:
    """Says of `what` can't be read that a newer version wrote it. Raises UnreadableRow."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableRow(f"{what} was written by a newer Ratchet, in words that this one can't read.") from error


def _rollout_of(row: Any) -> Rollout:
    return Rollout(
        rollout_id=str(row["rollout_id"]),
        kind=Kind(row["kind"]),
        challenger=row["challenger"],
        champion=row["champion"],
        plan=documents.plan(load(row["plan"])),
        drain_seconds=row["drain_seconds"],
        since=row["since"],
        state=State(row["state"]),
        stage=row["stage"],
        version=row["version"],
        served=row["served"],
        lost=row["lost"],
        resumes_to=State(row["resumes_to"]) if row["resumes_to"] else None,
        pauses=documents.pauses(load(row["pauses"])),
        undoes=str(row["undoes"]) if row["undoes"] else "",
    )


def _event_of(row: Any) -> Event:
    evidence = load(row["evidence"])
    return Event(
        rollout_id=str(row["rollout_id"]),
        version=row["version"],
        at=row["at"],
        actor=Actor(row["actor"], row["is_person"]),
        trigger=Trigger(row["trigger"]),
        before=documents.position(load(row["before"])) if row["before"] else None,
        after=documents.position(load(row["after"])),
        reason=row["reason"],
        evidence=documents.evidence(evidence) if evidence else None,
    )
