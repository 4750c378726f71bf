"""Releases, champions and rollouts in the tests' one database, whose kinds have one rollout under way each."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from server.rollout.commands import draft
from server.rollout.guards import Look
from server.rollout.machine import move
from server.rollout.plan import Plan
from server.rollout.registry import Published
from server.rollout.types import CONTROLLER, Actor, Kind, Move, Rollout, Trigger
from server.storage.rollouts import PostgresRollouts
from server.storage.training import new_id
from tests.rollouts import good

LAN = Actor("lan", is_person=True)


async def settle(pool: asyncpg.Pool) -> None:
    """Ends what other tests left under way, and takes the champions' crowns."""
    await pool.execute(
        "UPDATE rollouts SET state = 'failed', resumes_to = NULL, pauses = '[]', version = version + 1"
        " WHERE state NOT IN ('draft', 'verified', 'rolled_back', 'failed')"
    )
    await pool.execute("UPDATE rollouts SET since = '2020-01-01' WHERE state = 'verified'")
    await pool.execute("DELETE FROM champions")
    await pool.execute("DELETE FROM replica_models")


async def no_rollout_made_the_champion(pool: asyncpg.Pool) -> None:
    """Other tests' did."""
    await pool.execute("UPDATE rollouts SET state = 'failed' WHERE state = 'verified'")


def a_release(kind: Kind = Kind.REWARD, **changes: Any) -> Published:
    """One that nobody else has."""
    name = f"{kind}-{uuid4().hex}"
    basis = Published(
        release=name,
        kind=kind,
        manifest={"release": name, "kind": kind.value},
        digest=hashlib.sha256(name.encode()).digest(),
        published_at=datetime.now(UTC),
        published_by="lan",
    )
    return replace(basis, **changes)


async def two(rollouts: PostgresRollouts, kind: Kind = Kind.REWARD) -> tuple[str, str]:
    """A champion and a challenger, both registered."""
    champion, challenger = a_release(kind), a_release(kind)
    for each in (champion, challenger):
        await rollouts.publish(each)
    crowned = await rollouts.crown_first(kind, champion.release)
    return crowned.release, challenger.release


def drafted(champion: str, challenger: str, kind: Kind = Kind.REWARD, plan: Plan | None = None) -> Move:
    """A draft of now."""
    return draft(
        rollout_id=str(new_id()),
        kind=kind,
        challenger=challenger,
        champion=champion,
        plan=plan or Plan(),
        longest_deadline=120.0,
        actor=LAN,
        reason="It is time.",
        now=datetime.now(UTC),
    )


def started(rollout: Rollout, trigger: Trigger = Trigger.START) -> Move:
    """The step that a person asks for, with everything well."""
    return move(Look(rollout, good(rollout), datetime.now(UTC)), trigger, LAN, "Go.")


def onward(rollout: Rollout, trigger: Trigger = Trigger.ADVANCE, **changes: Any) -> Move:
    """The controller's step, long after the one before."""
    later = rollout.since + timedelta(days=30)
    return move(Look(rollout, good(rollout, **changes), later), trigger, CONTROLLER, "All is well.")


async def under_way(rollouts: PostgresRollouts, kind: Kind = Kind.REWARD, plan: Plan | None = None) -> Rollout:
    """A rollout that was drafted and started."""
    made = await rollouts.create(drafted(*await two(rollouts, kind), kind, plan))
    step = started(made)
    await rollouts.apply(step)
    return step.rollout


async def report_on(pool: asyncpg.Pool, tenant: str, response_id: UUID, rollout: Rollout) -> None:
    """Notes that the reply was the challenger's."""
    await pool.execute(
        "UPDATE conversation_logs SET assignments = jsonb_build_array(jsonb_build_object('experiment', $3::text,"
        " 'challenger', true)) WHERE tenant_id = $1 AND response_id = $2",
        *(tenant, response_id, rollout.rollout_id),
    )
