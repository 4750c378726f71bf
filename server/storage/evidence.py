"""What the log, feedback and failed calls tell of a rollout's arms, for `server.rollout.evidence`.

The log is followed by transactions: rows of those that have ended are read once and never again. Commits land out of
order, so those that were open are remembered, and read once they have ended: one that stays open for hours, or for
ever, costs nothing and hides nothing but its own rows. Updates in place (erasure, rows of the spool) keep a row's
transaction id.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from server.errors import StoreUnavailable, told
from server.rollout.continuity import Rated
from server.rollout.observed import (
    TOTAL,
    Failures,
    Mark,
    News,
    Rating,
    Replies,
    Report,
    Row,
    key_of_reply,
    key_of_unit,
    unit_of_nobody,
)
from server.rollout.registry import NOT_TO_BLAME
from server.rollout.shadowing import ShadowAnswer
from server.rollout.timing import STAGES
from server.rollout.trial import Trial
from server.rollout.types import Kind, Variation
from server.storage.database import GONE, WAIT_AND_RETRY, Connection, bounded
from server.storage.erasure import Digest
from server.storage.rollouts import CONDEMNED

T = TypeVar("T")
CHUNK = 1000
"""Rows that are decoded at a time, in a thread."""
STEP = 200_000
"""Replies that are read at once, or one transaction that has more."""
READING, LONGEST = 10.0, 600.0
"""Seconds for what is read at each look, and for a step."""
ANSWERS = 5000
"""Of a shadow, the newest; more say no more."""
LEAST_PROBABILITY = 0.05
"""Ratings of answers that were chosen with less than that weigh as if it were that."""
_MARGIN = 3_600_000
"""Milliseconds by which clocks of machines, which made the ids, may differ."""

_NOW = """
SELECT pg_snapshot_xmax(now) AS below, ARRAY(SELECT pg_snapshot_xip(now)) AS open,
       greatest((SELECT max(transaction_id) FROM conversation_logs),
                (SELECT max(transaction_id) FROM feedback_revisions)) AS last
FROM pg_current_snapshot() AS now
"""
"""Transactions from `below` on have not begun; of those before, these are `open`. `last` is of a row that is here: from
`below` on it came out of a dump."""
_SINCE = """
    (transaction_id = ANY({0}::xid8[]) OR transaction_id >= {1}::xid8 AND transaction_id < {2}::xid8
        OR transaction_id >= {3}::xid8 AND transaction_id < {4}::xid8) AND transaction_id <> ALL({5}::xid8[])"""
"""Those of a span: each of its ranges is one of the index."""
_CHECKED = """
    CASE WHEN refused THEN 0 ELSE (
        SELECT avg((finding ->> 'value')::float8)
        FROM jsonb_path_query(all_candidates, '$[*] ? (@.selected == true).findings[*]') AS finding
        WHERE finding ->> 'check' <> 'reward'
    ) END"""
_SCORED = """
    CASE WHEN refused THEN 0
         WHEN NOT assignments @> '[{"kind": "reward", "challenger": true}]'
             AND NOT degradations @> '[{"reason": "scoring_fell_back"}]' THEN reward_score END"""
_QUALITY: Mapping[Kind | Variation, str] = {
    **dict.fromkeys((Kind.REWARD, Variation.SELECTION), _CHECKED),
    **dict.fromkeys((Kind.POLICY, Variation.PROMPT, Variation.INTERFACE), _SCORED),
}
"""By the other checks where what is tried chooses by the reward, else by the champion reward: nothing judges itself."""
_REPLIES = """
SELECT tenant_id, response_id, user_id, session_id, request_id, total_seconds, latencies, {quality} AS quality,
       jsonb_path_query_first(assignments, '$[*] ? (@.experiment == $id)', jsonb_build_object('id', $1::text)) AS part
FROM conversation_logs
WHERE assignments <> '[]' AND assignments @> $2::jsonb AND response_id >= $3 AND {since}
"""
_CUT = """
SELECT transaction_id FROM conversation_logs
WHERE assignments <> '[]' AND assignments @> $1::jsonb AND response_id >= $2
  AND transaction_id > $3::xid8 AND (transaction_id < $4::xid8 OR transaction_id > $5::xid8)
