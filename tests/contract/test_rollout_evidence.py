"""What Postgres tells of a rollout's arms: all of it, once, by whom it was assigned, and nobody's name."""

import asyncio
import json
import math
import random
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from server.rollout.evidence import Comparisons, Gatherer
from server.rollout.observed import Mark, Rating, key_of_reply, key_of_unit
from server.rollout.plan import Plan
from server.rollout.registry import HASTY, ReplicaModel, ReplicaState
from server.rollout.types import Kind, Rollout, Safety
from server.storage import database
from server.storage.erasure import Erasures
from server.storage.evidence import PostgresEvidence, _rating, begun_by
from server.storage.rollouts import PostgresRollouts
from tests.arms import log, part_of, row, say, thumbs
from tests.conftest import RunningStack
from tests.registered import drafted, settle, under_way

PLAN = Plan(shadow=None)


@pytest.fixture
async def rollouts(pool: asyncpg.Pool) -> AsyncIterator[PostgresRollouts]:
    await settle(pool)
    yield PostgresRollouts(pool)
    await settle(pool)


@pytest.fixture
async def erasures(pool: asyncpg.Pool) -> Erasures:
    return await Erasures.open(pool)


@pytest.fixture
def source(pool: asyncpg.Pool, erasures: Erasures) -> PostgresEvidence:
    return PostgresEvidence(pool, erasures.digest)


@pytest.fixture
async def rollout(rollouts: PostgresRollouts) -> Rollout:
    return await under_way(rollouts, plan=PLAN)


async def test_safety_reports_wait_for_nobodys_statistics(
    stack: RunningStack, pool: asyncpg.Pool, erasures: Erasures, rollout: Rollout
) -> None:
    async with await database.connect(stack.endpoints.database_url, size=1) as weighing, weighing.acquire():
        source = PostgresEvidence(weighing, erasures.digest, pool)
        async with asyncio.timeout(5):
            assert await source.reports(rollout) == []
            assert await source.condemned(rollout.challenger) == 0


async def test_a_reply_is_read_with_its_user_arm_quality_and_times(
    pool: asyncpg.Pool, source: PostgresEvidence, erasures: Erasures, rollout: Rollout
) -> None:
    one = row(part_of(rollout, True, failed=True), quality=0.8, seconds=2.0, user_id="ann")
    other = row(part_of(rollout, False), refused=True, user_id="", session_id="phiên")
    await log(pool, [one, other])
    found = (await source.news(rollout, Mark())).replies
    assert len(found) == 2
    at = {key: place for place, key in enumerate(found.reply.tolist())}
    first, second = (at[key_of_reply(each["response_id"])] for each in (one, other))
    assert found.unit[first] == key_of_unit(erasures.digest("acme", "ann"))
    assert found.unit[second] == key_of_unit(erasures.digest("acme", "phiên"))
    assert (found.challenger[first], found.failed[first], found.stage[first]) == (True, True, 0)
    assert (found.challenger[second], found.failed[second]) == (False, False)
    assert (found.share[first], found.quality[first], found.quality[second]) == (0.1, 0.8, 0.0)
    assert {name: seconds[first] for name, seconds in found.seconds.items()} == {"end to end": 2.0, "scoring": 0.2}


async def test_replies_to_nobody_in_particular_are_units_of_their_own_and_those_of_other_rollouts_are_left_out(
    pool: asyncpg.Pool, source: PostgresEvidence, rollout: Rollout
) -> None:
    other = part_of(rollout, True, experiment="0190c0de-0000-7000-8000-000000000000")
    nobodys = [row(part_of(rollout, True, sticky=False), user_id="") for _ in range(3)]
    await log(pool, [*nobodys, row(other), row(None), row(part_of(rollout, True))])
    units = (await source.news(rollout, Mark())).replies.unit
    assert (len(set(units.tolist())), (units < 0).sum()) == (4, 3)


