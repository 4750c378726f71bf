"""What training holds of a user: snapshots, runs with their reports, and the review queue. For erasures.

The trainer owns the snapshots' files: here they are marked, and it rewrites them. A report's texts go at once: those of
its mistakes that show the user, and the page made of it, which the trainer makes anew.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.storage.database import Connection

_OF_USER = "(SELECT snapshot FROM training_snapshot_users WHERE tenant_id = $1 AND digest = $2)"
_MARK = f"""
UPDATE training_snapshots SET erased_at = now()
WHERE snapshot IN {_OF_USER} AND erased_at IS NULL AND replaced_by IS NULL
"""
_RUNS = f"""
SELECT training_id, state, release, report FROM training_runs WHERE tenant_id = $1 AND snapshot IN {_OF_USER}
ORDER BY training_id FOR UPDATE
"""
_NOT_REPRODUCIBLE = """
UPDATE training_runs SET not_reproducible = true, changed = changed + 1
WHERE training_id = ANY($1::uuid[]) AND NOT not_reproducible
"""
_REPORT = """
UPDATE training_runs SET report = $2, report_html = NULL, changed = changed + 1 WHERE training_id = $1
"""
_REVIEWS = "DELETE FROM review_items WHERE tenant_id = $1 AND digest = $2"
_LEFT = f"SELECT count(*) FROM training_snapshots WHERE snapshot IN {_OF_USER} AND replaced_by IS NULL"
_REWRITING = "{} snapshots of training data hold the user: the trainer takes them out when it runs next."
_UNDER_WAY = "The training run {} began with the user's data and is not over: cancel it, or repeat this call after it."
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "DUPLICATE")


@dataclass(frozen=True, slots=True)
class Trained:
    """What an erasure found: rows by place, releases that learned from the user, and what is still to come."""

    counts: Mapping[str, int]
    releases: tuple[str, ...]
    pending: tuple[str, ...]


async def erase(connection: Connection, tenant: str, digest: bytes) -> Trained:
    """Marks what holds the user and deletes what quotes them, in one transaction. Repeating it is harmless.

    Snapshots that were rewritten keep the digest, so that the releases are told again.
    """
    async with connection.transaction():
        marked = _count(await connection.execute(_MARK, tenant, digest))
        runs = await connection.fetch(_RUNS, tenant, digest)
        ids = [run["training_id"] for run in runs]
        spoiled = _count(await connection.execute(_NOT_REPRODUCIBLE, ids))
        for run in runs:
            await _blank(connection, run, digest.hex())
        reviews = _count(await connection.execute(_REVIEWS, tenant, digest))
        left = await connection.fetchval(_LEFT, tenant, digest)
    return Trained(
        {"training_snapshots": marked, "training_runs": spoiled, "review_items": reviews},
        tuple(sorted({run["release"] for run in runs} - {""})),
        (*([_REWRITING.format(left)] if left else []), *_under_way(runs)),
    )


async def _blank(connection: Connection, run: Any, user: str) -> None:
    """Takes the user's texts out of the run's report."""
    report = json.loads(run["report"] or "{}")
    mistakes = report.get("mistakes", [])
    if any(user in each["users"] for each in mistakes):
        report["mistakes"] = [each for each in mistakes if user not in each["users"]]
        await connection.execute(_REPORT, run["training_id"], json.dumps(report, ensure_ascii=False))


def _under_way(runs: Sequence[Any]) -> list[str]:
    return [_UNDER_WAY.format(run["training_id"]) for run in runs if run["state"] not in ENDED]


def _count(done: str) -> int:
    """Rows that a statement reached, of what Postgres says of it, such as "UPDATE 3"."""
    return int(done.rpartition(" ")[2])