ORDER BY transaction_id OFFSET $6 LIMIT 1
"""
"""The transaction of the first row that is too many for a step."""
_RATED_NOW = "feedback_id, response_id, rating_overall, reaction_type, withdrawn"
_RATINGS = f"SELECT {_RATED_NOW} FROM feedback_data WHERE kind = 'rating' AND response_id >= $1"
_CHANGED_RATINGS = f"""
SELECT {_RATED_NOW} FROM feedback_data JOIN (
    SELECT DISTINCT tenant_id, feedback_id FROM feedback_revisions
    WHERE {_SINCE.format(*(f"${number}" for number in range(2, 8)))}
) AS changed USING (tenant_id, feedback_id)
WHERE kind = 'rating' AND response_id >= $1
"""
_FAILURES = """
SELECT digest, sticky, CASE WHEN digest = '' THEN hashtextextended(at::text || ctid::text, 0) END AS nobody,
       stage, challenger, count(*) FILTER (WHERE reason <> ALL ($2)) AS calls
FROM rollout_failures WHERE rollout_id = $1 GROUP BY 1, 2, 3, 4, 5
"""
"""A request of nobody was assigned by itself, so it is a unit by itself, however often it is tried; without a digest,
as of who was erased, each try is."""
_REPORTS = """
SELECT f.tenant_id, f.feedback_id, d.confirmed, l.response_id, l.user_id, l.session_id,
       jsonb_path_query_first(l.assignments, '$[*] ? (@.experiment == $id)', jsonb_build_object('id', $1::text)) AS part
FROM feedback_data AS f
LEFT JOIN conversation_logs AS l
  ON l.tenant_id = f.tenant_id AND l.response_id = f.response_id AND l.response_id >= $2
LEFT JOIN safety_decisions AS d ON d.tenant_id = f.tenant_id AND d.feedback_id = f.feedback_id
WHERE f.kind = 'safety_report' AND f.response_id >= $2 AND (NOT f.withdrawn OR d.confirmed) AND (
    l.assignments @> $3::jsonb
    OR l.response_id IS NULL AND CASE $4::text WHEN 'policy' THEN f.policy_release ELSE f.reward_release END = $5
)
"""
"""A reply whose row waits in a spool is known by its release alone."""
_CONDEMNED = CONDEMNED.format("$1")
_SHADOW = """
SELECT rollout_id, response_id, tenant_id, scores, champion_scores, seconds, champion_seconds, same_choice, error, at
FROM shadow_answers WHERE rollout_id = $1 ORDER BY response_id DESC LIMIT $2
"""
_SHADOW_COUNT = "SELECT count(*) FROM shadow_answers WHERE rollout_id = $1 AND error = ''"
_RATED = """
SELECT s.scores[array_position(s.champion_scores, l.reward_score)] AS score, f.rating_overall, f.reaction_type,
       l.selection_probability
FROM shadow_answers AS s
JOIN conversation_logs AS l ON l.tenant_id = s.tenant_id AND l.response_id = s.response_id
JOIN feedback_data AS f ON f.tenant_id = s.tenant_id AND f.response_id = s.response_id
WHERE s.rollout_id = $1 AND s.error = '' AND f.kind = 'rating' AND NOT f.withdrawn
  AND (f.rating_overall IS NOT NULL OR f.reaction_type IS NOT NULL)
