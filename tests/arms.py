"""Users of a rollout's two arms, planted into the log and the feedback as servers write them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np

from server.rollout.registry import Assignment
from server.rollout.types import Rollout
from server.storage.database import Connection
from server.storage.training import new_id

LOG = (
    *("tenant_id", "response_id", "request_id", "user_id", "session_id", "timestamp", "query", "context"),
    "selected_response",
    *("reward_score", "all_candidates", "generation_method", "feedback_prompt", "selection_method"),
    *("selection_probability", "policy_release", "reward_release", "seed", "seed_honored", "latencies"),
    *("total_seconds", "degradations", "refused", "assignments"),
)
SAID = (
    *("tenant_id", "feedback_id", "response_id", "user_id", "kind", "rating_overall", "reaction_type", "timestamp"),
    *("updated_at", "policy_release"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What the users of an arm experience, each on average: satisfaction, quality (0 to 1), seconds, failed calls."""

    liked: float = 0.7
    quality: float = 0.9
    seconds: float = 1.0
    failed: float = 0.0


def part_of(rollout: Rollout, challenger: bool, **changes: Any) -> Assignment:
    """What a reply's row says of the rollout."""
    share = min(rollout.plan.stages[rollout.stage].share, 1 - rollout.plan.holdback)
    basis = Assignment(
        experiment=rollout.rollout_id,
        kind=rollout.kind,
        stage=rollout.stage,
        challenger=challenger,
        release=rollout.challenger if challenger else rollout.champion,
        share=share,
        propensity=share if challenger else 1 - share,
        sticky=True,
        held_back=False,
        timed=True,
    )
    return replace(basis, **changes)


def row(part: Assignment | None, **changes: Any) -> dict[str, Any]:
    """A reply's row of the log."""
    quality, seconds = changes.pop("quality", 0.9), changes.pop("seconds", 1.0)
    findings = [{"check": "reward", "value": 0.1}, {"check": "length", "value": quality}]
    basis = {
        "tenant_id": "acme",
        "response_id": new_id(),
        "request_id": "",
        "user_id": uuid4().hex,
        "session_id": "",
        "timestamp": datetime.now(UTC),
        "query": "q",
        "context": "{}",
        "selected_response": "r",
        "reward_score": 0.6,
        "all_candidates": json.dumps(
            [{"selected": False, "findings": []}, {"selected": True, "findings": findings}],
        ),
        "generation_method": "m",
        "feedback_prompt": False,
        "selection_method": "best",
        "selection_probability": 1.0,
        "policy_release": "policy",
        "reward_release": "reward",
        "seed": 1,
        "seed_honored": True,
        "latencies": json.dumps([["candidates", seconds * 0.8], ["scoring", seconds * 0.1], ["odd"]]),
        "total_seconds": seconds,
        "degradations": "[]",
        "refused": False,
        "assignments": json.dumps([asdict(part)] if part else []),
    }
    return basis | changes


def thumbs(reply: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Feedback on a reply: thumbs up, unless `changes` say otherwise."""
    basis = {
        **{name: reply[name] for name in ("tenant_id", "response_id", "user_id", "timestamp", "policy_release")},
        "feedback_id": new_id(),
        "kind": "rating",
        "rating_overall": None,
        "reaction_type": "thumbs_up",
        "updated_at": reply["timestamp"],
    }
    return basis | changes


async def log(pool: asyncpg.Pool | Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows of the log."""
    await pool.copy_records_to_table(
        "conversation_logs", columns=LOG, records=[[each[name] for name in LOG] for each in rows]
    )


async def say(pool: asyncpg.Pool, said: Sequence[dict[str, Any]]) -> None:
    """Writes feedback, and that it was given."""
    records = [[each[name] for name in SAID] for each in said]
    await pool.copy_records_to_table("feedback_data", columns=SAID, records=records)
    given = [(each["tenant_id"], each["feedback_id"], 1, each["updated_at"]) for each in said]
    columns = ("tenant_id", "feedback_id", "revision", "recorded_at")
    await pool.copy_records_to_table("feedback_revisions", columns=columns, records=given)


async def plant(
    pool: asyncpg.Pool,
    rollout: Rollout,
    users: int,
    challenger: Arm,
    champion: Arm = Arm(),
    *,
    seed: int = 1,
    **of: Any,
) -> list[UUID]:
    """So many new users of the present stage, split as planned, each with a reply and a rating. Gives the challenger's
    replies. `of` changes all rows' assignments."""
    rng, share = np.random.default_rng(seed), part_of(rollout, True).share
    treated = rng.permutation(users) < round(users * share)
    rows, said = [], []
    for own in treated.tolist():
        arm = challenger if own else champion
        part = part_of(rollout, own, failed=bool(rng.random() < arm.failed), **of)
        seconds = arm.seconds * float(np.exp(0.1 * rng.standard_normal()))
        quality = float(np.clip(arm.quality + 0.05 * rng.standard_normal(), 0, 1))
        rows.append(row(part, seconds=seconds, quality=quality))
        said.append(thumbs(rows[-1], reaction_type="thumbs_up" if rng.random() < arm.liked else "thumbs_down"))
    await log(pool, rows)
    await say(pool, said)
    return [each["response_id"] for each, own in zip(rows, treated, strict=True) if own]
