"""Experiments and their audit in Postgres: `server.experiments.store.Experiments`.

A step is one transaction: the experiment if it is of the version before, and its event.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from server.errors import Conflict, ExperimentNotFound, ExperimentNotPossible, FeedbackNotFound, RequestIdReused
from server.experiments.types import Event, Experiment, Plan, State, Step, Trigger
from server.rollout import documents
from server.rollout.documents import plain
from server.rollout.registry import Looked
from server.rollout.types import Actor, Variation
from server.storage.database import Connection, bounded
from server.storage.releases import READING, WRITING, dump, load
from server.storage.rollouts import DECIDE, as_unreadable
from server.storage.training import as_unavailable

T = TypeVar("T")
_EXPERIMENT = (
    "experiment_id, name, kind, variant, overrides, plan, state, version, reason, started_at, started_by, stopped_at"
)
_CREATE = f"""
INSERT INTO experiments ({_EXPERIMENT}, request_id, fingerprint)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, nullif($13, ''), $14)
ON CONFLICT (request_id) WHERE request_id IS NOT NULL DO NOTHING
"""
_STEP = """
UPDATE experiments SET state = $2, version = $3, reason = $4, stopped_at = $5
WHERE experiment_id = $1 AND version = $3 - 1
"""
_EVENT = "experiment_id, version, at, actor, is_person, trigger, reason, evidence"
_TELL = f"INSERT INTO experiment_events ({_EVENT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
_BY_ID = f"SELECT {_EXPERIMENT} FROM experiments WHERE experiment_id = $1"
_BY_REQUEST = f"SELECT {_EXPERIMENT}, fingerprint FROM experiments WHERE request_id = $1"
_UNDER_WAY = f"SELECT {_EXPERIMENT} FROM experiments WHERE state <> 'stopped' ORDER BY experiment_id"
_PAGE = f"""
SELECT {_EXPERIMENT} FROM experiments
WHERE ($1::uuid IS NULL OR experiment_id < $1) AND ($2::text IS NULL OR kind = $2) AND (NOT $3 OR state <> 'stopped')
ORDER BY experiment_id DESC LIMIT $4
"""
_EVENTS = f"SELECT {_EVENT} FROM experiment_events WHERE experiment_id = $1 ORDER BY version DESC LIMIT $2"
_LOOK = """
INSERT INTO experiment_looks AS known (experiment_id, version, at, reason, evidence)
SELECT experiment_id, $2, $3, $4, $5 FROM experiments WHERE experiment_id = $1 AND version <= $2
ON CONFLICT (experiment_id) DO UPDATE SET version = excluded.version, at = excluded.at, reason = excluded.reason,
    evidence = excluded.evidence
WHERE known.version <= excluded.version
"""
_LOOKED = "SELECT version, at, reason, evidence FROM experiment_looks WHERE experiment_id = $1"
_REPORTED = """
SELECT EXISTS (
    SELECT FROM feedback_data AS f
    JOIN conversation_logs AS l ON l.tenant_id = f.tenant_id AND l.response_id = f.response_id
    WHERE f.tenant_id = $2 AND f.feedback_id = $3 AND f.kind = 'safety_report'
      AND l.assignments @> jsonb_build_array(jsonb_build_object('experiment', $1::text, 'challenger', true))
)
"""


class PostgresExperiments:
    """The store of experiments; every method raises StoreUnavailable, and who reads experiments UnreadableRow."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def now(self) -> datetime:
        """Postgres's clock."""
        found: datetime = await self._do(READING, lambda connection: connection.fetchval("SELECT clock_timestamp()"))
        return found

    async def create(self, step: Step, *, request_id: str = "", fingerprint: bytes = b"") -> Experiment:
        """Stores an experiment that begins and its first event; gives it, or the one that the same request made.

        Raises RequestIdReused, ExperimentNotPossible.
        """

        async def create_in(connection: Connection) -> Experiment:
            async with connection.transaction():
                if found := await _of_request(connection, request_id, fingerprint):
                    return found
                if await _create(connection, step.experiment, request_id, fingerprint):
                    await _tell(connection, step.event)
                    return step.experiment
            found = await _of_request(connection, request_id, fingerprint)  # who came at the same time
            assert found is not None
            return found

        try:
            return await self._do(WRITING, create_in)
        except ExperimentNotPossible:
            # Of two equal requests at once the later one may have met the index of kinds first.
            if found := await self._do(READING, lambda c: _of_request(c, request_id, fingerprint)):
                return found
            raise

    async def apply(self, step: Step) -> None:
        """Stores a step and its event, both or neither. Raises Conflict when the stored experiment is not of the
        version before; ExperimentNotFound."""
        after = step.experiment
        values = after.state.value, after.version, plain(after.reason), after.stopped_at

        async def apply_in(connection: Connection) -> None:
            async with connection.transaction():
                done = await connection.execute(_STEP, UUID(after.experiment_id), *values)
                if done != "UPDATE 1":
                    if await connection.fetchrow(_BY_ID, UUID(after.experiment_id)) is None:
                        raise _not_found()
                    raise Conflict("The experiment has changed: look at it again.")
                await _tell(connection, step.event)

        await self._do(WRITING, apply_in)

    async def get(self, experiment_id: str) -> Experiment:
        """Raises ExperimentNotFound."""
        known = _identifier(experiment_id)
        row = await self._do(READING, lambda connection: connection.fetchrow(_BY_ID, known))
        if row is None:
            raise _not_found()
        return _experiment(row)

    async def under_way(self) -> list[Experiment]:
        """Those that have not stopped, one a kind at most."""
        rows = await self._do(READING, lambda connection: connection.fetch(_UNDER_WAY))
        return [_experiment(row) for row in rows]

    async def page(self, *, size: int, before: str, kind: Variation | None, active_only: bool) -> list[Experiment]:
        """Newest first, those older than the experiment `before` ("": from the newest)."""
        values = _identifier(before) if before else None, kind.value if kind else None, active_only, size
        rows = await self._do(READING, lambda connection: connection.fetch(_PAGE, *values))
        return [_experiment(row) for row in rows]

    async def events(self, experiment_id: str, size: int) -> list[Event]:
        """The newest."""
        known = _identifier(experiment_id)
        rows = await self._do(READING, lambda connection: connection.fetch(_EVENTS, known, size))
        return [_event(row) for row in rows]

    async def look(self, experiment_id: str, looked: Looked) -> None:
        """Keeps what the controller saw last; what is of an older version than the experiment's is dropped."""
        values = looked.version, looked.at, plain(looked.reason), dump(looked.evidence)
        known = _identifier(experiment_id)
        await self._do(WRITING, lambda connection: connection.execute(_LOOK, known, *values))

    async def looked(self, experiment_id: str) -> Looked | None:
        """What `look` kept."""
        known = _identifier(experiment_id)
        row = await self._do(READING, lambda connection: connection.fetchrow(_LOOKED, known))
        return Looked(row["version"], row["at"], row["reason"], load(row["evidence"])) if row else None

    async def decide_report(
        self, experiment_id: str, tenant_id: str, feedback_id: UUID, *, confirmed: bool, by: str, note: str
    ) -> None:
        """Keeps what a person makes of a safety report on a reply of the variant; the last decision counts.

        Raises FeedbackNotFound.
        """

        async def decide_in(connection: Connection) -> None:
            if not await connection.fetchval(_REPORTED, experiment_id, tenant_id, feedback_id):
                raise FeedbackNotFound("There is no such safety report on a reply of this experiment's variant.")
            await connection.execute(DECIDE, tenant_id, feedback_id, confirmed, by, plain(note), [])

        await self._do(WRITING, decide_in)

    async def _do(self, seconds: float, work: Callable[[Connection], Awaitable[T]]) -> T:
        with as_unavailable("experiments"):
            return await bounded(self._pool, seconds, work)