ORDER BY s.response_id DESC LIMIT $2
"""
"""Which of the candidates was the answer is told by its score."""
_REACTIONS = {"thumbs_up": 1.0, "neutral": 0.5, "thumbs_down": 0.0}


class PostgresEvidence:
    """`server.rollout.evidence.Source` on Postgres. Every method raises StoreUnavailable. Safety reports
    are read from connections of their own, `quick`: they wait for nobody's statistics."""

    def __init__(self, pool: asyncpg.Pool, digest: Digest, quick: asyncpg.Pool | None = None) -> None:
        self._pool, self._digest, self._quick = pool, digest, quick or pool

    async def news(self, trial: Trial, after: Mark) -> News:
        """What came of the trial since `after`, or a step of it."""
        names = (TOTAL, *STAGES[trial.kind])
        since = _SINCE.format(*(f"${number}" for number in range(4, 10)))
        statement = _REPLIES.format(quality=_QUALITY[trial.kind], since=since)
        part, begun = _holding(experiment=trial.experiment), begun_by(trial.experiment)

        async def read(connection: Connection) -> News:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
                now: Any = await connection.fetchrow(_NOW)
                cuts = after.below, now["below"], max(after.ahead, now["below"])
                cut = await connection.fetchval(_CUT, part, begun, *cuts, STEP)
                mark, span = _next(after, now, cut)
                replies = [Replies.of((), names)]
                async for rows in _chunks(connection, statement, trial.experiment, part, begun, *span):
                    replies += [await asyncio.to_thread(self._decode, rows, names)]
                said, of = _RATINGS, tuple[object, ...]((begun,))
                if after != Mark() or cut is not None:
                    said, of = _CHANGED_RATINGS, (begun, *span)
                ratings: list[Rating] = []
                async for rows in _chunks(connection, said, *of):
                    ratings += await asyncio.to_thread(_ratings, rows)
                failures: list[Failures] = []
                async for rows in _chunks(connection, _FAILURES, UUID(trial.experiment), NOT_TO_BLAME):
                    failures += await asyncio.to_thread(_failures, rows)
            again = after.ahead > after.below
            return News(mark, Replies.join(replies), ratings, failures, more=cut is not None, again=again)

        return await self._ask(LONGEST, read)

    async def reports(self, trial: Trial) -> list[Report]:
        """Safety reports on the challenger's replies that were not withdrawn, or that a person confirmed."""
        part = _holding(experiment=trial.experiment, challenger=True)
        values = trial.experiment, begun_by(trial.experiment), part, trial.kind.value, trial.release
        rows = await self._ask(READING, lambda c: c.fetch(_REPORTS, *values), self._quick)
        return [self._report(row) for row in rows]

    async def condemned(self, release: str) -> int:
        """How many safety reports on the release as a challenger a person confirmed, in any rollout."""
        return int(await self._ask(READING, lambda c: c.fetchval(_CONDEMNED, release), self._quick))

    async def shadow(self, rollout_id: str) -> list[ShadowAnswer]:
        """The newest answers of a challenger in shadow, at most ANSWERS."""
        rows = await self._ask(READING, lambda c: c.fetch(_SHADOW, UUID(rollout_id), ANSWERS))
        return [_answer(row) for row in rows]

    async def shadow_count(self, rollout_id: str) -> int:
        """How many requests a challenger in shadow answered."""
        return int(await self._ask(READING, lambda c: c.fetchval(_SHADOW_COUNT, UUID(rollout_id))))

    async def rated(self, rollout_id: str) -> list[Rated]:
        """The challenger's scores of answers that it saw in shadow and users rated, at most ANSWERS."""
        rows = await self._ask(READING, lambda c: c.fetch(_RATED, UUID(rollout_id), ANSWERS))
        return [_rated(row) for row in rows if row["score"] is not None]

    def _decode(self, rows: Sequence[Any], names: Sequence[str]) -> Replies:
        return Replies.of([decoded for row in rows if (decoded := self._row(row))], names)

    def _row(self, row: Any) -> Row | None:
        """None for what another version wrote in its way."""
        part = json.loads(row["part"])
        try:
            known = int(part["stage"]), bool(part["challenger"]), float(part["share"]), bool(part["failed"])
            sticky, timed = bool(part["sticky"]), bool(part.get("timed"))
        except (KeyError, TypeError, ValueError):
            return None
        stage, challenger, share, failed = known
        seconds = {**_stages(row["latencies"]), TOTAL: row["total_seconds"]} if timed else {}
        reply = key_of_reply(row["response_id"])
        unit = self._unit(row) if sticky else self._nobody(row)
        return reply, unit, stage, challenger, share, failed, _within(row["quality"]), seconds

    def _unit(self, row: Any) -> int:
        return key_of_unit(self._digest(row["tenant_id"], row["user_id"] or row["session_id"]))

    def _nobody(self, row: Any) -> int:
        """As its tries that failed are known."""
        return unit_of_nobody(key_of_unit(self._digest(row["tenant_id"], row["request_id"] or str(row["response_id"]))))

    def _report(self, row: Any) -> Report:
        if row["response_id"] is None:
            return Report(row["feedback_id"], row["confirmed"])
        stage = int(json.loads(row["part"]).get("stage", 0))
        unit = self._unit(row) if row["user_id"] or row["session_id"] else None
        return Report(row["feedback_id"], row["confirmed"], unit, stage)

    async def _ask(
        self, seconds: float, call: Callable[[Connection], Awaitable[T]], pool: asyncpg.Pool | None = None
    ) -> T:
        try:
            return await bounded(pool or self._pool, seconds, call)
        except (*GONE, *WAIT_AND_RETRY) as error:
            raise StoreUnavailable(f"The evidence of rollouts can't be read for now: {told(error)}.") from error


