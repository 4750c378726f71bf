"""A log with feedback for tests of the live counters, and the counters recounted from it in plain Python."""

import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import uuid_utils

from server.analytics.figures import LATENCY_BOUNDS, REWARD_BOUNDS
from server.feedback.types import GivenReply
from server.storage import database

TENANTS = ("default", "khách hàng", "a:b:c")
KINDS = ("rating", "safety_report", "preference")
POLICIES, REWARDS = ("policy-000001", "policy-000002"), ("reward-000001", "reward-000002", "")

INSERT = """
INSERT INTO conversation_logs (
    tenant_id, response_id, user_id, session_id, "timestamp", query, context, selected_response, reward_score,
    all_candidates, generation_method, feedback_prompt, selection_method, selection_probability, policy_release,
    reward_release, seed, seed_honored, latencies, total_seconds, degradations, refused, spooled
)
SELECT $1, id, 'ann', 's', at, 'q', '{}', 'r', score, '[]', 'm', true, 'best', 1, policy, reward, 1, true,
       latencies, total, degradations, refused, false
FROM unnest($2::uuid[], $3::timestamptz[], $4::float8[], $5::text[], $6::text[], $7::jsonb[], $8::float8[],
            $9::jsonb[], $10::bool[])
    AS row (id, at, score, policy, reward, latencies, total, degradations, refused)
"""


@asynccontextmanager
async def own_database(pool: asyncpg.Pool, url: str) -> AsyncIterator[asyncpg.Pool]:
    """A migrated database of a test's own: other tests' rows would be counted too."""
    name = f"analytics_{uuid4().hex}"
    await pool.execute(f"CREATE DATABASE {name}")
    try:
        place = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        async with await asyncpg.create_pool(
            place, min_size=1, max_size=10, server_settings={"synchronous_commit": "off"}
        ) as found:
            await database.migrate(found)
            yield found
    finally:
        await pool.execute(f"DROP DATABASE {name} WITH (FORCE)")


def replies(dice: random.Random, number: int, tenant: str, now: datetime) -> tuple[list[GivenReply], list[Any]]:
    """So many replies of the last hours, and the arguments of INSERT for them."""
    made = []
    columns: list[list[Any]] = [[] for _ in range(9)]
    for _ in range(number):
        at = now - timedelta(seconds=dice.choice((0, 30, 600, 90_000)), milliseconds=dice.randrange(60_000))
        reply_id = UUID(int=uuid_utils.uuid7().int)
        policy, reward = dice.choice(POLICIES), dice.choice(REWARDS)
        made.append(GivenReply(tenant, reply_id, "ann", "s", at, policy, reward))
        row = (
            reply_id,
            at,
            round(dice.random(), 3) if reward or dice.random() < 0.5 else None,
            policy,
            reward,
            json.dumps([["context", dice.random() / 100], ["candidates", dice.random()]]),
            dice.choice((0.01, 0.3, 2.5, 90.0)) * (1 + dice.random()),
            json.dumps(dice.choice(([], [{"reason": "log_spooled"}], [{"reason": "tool_failed", "detail": "x"}]))),
            dice.random() < 0.1,
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return made, [tenant, *columns]


async def recount(pool: asyncpg.Pool) -> dict[str, dict[str, int]]:
    """The counters that belong to what the tables hold now: not by revisions, and by no code of the server's."""
    found: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    rows = [(row, _of_reply(row)) for row in await pool.fetch("SELECT * FROM conversation_logs")]
    rows += [(row, _of_feedback(row)) for row in await pool.fetch("SELECT * FROM feedback_data WHERE NOT withdrawn")]
    for row, codes in rows:
        moment: datetime = row["timestamp"].astimezone(UTC)
        for name, start in (
            ("minute", moment.replace(second=0, microsecond=0)),
            ("hour", moment.replace(minute=0, second=0, microsecond=0)),
            ("day", moment.replace(hour=0, minute=0, second=0, microsecond=0)),
        ):
            cell = found[f"{name}:{int(start.timestamp())}:{row['tenant_id']}"]
            for code, amount in codes:
                cell[f"{row['policy_release']}\t{row['reward_release']}\t{code}"] += amount
    cells = {bucket: {name: n for name, n in fields.items() if n} for bucket, fields in found.items()}
    return {bucket: fields for bucket, fields in cells.items() if fields}


def _of_reply(row: asyncpg.Record) -> list[tuple[str, int]]:
    codes = [("n", 1), ("refused", int(row["refused"]))]
    codes.append(("degraded", int(any(d["reason"] != "log_spooled" for d in json.loads(row["degradations"])))))
    codes.append(("latency.sum", round(row["total_seconds"] * 1e6)))
    codes.append((f"latency.{sum(row['total_seconds'] > bound for bound in LATENCY_BOUNDS)}", 1))
    if row["reward_score"] is not None:
        codes.append(("reward.sum", round(row["reward_score"] * 1e6)))
        codes.append((f"reward.{sum(row['reward_score'] > bound for bound in REWARD_BOUNDS)}", 1))
    for stage, seconds in json.loads(row["latencies"]):
        codes += [(f"stage.{stage}.sum", round(seconds * 1e6)), (f"stage.{stage}.count", 1)]
    return codes


def _of_feedback(row: asyncpg.Record) -> list[tuple[str, int]]:
    if row["kind"] != "rating":
        return [({"safety_report": "safety", "preference": "preferences"}[row["kind"]], 1)]
    codes = [("rated", 1), ("comments", int(row["text_feedback"] != ""))]
    if row["rating_overall"]:
        codes.append((f"star.{row['rating_overall']}", 1))
    if row["reaction_type"]:
        codes.append((f"reaction.{row['reaction_type']}", 1))
    for name, stars in json.loads(row["rating_dimensions"]).items():
        codes += [(f"dimension.{name}.sum", stars), (f"dimension.{name}.count", 1)]
    return codes