async def _create(connection: Connection, experiment: Experiment, request_id: str, fingerprint: bytes) -> bool:
    """Whether it was stored: not when a request of this id was at the same time."""
    values = (
        *(UUID(experiment.experiment_id), experiment.name, experiment.kind.value, experiment.variant),
        *(dump(experiment.overrides), dump(experiment.plan.model_dump(mode="json"))),
        *(experiment.state.value, experiment.version, experiment.reason),
        *(experiment.started_at, experiment.started_by, experiment.stopped_at),
    )
    try:
        made = await connection.execute(_CREATE, *values, request_id, fingerprint)
    except asyncpg.UniqueViolationError:
        raise ExperimentNotPossible(
            f"Another experiment of the kind {experiment.kind} is under way, and each kind has one at a time: stop it,"
            " or wait for its end."
        ) from None
    return bool(made == "INSERT 0 1")


async def _tell(connection: Connection, event: Event) -> None:
    evidence = dump(documents.of_evidence(event.evidence)) if event.evidence else None
    who = event.actor.name, event.actor.is_person, event.trigger.value
    await connection.execute(
        _TELL, UUID(event.experiment_id), event.version, event.at, *who, plain(event.reason), evidence
    )


async def _of_request(connection: Connection, request_id: str, fingerprint: bytes) -> Experiment | None:
    """The experiment that a request of this id made. Raises RequestIdReused when that asked for something else."""
    row = await connection.fetchrow(_BY_REQUEST, request_id) if request_id else None
    if row is not None and row["fingerprint"] != fingerprint:
        raise RequestIdReused(
            f"The request_id {request_id!r} was used before for a different experiment; use a new one."
        )
    return _experiment(row) if row is not None else None


def _identifier(experiment_id: str) -> UUID:
    """Raises ExperimentNotFound for what is no id."""
    try:
        return UUID(experiment_id)
    except ValueError:
        raise _not_found() from None


def _not_found() -> ExperimentNotFound:
    return ExperimentNotFound("There is no experiment of this id.")


def _experiment(row: Any) -> Experiment:
    """Raises UnreadableRow."""
    with as_unreadable(f"The experiment {row['name']}"):
        return _experiment_of(row)


def _event(row: Any) -> Event:
    """Raises UnreadableRow."""
    with as_unreadable(f"Version {row['version']} of the experiment {row['experiment_id']}"):
        return _event_of(row)


def _experiment_of(row: Any) -> Experiment:
    return Experiment(
        experiment_id=str(row["experiment_id"]),
        name=row["name"],
        kind=Variation(row["kind"]),
        variant=row["variant"],
        overrides=load(row["overrides"]),
        plan=Plan.model_validate(load(row["plan"])),
        started_at=row["started_at"],
        started_by=row["started_by"],
        state=State(row["state"]),
        version=row["version"],
        reason=row["reason"],
        stopped_at=row["stopped_at"],
    )


def _event_of(row: Any) -> Event:
    evidence = load(row["evidence"])
    return Event(
        experiment_id=str(row["experiment_id"]),
        version=row["version"],
        at=row["at"],
        actor=Actor(row["actor"], row["is_person"]),
        trigger=Trigger(row["trigger"]),
        reason=row["reason"],
        evidence=documents.evidence(evidence) if evidence else None,
    )