def _next(after: Mark, now: Mapping[str, Any], cut: int | None) -> tuple[Mark, tuple[object, ...]]:
    """The mark after what is there `now`, or after the transactions below `cut`; and what is between, as _SINCE takes
    it: those that were open, two ranges, and those that are open still."""
    end = cut if cut is not None else max(now["below"], after.ahead, (now["last"] or 0) + 1)
    below, ahead = min(end, now["below"]), max(after.ahead, now["below"])
    mark = Mark(below, tuple(each for each in now["open"] if each < below), max(after.ahead, end))
    return mark, (after.open, after.below, below, ahead, end, now["open"])


def begun_by(rollout_id: str) -> UUID:
    """The least id of a reply that can be of the trial: both ids are UUIDv7, which begin with their milliseconds."""
    return UUID(int=max(0, (UUID(rollout_id).int >> 80) - _MARGIN) << 80)


def _holding(**part: object) -> str:
    """What a row's assignments hold that has such a part."""
    return json.dumps([part])


async def _chunks(connection: Connection, statement: str, *arguments: object) -> AsyncIterator[list[Any]]:
    cursor = await connection.cursor(statement, *arguments)
    while rows := await cursor.fetch(CHUNK):
        yield rows


def satisfaction(stars: int | None, reaction: str | None) -> float | None:
    """From 0 to 1: stars as (stars - 1) / 4, else thumbs; None where there is neither."""
    return (stars - 1) / 4 if stars is not None else _REACTIONS.get(reaction or "")


def _ratings(rows: Sequence[Any]) -> list[Rating]:
    return [_rating(row) for row in rows]


def _rating(row: Any) -> Rating:
    value = None if row["withdrawn"] else satisfaction(row["rating_overall"], row["reaction_type"])
    reply: UUID = row["response_id"]
    return Rating(row["feedback_id"], key_of_reply(reply), value, reply.int >> 80)


def _failures(rows: Sequence[Any]) -> list[Failures]:
    return [Failures(_unit_of_failures(row), row["stage"], row["challenger"], row["calls"]) for row in rows]


def _unit_of_failures(row: Any) -> int:
    known = key_of_unit(row["digest"]) if row["nobody"] is None else row["nobody"]
    return known if row["sticky"] else unit_of_nobody(known)


def _answer(row: Any) -> ShadowAnswer:
    known = {**row, "rollout_id": str(row["rollout_id"])}
    return ShadowAnswer(**{**known, "scores": tuple(row["scores"]), "champion_scores": tuple(row["champion_scores"])})


def _rated(row: Any) -> Rated:
    value = satisfaction(row["rating_overall"], row["reaction_type"])
    assert value is not None
    return Rated(row["score"], value, 1 / max(row["selection_probability"], LEAST_PROBABILITY))


def _stages(text: str) -> dict[str, float]:
    found = json.loads(text)
    pairs = [each for each in found if isinstance(each, list) and len(each) == 2] if isinstance(found, list) else []
    return {str(name): float(seconds) for name, seconds in pairs if isinstance(seconds, int | float)}


def _within(quality: float | None) -> float | None:
    return None if quality is None or not math.isfinite(quality) else min(1.0, max(0.0, quality))