async def test_what_is_rolled_out_does_not_judge_itself(
    pool: asyncpg.Pool, source: PostgresEvidence, rollouts: PostgresRollouts, rollout: Rollout
) -> None:
    """Of a policy the reward tells the quality, if it is no challenger, and none stood in for it."""
    policy = await under_way(rollouts, Kind.POLICY, PLAN)
    parts = [part_of(policy, True), part_of(rollout, True)]
    both = row(parts[0], assignments=json.dumps([asdict(each) for each in parts]), reward_score=0.99)
    fell_back = row(parts[0], reward_score=0.9, degradations='[{"reason": "scoring_fell_back", "detail": "Late."}]')
    await log(pool, [row(parts[0], reward_score=0.4), both, fell_back])
    found = (await source.news(policy, Mark())).replies
    assert [each for each in found.quality.tolist() if not math.isnan(each)] == [0.4]
    assert len(found) == 3
    assert set(found.seconds) == {"end to end", "candidates", "scoring"}


def cached(source: str) -> str:
    """Candidates of which one was scored by the model, and the other's score was found in the cache."""
    scores = [{"selected": False, "score_source": "model"}, {"selected": True, "score_source": source, "findings": []}]
    return json.dumps(scores)


async def test_times_are_those_of_replies_that_a_coin_chose_whatever_the_cache_knew(
    pool: asyncpg.Pool, source: PostgresEvidence, rollouts: PostgresRollouts, rollout: Rollout
) -> None:
    policy = await under_way(rollouts, Kind.POLICY, PLAN)
    for timed in (True, False, False):
        parts = [part_of(rollout, True, timed=timed), part_of(policy, False, timed=timed)]
        both = json.dumps([asdict(each) for each in parts])
        await log(pool, [row(parts[0], assignments=both, all_candidates=cached(each)) for each in ("cache", "model")])
    older = {name: value for name, value in asdict(part_of(rollout, True)).items() if name != "timed"}
    await log(pool, [row(None, assignments=json.dumps([older]))])
    for trial, names in ((rollout, ("scoring",)), (policy, ("scoring", "candidates"))):
        found = (await source.news(trial, Mark())).replies
        known = {name: sum(not math.isnan(each) for each in seconds) for name, seconds in found.seconds.items()}
        assert known == dict.fromkeys(("end to end", *names), 2)
        assert len(found) == (7 if trial is rollout else 6)


async def test_each_row_is_told_once_and_an_open_transaction_hides_nothing(
    pool: asyncpg.Pool, source: PostgresEvidence, rollout: Rollout
) -> None:
    await log(pool, [row(part_of(rollout, True))])
    first = await source.news(rollout, Mark())
    async with pool.acquire() as open_one, open_one.transaction():
        await log(open_one, [row(part_of(rollout, False))])
        await log(pool, [row(part_of(rollout, True))])  # a younger transaction, which has ended
        second = await source.news(rollout, first.mark)
        assert second.replies.challenger.tolist() == [True]
        again = await source.news(rollout, second.mark)
        assert len(again.replies) == 0
    third = await source.news(rollout, again.mark)
    assert third.replies.challenger.tolist() == [False]
    assert len((await source.news(rollout, third.mark)).replies) == 0
    assert (len(first.replies), third.again) == (1, False)


async def test_much_is_read_in_steps(
    pool: asyncpg.Pool, source: PostgresEvidence, rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction is never cut: one that has more rows than a step is one, or the end of one."""
    monkeypatch.setattr("server.storage.evidence.STEP", 5)
    replies = []
    for rows in (1, 3, 12, 1, 4, 2):
        replies += [row(part_of(rollout, True)) for _ in range(rows)]
        await log(pool, replies[-rows:])
        await say(pool, [thumbs(each) for each in replies[-rows:]])
    news = [await source.news(rollout, Mark())]
    while news[-1].more:
        news.append(await source.news(rollout, news[-1].mark))
    assert len(news) > 2
    assert sorted(key for each in news for key in each.replies.reply) == sorted(
        key_of_reply(each["response_id"]) for each in replies
    )
    own = {key_of_reply(each["response_id"]) for each in replies}
    rated = [each for one in news for each in one.ratings if each.reply in own]  # other tests' are read too
    assert len({each.feedback_id for each in rated}) == len(replies)
    comparisons = Comparisons(source)
    assert (await comparisons.of(rollout, [], 1.0)).figures["replies"] == len(replies)
    await log(pool, [row(part_of(rollout, True))])
    assert (await comparisons.of(rollout, [], 1.0)).figures["replies"] == len(replies) + 1


async def ahead(pool: asyncpg.Pool, replies: list[dict[str, Any]], by: int) -> None:
    """Makes it so that the replies came out of a dump: they name transactions that this Postgres has not had."""
    each = [each["response_id"] for each in replies]
    now = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    await pool.execute(
        f"UPDATE conversation_logs SET transaction_id = ({now} + $2)::text::xid8 WHERE response_id = ANY($1)", each, by
    )


async def test_rows_of_a_dump_that_name_later_transactions_are_told_and_count_once(
    pool: asyncpg.Pool, source: PostgresEvidence, rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when this Postgres has come to the same transactions by itself."""
    monkeypatch.setattr("server.storage.evidence.STEP", 3)
    replies = [row(part_of(rollout, True)) for _ in range(20)]
    await log(pool, replies)
    try:
        for number, by in enumerate((8, 8, 20, 20_000, 20_001)):
            await ahead(pool, replies[4 * number : 4 * number + 4], by)
        comparisons = Comparisons(source)
        assert (await comparisons.of(rollout, [], 1.0)).figures["replies"] == 20
        mark = comparisons._followed[rollout.experiment].mark
        assert len((await source.news(rollout, mark)).replies) == 0, "none is read again"
        for number in range(30):
            await log(pool, [row(part_of(rollout, True))])
            assert (await comparisons.of(rollout, [], 1.0)).figures["replies"] == 21 + number
    finally:
        await pool.execute("UPDATE conversation_logs SET transaction_id = '3' WHERE transaction_id > '20000'::xid8")


async def test_whatever_ends_when_and_however_each_row_is_told_once(
    pool: asyncpg.Pool, source: PostgresEvidence, rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.storage.evidence.STEP", 4)
    rng, told, expected = random.Random(7), list[int](), list[int]()
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(pool.acquire()) for _ in range(3)]
        under_way: dict[int, tuple[Any, list[int]]] = {}
        mark = Mark()
        for _ in range(150):
            number = rng.randrange(len(sessions))
            if number not in under_way:
                under_way[number] = sessions[number].transaction(), []
                await under_way[number][0].start()
            transaction, written = under_way[number]
            rows = [row(part_of(rollout, True)) for _ in range(rng.randrange(7))]
            await log(sessions[number], rows)
            written += [key_of_reply(each["response_id"]) for each in rows]
            if rng.random() < 0.4:
                commits = rng.random() < 0.7
                await (transaction.commit() if commits else transaction.rollback())
                expected += written if commits else []
                del under_way[number]
            news = await source.news(rollout, mark)
            mark, told = news.mark, told + news.replies.reply.tolist()
        for transaction, _ in under_way.values():
            await transaction.rollback()
    while True:
        news = await source.news(rollout, mark)
        mark, told = news.mark, told + news.replies.reply.tolist()
        if not news.more:
            break
    assert len(expected) > 100
    assert sorted(told) == sorted(expected)


async def test_ratings_are_as_they_are_now(pool: asyncpg.Pool, source: PostgresEvidence, rollout: Rollout) -> None:
    reply = row(part_of(rollout, True))
    await log(pool, [reply])
    first = await source.news(rollout, Mark())
    stars = thumbs(reply, rating_overall=4, reaction_type=None)
    await say(pool, [stars])
    second = await source.news(rollout, first.mark)
    assert [(each.feedback_id, each.reply, each.value) for each in second.ratings] == [
        (stars["feedback_id"], key_of_reply(reply["response_id"]), 0.75)
    ]
    await pool.execute("UPDATE feedback_data SET withdrawn = true WHERE feedback_id = $1", stars["feedback_id"])
    await pool.execute(
        "INSERT INTO feedback_revisions (tenant_id, feedback_id, revision, withdrawn, recorded_at)"
        " VALUES ('acme', $1, 2, true, now())",
        stars["feedback_id"],
    )
    third = await source.news(rollout, second.mark)
    assert [each.value for each in third.ratings] == [None]
    assert (await source.news(rollout, third.mark)).ratings == []


async def test_ratings_of_a_whole_deployment_keep_no_call_waiting(
    pool: asyncpg.Pool, source: PostgresEvidence, rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read in parts, and beside the loop."""
    monkeypatch.setattr("server.storage.evidence.CHUNK", 2)
    threads: set[int] = set()

    def watched(found: Any) -> Rating:
        threads.add(threading.get_ident())
        return _rating(found)

    monkeypatch.setattr("server.storage.evidence._rating", watched)
    rows = [row(None) for _ in range(5)]
    await say(pool, [thumbs(each) for each in rows])
    found = (await source.news(rollout, Mark())).ratings
    assert {each.reply for each in found} >= {key_of_reply(each["response_id"]) for each in rows}
    assert threading.get_ident() not in threads


async def test_calls_without_a_reply_are_of_the_same_user_as_the_replies(
    pool: asyncpg.Pool, source: PostgresEvidence, rollouts: PostgresRollouts, erasures: Erasures, rollout: Rollout
) -> None:
    await log(pool, [row(part_of(rollout, True), user_id="ann")])
    for _ in range(2):
        await rollouts.failed("acme", erasures.digest("acme", "ann"), [part_of(rollout, True)], "POLICY_UNAVAILABLE")
    found = await source.news(rollout, Mark())
    (lost,) = found.failures
    assert (lost.unit, lost.stage, lost.challenger, lost.calls) == (found.replies.unit[0], 0, True, 2)


async def test_tries_of_one_request_of_nobody_are_one_unit_with_its_reply(
    pool: asyncpg.Pool, source: PostgresEvidence, rollouts: PostgresRollouts, erasures: Erasures, rollout: Rollout
) -> None:
    """Who is erased may have been anybody: of them each try is one."""
    part = part_of(rollout, True, sticky=False)
    await log(pool, [row(part, user_id="", request_id="r1")])
    for name, tries in (("r1", 3), ("r2", 2)):
        for _ in range(tries):
            await rollouts.failed("acme", erasures.digest("acme", name), [part], "POLICY_UNAVAILABLE")
    for _ in range(2):
        await rollouts.failed("acme", b"", [part], "POLICY_UNAVAILABLE")
    found = await source.news(rollout, Mark())
    assert sorted(each.calls for each in found.failures) == [1, 1, 2, 3]
    units = {each.unit for each in found.failures}
    assert len(units) == 4
    assert max(units) < 0
    assert {each.unit for each in found.failures if each.calls == 3} == set(found.replies.unit.tolist())


async def test_who_got_no_reply_by_nobodys_fault_is_known_to_have_come(
    source: PostgresEvidence, rollouts: PostgresRollouts, erasures: Erasures, rollout: Rollout
) -> None:
    for name, reason in (("ann", "QUERY_TOO_LONG"), ("ann", "OVERLOADED"), ("bo", HASTY)):
        await rollouts.failed("acme", erasures.digest("acme", name), [part_of(rollout, False)], reason)
    found = {each.unit: each.calls for each in (await source.news(rollout, Mark())).failures}
    assert found == {key_of_unit(erasures.digest("acme", name)): calls for name, calls in (("ann", 1), ("bo", 0))}


async def test_safety_reports_count_by_what_people_made_of_them(
    pool: asyncpg.Pool, source: PostgresEvidence, rollouts: PostgresRollouts, rollout: Rollout
) -> None:
    rows = [row(part_of(rollout, number != 5)) for number in range(6)]
    await log(pool, rows)
    reports = [thumbs(each, kind="safety_report", reaction_type=None) for each in rows]
    spooled = thumbs(row(None, reward_release=rollout.challenger), kind="safety_report", reaction_type=None)
    await say(pool, [*reports, spooled])
    await pool.execute(
        "UPDATE feedback_data SET reward_release = $1 WHERE feedback_id = $2",
        *(rollout.challenger, spooled["feedback_id"]),
    )
    for place, confirmed in ((0, True), (1, False), (4, True)):
        feedback = reports[place]["feedback_id"]
        await rollouts.decide_report(rollout.rollout_id, "acme", feedback, confirmed=confirmed, by="lan", note="")
    for place in (3, 4):  # taken back by their users: a confirmed one stays
        await pool.execute(
            "UPDATE feedback_data SET withdrawn = true WHERE feedback_id = $1", reports[place]["feedback_id"]
        )
    known = {each.feedback_id: (each.confirmed, each.stage) for each in await source.reports(rollout)}
    expected = {0: (True, 0), 1: (False, 0), 2: (None, 0), 4: (True, 0)}
    assert known == {
        **{reports[place]["feedback_id"]: said for place, said in expected.items()},
        spooled["feedback_id"]: (None, None),
    }
    evidence = await Gatherer(rollouts, source).of(rollout)
    assert evidence.safety == Safety(pending=2, confirmed=2, dismissed=1)
    again = await rollouts.create(drafted(rollout.champion, rollout.challenger, plan=PLAN))
    # What a person confirmed holds in each rollout of the release; of a reply that is not there yet nobody knows which.
    assert (await Gatherer(rollouts, source).of(again)).safety == Safety(pending=1, confirmed=2)


async def test_a_report_by_nobody_in_particular_is_one_as_well(
    pool: asyncpg.Pool, source: PostgresEvidence, rollout: Rollout
) -> None:
    nameless = row(part_of(rollout, True, sticky=False), user_id="")
    await log(pool, [nameless])
    await say(pool, [thumbs(nameless, kind="safety_report", reaction_type=None)])
    assert [(each.unit, each.stage, each.confirmed) for each in await source.reports(rollout)] == [(None, 0, None)]


async def test_an_erased_user_stays_one(pool: asyncpg.Pool, source: PostgresEvidence, rollout: Rollout) -> None:
    await log(pool, [row(part_of(rollout, True), user_id="ann") for _ in range(2)])
    await pool.execute("UPDATE conversation_logs SET user_id = 'erased-1', erased = true WHERE user_id = 'ann'")
    found = (await source.news(rollout, Mark())).replies
    assert len(found) == 2
    assert len(set(found.unit.tolist())) == 1


async def test_a_release_is_ready_once_every_replica_has_it(
    rollouts: PostgresRollouts, source: PostgresEvidence, rollout: Rollout
) -> None:
    def model(replica: str, release: str, state: ReplicaState, refusal: str = "") -> ReplicaModel:
        now = datetime.now(UTC)
        return ReplicaModel(replica=replica, release=release, state=state, since=now, checked_at=now, refusal=refusal)

    async def readiness() -> tuple[int, int, str]:
        found = (await Gatherer(rollouts, source).of(rollout)).readiness
        return found.ready, found.replicas, found.refusal

    assert await readiness() == (0, 0, "")
    old = [model(each, rollout.champion, ReplicaState.READY) for each in ("a:1", "b:1")]
    new = [model("a:1", rollout.challenger, ReplicaState.READY)]
    await rollouts.report([*old, *new], ["a:1", "b:1"])
    assert await readiness() == (1, 2, "")
    refused = model("b:1", rollout.challenger, ReplicaState.REFUSED, "There is no room.")
    await rollouts.report([*old, *new, refused], ["a:1", "b:1"])
    assert await readiness() == (1, 2, "b:1: There is no room.")


def test_replies_of_a_rollout_have_ids_from_an_hour_before_its_own_on() -> None:
    rollout_id = "0190c0de-0000-7000-8000-00000000ffff"
    begun = begun_by(rollout_id)
    assert int(rollout_id.replace("-", "")[:12], 16) - (begun.int >> 80) == 3_600_000
    assert begun.int & ((1 << 80) - 1) == 0
