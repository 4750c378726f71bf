"""Nothing of an erased user is left, whatever was under way, and nothing of anybody else is touched."""

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import uuid_utils
from redis.asyncio import Redis

from server.analytics.follower import Follower
from server.erasing import Erased, Eraser
from server.errors import DeadlineExceeded, ResponseNotFound, StoreUnavailable
from server.feedback.types import Change, GivenReply, Kind, Opinion
from server.learning import Learner
from server.rollout.registry import Assignment
from server.storage import memory, sweep
from server.storage.counters import RedisCounters
from server.storage.erasure import Erasures, last_of
from server.storage.feedback import PostgresFeedback, Submission
from server.storage.feedback_requests import RequestKey
from server.storage.following import PostgresFeed
from server.storage.forgetting import UserKeys
from server.storage.frames import frame
from server.storage.journal import Journal
from server.storage.keys import key
from server.storage.ledger import Ledger
from server.storage.memory import RedisMemory
from server.storage.profiles import Change as ProfileChange
from server.storage.profiles import PostgresProfiles
from server.storage.records import Row, encode
from server.storage.rollouts import PostgresRollouts
from server.storage.rows import LogEntry, reply_of
from server.storage.spool import Spool
from server.types import (
    Check,
    Citation,
    Degradation,
    DegradationReason,
    Evidence,
    Exchange,
    Finding,
    Profile,
    Recollection,
    ToolOutcome,
    ToolRun,
)
from tests import scan
from tests.analytics import INSERT, own_database, replies
from tests.conftest import RunningStack
from tests.logged import give_feedback
from tests.registered import a_release, drafted
from tests.turns import a_candidate, a_turn, an_entry
from tests.valkeys import OwnValkey
from trainer.data import snapshots
from trainer.data.forgetting import forget
from trainer.reward import report
from trainer.reward.config import DataConfig
from trainer.reward.findings import Calibration, Estimate, Fit, Mistake, Ranking, Reliability, Report, Side

TENANT = "default"
EAST = (1.0, 0.0, 0.0)


@dataclass
class Place:
    """All that an erasure reaches."""

    pool: asyncpg.Pool
    redis: Redis
    erasures: Erasures
    memory: RedisMemory
    profiles: PostgresProfiles
    feedback: PostgresFeedback
    ledger: Ledger
    eraser: Eraser
    spool: Path

    async def erase(self, user: str, seconds: float = 30.0) -> Erased:
        return await self.eraser.erase(TENANT, user, seconds)

    async def rows(self, user: str) -> list[Any]:
        return await self.pool.fetch("SELECT * FROM conversation_logs WHERE user_id = $1 ORDER BY response_id", user)


@pytest.fixture
async def place(pool: asyncpg.Pool, stack: RunningStack, tmp_path: Path) -> AsyncIterator[Place]:
    client = memory.connect(stack.endpoints.redis_url)
    erasures = await Erasures.open(pool)
    profiles, spool = PostgresProfiles(pool), tmp_path / "spool"
    spool.mkdir()
    yield Place(
        pool,
        client,
        erasures,
        RedisMemory(client, digest=erasures.digest),
        profiles,
        PostgresFeedback(pool, erasures.digest),
        Ledger(pool, pool, digest=erasures.digest),
        Eraser(pool, erasures, UserKeys(client, erasures.digest, 120), profiles, spool),
        spool,
    )
    await client.aclose()


@dataclass
class Person:
    """A user all of whose texts can be told from anybody else's."""

    name: str
    words: list[str]

    def text(self, what: str) -> str:
        """A text of this user, in Vietnamese."""
        said = f"Đơn hàng của {what}-{self.name} ở đâu?"
        self.words.append(f"{what}-{self.name}")
        return said


def a_person() -> Person:
    name = f"nguyễn-{secrets.token_hex(6)}"
    return Person(name, [name])


def entry_of(person: Person, **changes: Any) -> LogEntry:
    """A log entry with a text of the user in every place that can hold one."""
    turn = a_turn(
        user_id=person.name,
        session_id=person.text("session"),
        request_id=person.text("request") + secrets.token_hex(4),
        query=person.text("query"),
        context=person.text("given"),
        **changes,
    )
    entry = an_entry(turn, text=person.text("answer"))
    source, title, text, uri = (person.text(part) for part in ("source", "title", "passage", "uri"))
    evidence = Evidence("docs", source, title, text, uri, 0.75, ("no",))
    finding = Finding(Check.GROUNDING, False, 0.25, person.text("finding"))
    candidates = (
        replace(a_candidate(0, entry.reply.response), findings=(finding,)),
        replace(a_candidate(1), error=person.text("error"), text=""),
    )
    reply = replace(
        entry.reply,
        candidates=candidates,
        tool_runs=(ToolRun("docs", ToolOutcome.FOUND, 0.5, 0.125, person.text("detail"), (evidence,)),),
        citations=(Citation(1, evidence, 0.5),),
        degradations=(Degradation(DegradationReason.TOOL_UNAVAILABLE, person.text("degraded")),),
    )
    recollection = Recollection((Exchange(person.text("asked"), person.text("answered")),), person.text("summary"))
    profile = Profile(TENANT, person.name, {"city": person.text("attribute")}, weight=2.0)
    decided = {"minimum_reward": 0.5, "method": "best"}
    return LogEntry(turn, recollection, profile, reply, decided, person.text("scored"))


async def live(place: Place, person: Person) -> UUID:
    """What a user leaves behind: a reply, feedback of all kinds with an edit, memory, profile, a key of their own."""
    entry = entry_of(person)
    turn = entry.turn
    assert await place.ledger.insert([Row.of(entry)]) == set()
    given = given_of(entry)
    await rate(place, given, text_feedback=person.text("comment"), key=RequestKey(person.text("rating"), b"1"))
    await rate(place, given, text_feedback=person.text("edited"), rating_overall=2)
    report = Change(Kind.SAFETY_REPORT, Opinion(text_feedback=person.text("report")))
    await place.feedback.submit(Submission(given, (report,), RequestKey("", b""), datetime.now(UTC)))
    exchange = Exchange(turn.query, entry.reply.response)
    await place.memory.remember(TENANT, person.name, turn.session_id, turn.response_id, exchange)
    assert await place.memory.claim_feedback_prompt(TENANT, f"user {person.name}")
    await place.profiles.put(
        TENANT, person.name, ProfileChange({"city": person.text("city")}, request_id=person.text("change"))
    )
    await place.profiles.learn(TENANT, person.name, EAST, 1.0, "m")
    await place.pool.execute(
        "INSERT INTO api_keys (key_id, tenant_id, name, digest, roles, user_id) VALUES ($1, $2, $3, $4, $5, $6)",
        secrets.token_hex(8),
        TENANT,
        person.text("key"),
        secrets.token_bytes(32),
        ["caller"],
        person.name,
    )
    await learn_from(place, person, turn.response_id)
    await roll_out_to(place, person, turn.response_id)
    return turn.response_id


async def roll_out_to(place: Place, person: Person, response_id: UUID) -> None:
    """A call of the user's that failed in a rollout, and what somebody noted of the user's safety report."""
    store = PostgresRollouts(place.pool)
    champion, challenger = [a_release() for _ in range(2)]
    for each in (champion, challenger):
        await store.publish(each)
    made = await store.create(drafted(champion.release, challenger.release))
    part = Assignment(
        experiment=made.rollout_id,
        kind=made.kind,
        stage=0,
        challenger=True,
        release=challenger.release,
        share=0.1,
        propensity=0.1,
        sticky=True,
        held_back=False,
        timed=True,
    )
    await store.failed(TENANT, place.erasures.digest(TENANT, person.name), [part], "POLICY_UNAVAILABLE")
    await place.pool.execute(
        "INSERT INTO safety_decisions (tenant_id, feedback_id, confirmed, decided_by, note)"
        " SELECT tenant_id, feedback_id, true, 'lan', $3 FROM feedback_data"
        " WHERE tenant_id = $1 AND response_id = $2 AND kind = 'safety_report'",
        *(TENANT, response_id, person.text("decided")),
    )


async def learn_from(place: Place, person: Person, response_id: UUID) -> None:
    """As if a release had been trained on the reply: a snapshot, a run with its report, what people are to judge."""
    digest, snapshot, run = place.erasures.digest(TENANT, person.name), secrets.token_hex(32), uuid_utils.uuid7()
    quoted = {"query": person.text("mistake"), "better": {"text": person.text("better")}, "users": [digest.hex()]}
    others = {"query": "of somebody else", "users": ["00" * 32]}
    await place.pool.execute(
        "INSERT INTO training_snapshots (snapshot, tenant_id, path, watermark, feedback_count, new_count)"
        " VALUES ($1, $2, '/nowhere', '1', 1, 1)",
        *(snapshot, TENANT),
    )
    await place.pool.execute("INSERT INTO training_snapshot_users VALUES ($1, $2, $3)", snapshot, TENANT, digest)
    await place.pool.execute(
        "INSERT INTO training_runs (tenant_id, training_id, kind, state, snapshot, requested_by, release, report,"
        " report_html) VALUES ($1, $2, 'reward', 'SUCCEEDED', $3, 'test', $4, $5, $6)",
        *(TENANT, UUID(int=run.int), snapshot, f"reward-{person.name[-6:]}"),
        *(json.dumps({"mistakes": [quoted, others]}), person.text("page")),
    )
    await place.pool.execute(
        "INSERT INTO review_items (tenant_id, item_id, training_id, response_id, digest, query, context, response,"
        " score, reason, note) VALUES ($1, $2, $2, $3, $4, $5, $6, $7, 0.5, 'HIGHEST', $8)",
        *(TENANT, UUID(int=run.int), response_id, digest),
        *(person.text("reviewed"), person.text("around"), person.text("judged"), person.text("note")),
    )


def given_of(entry: LogEntry) -> GivenReply:
    turn, reply = entry.turn, entry.reply
    return GivenReply(
        turn.tenant_id,
        turn.response_id,
        turn.user_id,
        turn.session_id,
        reply.created_at,
        reply.policy_release,
        reply.reward_release,
    )


async def rate(place: Place, given: GivenReply, *, key: RequestKey = RequestKey("", b""), **says: Any) -> None:  # noqa: B008
    change = Change(Kind.RATING, Opinion(**says))
    await place.feedback.submit(Submission(given, (change,), key, datetime.now(UTC)))


async def left_of(place: Place, person: Person) -> set[tuple[str, str]]:
    """Where a word of the person can be found."""
    found = await scan.in_postgres(place.pool, person.words) | await scan.in_redis(place.redis, person.words)
    return found | scan.in_files([place.spool], person.words)


async def all_of(place: Place, person: Person) -> list[Any]:
    """Every row of the person's, whole, and every key with its value."""
    found: list[Any] = []
    for table in ("conversation_logs", "feedback_data", "feedback_requests", "profiles", "api_keys"):
        found += await place.pool.fetch(f"SELECT t::text FROM {table} AS t WHERE user_id = $1 ORDER BY 1", person.name)
    found += await place.pool.fetch(
        "SELECT r::text FROM feedback_revisions AS r JOIN feedback_data USING (tenant_id, feedback_id)"
        " WHERE user_id = $1 ORDER BY 1",
        person.name,
    )
    digest = place.erasures.digest(TENANT, person.name)
    for table in ("training_snapshots", "training_runs"):
        found += await place.pool.fetch(
            f"SELECT t::text FROM {table} AS t JOIN training_snapshot_users USING (snapshot) WHERE digest = $1", digest
        )
    for table in ("review_items", "rollout_failures"):
        found += await place.pool.fetch(f"SELECT t::text FROM {table} AS t WHERE digest = $1", digest)
    found += await place.pool.fetch(
        "SELECT d::text FROM safety_decisions AS d JOIN feedback_data USING (tenant_id, feedback_id)"
        " WHERE user_id = $1",
        person.name,
    )
    return found + sorted(await scan.in_redis(place.redis, person.words))


async def test_no_text_and_no_id_of_an_erased_user_is_left_anywhere_and_others_keep_all(place: Place) -> None:
    ann, other = a_person(), a_person()
    await live(place, ann)
    await live(place, other)
    before = await all_of(place, other)
    assert len(before) == 19
    seen = {word for _, word in await left_of(place, ann)}
    assert seen == set(ann.words), "each word is somewhere, else looking for it shows nothing"
    done = await place.erase(ann.name)
    assert await left_of(place, ann) == set()
    assert await all_of(place, other) == before
    assert ["the trainer takes them out" in each for each in done.pending] == [True]
    assert done.trained_releases == (f"reward-{ann.name[-6:]}",)
    assert done.counts == {
        "conversation_logs": 1,
        "request_keys": 1,
        "feedback_data": 2,
        "feedback_revisions": 3,
        "feedback_requests": 1,
        "profiles": 1,
        "memory": 2,
        "spool": 0,
        "api_keys": 1,
        "rollout_failures": 1,
        "training_snapshots": 1,
        "training_runs": 1,
        "review_items": 1,
    }


async def test_what_trained_on_a_user_is_marked_keeps_what_is_others_and_is_told_again(place: Place) -> None:
    ann = a_person()
    await live(place, ann)
    first, again = await place.erase(ann.name), await place.erase(ann.name)
    assert first.trained_releases == again.trained_releases != ()
    assert again.counts["training_snapshots"] == again.counts["training_runs"] == again.counts["review_items"] == 0
    row = await place.pool.fetchrow(
        "SELECT run.*, held.erased_at, held.replaced_by FROM training_runs AS run JOIN training_snapshots AS held"
        " USING (snapshot) WHERE release = $1",
        *first.trained_releases,
    )
    assert row is not None
    assert (row["not_reproducible"], row["erased_at"] is not None, row["replaced_by"]) == (True, True, None)
    assert (row["report_html"], [each["query"] for each in json.loads(row["report"])["mistakes"]]) == (
        None,
        ["of somebody else"],
    )
    await place.pool.execute("UPDATE training_runs SET state = 'RUNNING' WHERE training_id = $1", row["training_id"])
    await place.pool.execute("UPDATE training_snapshots SET replaced_by = '' WHERE snapshot = $1", row["snapshot"])
    assert [str(row["training_id"]) in each for each in (await place.erase(ann.name)).pending] == [True]
    await place.pool.execute("UPDATE training_runs SET state = 'FAILED' WHERE training_id = $1", row["training_id"])
    assert (await place.erase(ann.name)).pending == ()


async def test_the_trainer_s_files_and_reports_lose_what_an_erasure_marked(place: Place, home: Path) -> None:
    ann, other = a_person(), a_person()
    await live(place, ann)
    await live(place, other)
    taken, _ = await snapshots.take(place.pool, TENANT, DataConfig(), home)
    words = {word for _, word in scan.in_files([home], ann.words)}
    assert {word.partition("-")[0] for word in words} == {"nguyễn", "query", "answer", "scored", "edited", "report"}
    await place.erase(ann.name)
    run = await place.pool.fetchval(
        "INSERT INTO training_runs (tenant_id, training_id, kind, state, snapshot, requested_by, report, report_html)"
        " VALUES ($1, $2, 'reward', 'SUCCEEDED', $3, 'test', $4, $5) RETURNING training_id",
        *(TENANT, UUID(int=uuid_utils.uuid7().int), taken.hash, a_report(place, ann), ann.text("page")),
    )  # of a run that ended after the erasure
    assert taken.hash in await forget(place.pool, home)
    assert await left_of(place, ann) == set()
    assert scan.in_files([home], ann.words) == set()
    assert scan.in_files([home], other.words) != set(), "nobody else's go"
    row = await place.pool.fetchrow("SELECT * FROM training_runs WHERE training_id = $1", run)
    assert row is not None
    assert (row["not_reproducible"], "[erased]" in row["report"], "[erased]" in row["report_html"]) == (True,) * 3
    await forget(place.pool, home)
    assert dict(row) == dict(await place.pool.fetchrow("SELECT * FROM training_runs WHERE training_id = $1", run) or {})


def a_report(place: Place, person: Person) -> str:
    """A run's report with a mistake that quotes the person."""
    nothing = Reliability(ece=None, brier=None, floor=None)
    mistake = Mistake(
        question="q",
        query=person.text("mistake"),
        better=Side(text=person.text("better"), score=0.5),
        worse=Side(text=person.text("worse"), score=0.75),
        kind="direct",
        users=(place.erasures.digest(TENANT, person.name).hex(),),
    )
    made = Report(
        ranking=Ranking(accuracy=Estimate(), similar=Estimate(), spearman=Estimate(), gain=Estimate()),
        fit=Fit(mse=Estimate(), mae=Estimate(), pearson=Estimate(), residual=Estimate()),
        calibration=Calibration(temperature=1.0, on="nothing", count=0, before=nothing, after=nothing),
        mistakes=(mistake,),
    )
    return json.dumps(report.document(made))


async def test_numbers_stay_readable_and_under_one_pseudonym(place: Place) -> None:
    ann = a_person()
    response_id = await live(place, ann)
    query = "SELECT * FROM {} WHERE tenant_id = $1 AND response_id = $2 ORDER BY 2"
    before = await place.pool.fetchrow(query.format("conversation_logs"), TENANT, response_id)
    rated = await place.pool.fetch(query.format("feedback_data"), TENANT, response_id)
    await place.erase(ann.name)
    after = await place.pool.fetchrow(query.format("conversation_logs"), TENANT, response_id)
    rated_after = await place.pool.fetch(query.format("feedback_data"), TENANT, response_id)
    assert before is not None
    assert after is not None
    gone = {
        *("request_id", "user_id", "session_id", "query", "context", "selected_response", "all_candidates"),
        *("tool_runs", "citations", "degradations", "reward_context", "erased"),
    }
    assert {name for name in dict(before) if before[name] != after[name]} == gone
    old, new = reply_of(dict(before)), reply_of(dict(after))
    scores = [(each.score, each.sampling, each.finish_reason, each.seconds, each.drawn) for each in old.candidates]
    assert [(e.score, e.sampling, e.finish_reason, e.seconds, e.drawn) for e in new.candidates] == scores
    assert [(f.check, f.passed, f.value) for f in new.candidates[0].findings] == [(Check.GROUNDING, False, 0.25)]
    assert [(run.tool, run.outcome, run.relevance, run.seconds) for run in new.tool_runs] == [
        ("docs", ToolOutcome.FOUND, 0.5, 0.125)
    ]
    assert [(each.number, each.support, each.evidence.tool) for each in new.citations] == [(1, 0.5, "docs")]
    assert [each.reason for each in new.degradations] == [DegradationReason.TOOL_UNAVAILABLE]
    changed = {
        name for old, new in zip(rated, rated_after, strict=True) for name in dict(old) if old[name] != new[name]
    }
    assert changed == {"user_id", "session_id", "text_feedback", "context", "erased"}
    assert {after["user_id"], *(each["user_id"] for each in rated_after)} == {after["user_id"]}
    assert after["user_id"].startswith("erased-")


async def test_failed_calls_and_decisions_stay_and_name_the_pseudonym_alone(place: Place) -> None:
    ann = a_person()
    await live(place, ann)
    digest = place.erasures.digest(TENANT, ann.name)
    rollout = await place.pool.fetchval("SELECT rollout_id FROM rollout_failures WHERE digest = $1", digest)
    await place.erase(ann.name)
    pseudonym = await place.pool.fetchval("SELECT pseudonym FROM erasures WHERE digest = $1", digest)
    left = await place.pool.fetch("SELECT * FROM rollout_failures WHERE rollout_id = $1", rollout)
    assert [(row["digest"], row["sticky"]) for row in left] == [(place.erasures.digest(TENANT, pseudonym), True)]
    decided = await place.pool.fetch(
        "SELECT confirmed, note FROM safety_decisions JOIN feedback_data USING (tenant_id, feedback_id)"
        " WHERE user_id = $1",
        pseudonym,
    )
    assert [tuple(row) for row in decided] == [(True, "")]


async def test_what_was_noted_of_another_s_report_goes_with_the_reply_that_it_is_about(place: Place) -> None:
    ann = a_person()
    entry = entry_of(ann)
    assert await place.ledger.insert([Row.of(entry)]) == set()
    report = await give_feedback(
        place.pool, TENANT, entry.turn.response_id, user_id="rater", kind="safety_report", text_feedback="Nguy hiểm."
    )
    await place.pool.execute(
        "INSERT INTO safety_decisions (tenant_id, feedback_id, confirmed, decided_by, note)"
        " VALUES ($1, $2, true, 'lan', 'What ann asked.')",
        *(TENANT, report),
    )
    await place.erase(ann.name)
    found = await place.pool.fetchrow("SELECT * FROM safety_decisions WHERE feedback_id = $1", report)
    assert found is not None
    assert (found["note"], found["confirmed"], found["decided_by"]) == ("", True, "lan")


async def test_the_history_of_feedback_keeps_its_rows_their_order_and_what_counters_read(place: Place) -> None:
    ann = a_person()
    response_id = await live(place, ann)
    history = (
        "SELECT r.*, r.xmin IS NULL AS _ FROM feedback_revisions AS r JOIN feedback_data AS f"
        " USING (tenant_id, feedback_id) WHERE f.response_id = $1 ORDER BY r.transaction_id, r.feedback_id"
    )
    before = [dict(row) for row in await place.pool.fetch(history, response_id)]
    await place.erase(ann.name)
    after = [dict(row) for row in await place.pool.fetch(history, response_id)]
    assert [row["text_feedback"] for row in after] == ["", "", ""]
    assert after == [row | {"text_feedback": ""} for row in before]


async def test_rows_that_reach_the_log_late_are_blank_and_those_of_a_returned_user_whole(place: Place) -> None:
    ann, returned = a_person(), a_person()
    early, spooled = entry_of(ann), entry_of(ann)
    done = await place.erase(ann.name)
    assert early.turn.response_id <= last_of(done.until)
    await asyncio.sleep(0.002)  # the erasure reaches to the end of its millisecond
    later = replace(entry_of(returned), turn=replace(entry_of(returned).turn, user_id=ann.name))
    journal = Journal(place.pool, digest=place.erasures.digest)
    await journal.start()
    replies = await asyncio.gather(journal.append(early), journal.append(later))
    await journal.stop()
    await place.ledger.restore([Row.of(spooled)])
    await place.ledger.restore([Row.of(spooled)])  # what is not known to have succeeded is tried again
    assert [each.response for each in replies] == [early.reply.response, later.reply.response]
    assert {word for _, word in await left_of(place, ann)} == {ann.name}, "the returned user's row has the id alone"
    rows = {row["response_id"]: row for row in await place.rows(ann.name)}
    assert rows.keys() == {later.turn.response_id}
    assert rows[later.turn.response_id]["query"] == later.turn.query
    blank = await place.pool.fetch(
        "SELECT * FROM conversation_logs WHERE response_id = ANY($1::uuid[])",
        [early.turn.response_id, spooled.turn.response_id],
    )
    assert [(row["erased"], row["query"], row["request_id"]) for row in blank] == [(True, "", "")] * 2
    assert [row["spooled"] for row in blank].count(True) == 0
    assert len({row["user_id"] for row in blank}) == 1
    again = await place.erase(ann.name)
    assert again.counts["conversation_logs"] == 1
    assert {row["user_id"] for row in blank} == {
        await place.pool.fetchval(
            "SELECT user_id FROM conversation_logs WHERE response_id = $1", later.turn.response_id
        )
    }, "one person stays one unit"


async def test_a_spool_left_on_disk_is_told_of_and_drains_without_texts(place: Place, pool: asyncpg.Pool) -> None:
    ann = a_person()
    spool = Spool(place.spool, 1 << 24)
    entries = [entry_of(ann) for _ in range(3)]
    for entry in entries:
        await spool.append(encode(Row.of(entry)))
    await spool.close()  # as of a process that was killed
    done = await place.erase(ann.name, seconds=1.0)
    assert ["wait on this server's disk" in each for each in done.pending] == [True]
    journal = Journal(pool, spool=Spool(place.spool, 1 << 24), digest=place.erasures.digest)
    await journal.start()
    await journal.stop()
    assert await left_of(place, ann) == set()
    ids = [entry.turn.response_id for entry in entries]
    rows = await pool.fetch("SELECT erased, spooled FROM conversation_logs WHERE response_id = ANY($1::uuid[])", ids)
    assert [tuple(row) for row in rows] == [(True, True)] * 3
    assert (await place.erase(ann.name)).pending == ()


async def test_what_the_spool_had_set_aside_is_looked_through(place: Place) -> None:
    ann, other = a_person(), a_person()
    refused, kept = encode(Row.of(entry_of(ann))), encode(Row.of(entry_of(other)))
    names = [uuid_utils.uuid7().hex for _ in range(3)]
    (place.spool / f"{names[0]}.refused").write_bytes(refused + b"\n" + kept + b"\n")
    (place.spool / f"{names[1]}.refused").write_bytes(refused + b"\n")
    (place.spool / f"{names[2]}.damaged").write_bytes(frame(refused)[:-9])
    done = await place.erase(ann.name)
    assert done.counts["spool"] == 2
    assert [f"{names[2]}.damaged" in each for each in done.pending] == [True]
    assert (place.spool / f"{names[0]}.refused").read_bytes() == kept + b"\n"
    assert not (place.spool / f"{names[1]}.refused").exists()
    (place.spool / f"{names[2]}.damaged").unlink()
    assert await left_of(place, ann) == set()
    assert (await place.erase(ann.name)).pending == ()


async def test_a_refused_row_of_a_returned_user_stays(place: Place) -> None:
    ann = a_person()
    later = last_of(datetime.now(UTC) + timedelta(hours=1))
    path = place.spool / f"{uuid_utils.uuid7().hex}.refused"
    path.write_bytes(encode(Row.of(entry_of(ann, response_id=later))) + b"\n")
    before = path.read_bytes()
    assert (await place.erase(ann.name)).counts["spool"] == 0
    assert path.read_bytes() == before


async def test_what_is_set_in_a_profile_while_it_is_erased_goes_too(place: Place) -> None:
    ann = a_person()

    class Slow(PostgresProfiles):
        deleted = False

        async def delete(self, tenant: str, user: str) -> bool:
            done = await super().delete(tenant, user)
            if not self.deleted:
                self.deleted = True
                await self.put(tenant, user, ProfileChange({"city": ann.text("city")}))
            return done

    keys = UserKeys(place.redis, place.erasures.digest, 120)
    done = await Eraser(place.pool, place.erasures, keys, Slow(place.pool), None).erase(TENANT, ann.name, 30)
    assert (done.counts["profiles"], await left_of(place, ann)) == (1, set())


async def test_a_writer_whose_view_is_older_than_the_erasure_is_waited_for(place: Place) -> None:
    ann = a_person()
    entry = entry_of(ann)
    slow = Ledger(place.pool, place.pool)  # as one that looked for erasures just before there was one
    async with place.pool.acquire() as connection:
        writing = connection.transaction()
        await writing.start()
        await connection.execute("SELECT FROM conversation_logs LIMIT 0")
        await slow_insert(connection, entry)
        erasing = asyncio.create_task(place.erase(ann.name))
        while not await place.pool.fetchval(
            "SELECT count(*) FROM erasures WHERE digest = $1", place.erasures.digest(TENANT, ann.name)
        ):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert not erasing.done()
        others = asyncio.create_task(slow.insert([Row.of(an_entry(a_turn(user_id="bob")))]))
        assert await others == set(), "others write meanwhile"
        await writing.commit()
    assert (await erasing).counts["conversation_logs"] == 1
    assert await left_of(place, ann) == set()


async def test_feedback_that_is_being_written_is_waited_for(place: Place) -> None:
    ann = a_person()
    entry = entry_of(ann)
    await place.ledger.insert([Row.of(entry)])
    careless = PostgresFeedback(place.pool)  # as one that looked for erasures just before there was one
    said = Change(Kind.RATING, Opinion(text_feedback=ann.text("comment")))
    async with place.pool.acquire() as holding:
        writing = holding.transaction()
        await writing.start()
        await holding.execute("LOCK TABLE feedback_revisions IN SHARE MODE")  # feedback waits in its transaction
        rating = asyncio.create_task(
            careless.submit(
                Submission(given_of(entry), (said,), RequestKey(ann.text("rating"), b"1"), entry.reply.created_at)
            )
        )
        while not await place.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        erasing = asyncio.create_task(place.erase(ann.name))
        await asyncio.sleep(0.5)
        assert not erasing.done()
        await writing.commit()
    await rating
    await erasing
    assert await left_of(place, ann) == set()


async def test_live_counters_equal_a_rebuild_after_an_erasure(pool: asyncpg.Pool, stack: RunningStack) -> None:
    valkey = OwnValkey()
    await valkey.start()
    client = memory.connect(valkey.url)
    async with own_database(pool, stack.endpoints.database_url) as own:
        counters, feed = RedisCounters(client), PostgresFeed(own)
        follower = Follower(counters, feed)
        erasures, feedback = await Erasures.open(own), PostgresFeedback(own)
        made, arguments = replies(random.Random(1), 30, TENANT, datetime.now(UTC))
        await own.execute(INSERT, *arguments)
        for stars, reply in enumerate(made, 1):
            says = Opinion(rating_overall=stars % 5 + 1, text_feedback="Tốt lắm" if stars % 2 else "")
            await feedback.submit(
                Submission(reply, (Change(Kind.RATING, says),), RequestKey("", b""), datetime.now(UTC))
            )
        await follower.begin()
        await follower.follow()
        followed = await dumped(counters)
        eraser = Eraser(own, erasures, UserKeys(client, erasures.digest, 9), PostgresProfiles(own), None)
        done = await eraser.erase(TENANT, "ann", 30)
        assert (done.counts["conversation_logs"], done.counts["feedback_data"]) == (30, 30)
        assert done.counts["feedback_revisions"] == 15, "those with a comment"
        await follower.follow()
        assert await dumped(counters) == followed
        await follower.rebuild()
        assert await dumped(counters) == followed
        await follower.close()
    await client.aclose()
    await valkey.close()


async def dumped(counters: RedisCounters) -> dict[str, dict[str, int]]:
    state = await counters.state()
    assert state is not None
    return await counters.dump(state.generation)


async def slow_insert(connection: Any, entry: LogEntry) -> None:
    columns = Row.of(entry).columns
    names = ", ".join(f'"{name}"' for name in columns)
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    await connection.execute(f"INSERT INTO conversation_logs ({names}) VALUES ({places})", *columns.values())


async def test_feedback_with_a_receipt_from_before_is_refused_after(place: Place) -> None:
    ann = a_person()
    by_receipt = replace(given_of(entry_of(ann)), logged=False)
    await place.erase(ann.name)
    with pytest.raises(ResponseNotFound):
        await rate(place, by_receipt, text_feedback=ann.text("late"), key=RequestKey(ann.text("key"), b"1"))
    assert await left_of(place, ann) == set()


async def test_requests_under_way_bring_neither_memory_nor_profile_back(place: Place) -> None:
    ann = a_person()
    turn = entry_of(ann).turn
    await place.erase(ann.name)
    learner = Learner(place.profiles, "m", place.erasures.reached)
    learner.start()
    learner.asked(TENANT, ann.name, EAST, turn.response_id)
    await place.memory.remember(TENANT, ann.name, turn.session_id, turn.response_id, Exchange(turn.query, "…"))
    assert not await place.memory.claim_feedback_prompt(TENANT, f"user {ann.name}")
    await learner.stop()
    assert await left_of(place, ann) == set()
    await asyncio.sleep(0.002)
    later = UUID(int=uuid_utils.uuid7().int)
    await place.memory.remember(TENANT, ann.name, "s", later, Exchange("Xin chào", "Chào bạn!"))
    assert len((await place.memory.recall(TENANT, ann.name, "s")).exchanges) == 1, "who comes back is remembered"


async def test_a_lesson_that_is_learned_while_its_user_is_erased_is_undone(place: Place) -> None:
    ann = a_person()
    response_id = UUID(int=uuid_utils.uuid7().int)

    class Slow(PostgresProfiles):
        async def learn(self, *lesson: Any) -> None:
            await place.erase(ann.name)
            await super().learn(*lesson)

    learner = Learner(Slow(place.pool), "m", place.erasures.reached)
    learner.start()
    learner.asked(TENANT, ann.name, EAST, response_id)
    await learner.stop()
    assert await place.profiles.get(TENANT, ann.name) is None


async def test_nobody_remembers_for_a_user_while_an_erasure_is_under_way(place: Place) -> None:
    ann = a_person()
    keys = UserKeys(place.redis, place.erasures.digest, 120)
    await keys.erase(TENANT, ann.name)
    await place.memory.remember(TENANT, ann.name, "s", UUID(int=uuid_utils.uuid7().int), Exchange("q", "r"))
    assert (await place.memory.recall(TENANT, ann.name, "s")).exchanges == ()


async def test_a_second_erasure_waits_for_the_first_and_opens_the_memory_no_sooner(place: Place) -> None:
    ann = a_person()
    tasks: list[asyncio.Task[Erased]] = []

    class Slow(PostgresProfiles):
        async def delete(self, tenant: str, user: str) -> bool:
            if not tasks:
                tasks.append(asyncio.create_task(place.erase(ann.name)))
                await asyncio.sleep(0.5)
                now = UUID(int=uuid_utils.uuid7().int)
                await place.memory.remember(tenant, user, "s", now, Exchange(ann.text("between"), "r"))
            return await super().delete(tenant, user)

    keys = UserKeys(place.redis, place.erasures.digest, 120)
    await Eraser(place.pool, place.erasures, keys, Slow(place.pool), None).erase(TENANT, ann.name, 30)
    await asyncio.gather(*tasks)
    assert await left_of(place, ann) == set()


@pytest.mark.parametrize("name", ["a*", "a?b[c]^\\", "5.default:1.x", "user ann", "tiếng Việt 🎉"])
async def test_names_that_look_like_patterns_reach_nobody_else(place: Place, name: str) -> None:
    ann, others = f"{name}{secrets.token_hex(4)}", [f"a{secrets.token_hex(4)}", "abc", f"user {name}"]
    for user in (ann, *others):
        await place.memory.remember(TENANT, user, "s", UUID(int=uuid_utils.uuid7().int), Exchange("q", user))
    await place.memory.remember("other", ann, "s", UUID(int=uuid_utils.uuid7().int), Exchange("q", "r"))
    hostile = f"x:7.default:{len(ann)}.{ann}"  # a session that spells the user's key within its own
    await place.memory.remember("other", "bob", hostile, UUID(int=uuid_utils.uuid7().int), Exchange("q", "r"))
    await place.erase(ann)
    assert await place.redis.delete(key("session", "other", "bob", hostile)) == 1
    assert (await place.memory.recall(TENANT, ann, "s")).exchanges == ()
    for tenant, user in [*((TENANT, each) for each in others), ("other", ann)]:
        assert len((await place.memory.recall(tenant, user, "s")).exchanges) == 1
        await place.redis.delete(key("session", tenant, user, "s"))


async def test_asking_on_while_being_erased_twice_at_once_loses_nothing_and_hangs_nobody(place: Place) -> None:
    ann = a_person()
    journal = Journal(place.pool, digest=place.erasures.digest)
    await journal.start()
    asked: list[LogEntry] = []
    going = True

    async def ask() -> None:
        while going:
            entry = an_entry(a_turn(user_id=ann.name, session_id="s", query=f"q {len(asked)}", request_id=""))
            asked.append(entry)
            await journal.append(entry)

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    await asyncio.sleep(0.1)
    second = Eraser(place.pool, place.erasures, UserKeys(place.redis, place.erasures.digest, 120), place.profiles, None)
    async with asyncio.timeout(30):
        done = await asyncio.gather(place.erase(ann.name), second.erase(TENANT, ann.name, 30), place.erase(ann.name))
    await asyncio.sleep(0.1)
    going = False
    await asyncio.gather(*asking)
    await journal.stop()
    last = max(last_of(each.until) for each in done)
    rows = {
        row["response_id"]: row
        for row in await place.pool.fetch(
            "SELECT * FROM conversation_logs WHERE response_id = ANY($1::uuid[])", [e.turn.response_id for e in asked]
        )
    }
    assert len(rows) == len(asked) > 20
    for entry in asked:
        row = rows[entry.turn.response_id]
        if entry.turn.response_id <= last:
            assert (row["erased"], row["query"]) == (True, "")
        else:
            assert (row["erased"], row["query"], row["user_id"]) == (False, entry.turn.query, ann.name)
    assert any(each.turn.response_id > last for each in asked)


async def test_an_erasure_that_was_cut_off_goes_on_where_it_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = a_person()
    for _ in range(12):
        await place.ledger.insert([Row.of(entry_of(ann))])
    monkeypatch.setattr(sweep, "LOGS", 2)
    real, left = sweep._blank, [3]

    async def slow(*given: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            await given[0].execute("SELECT pg_sleep(3)")
        return await real(*given)

    monkeypatch.setattr(sweep, "_blank", slow)
    with pytest.raises(DeadlineExceeded):
        await place.erase(ann.name, seconds=1.5)
    assert len(await place.rows(ann.name)) == 6
    left[0] = 100
    done = await place.erase(ann.name)
    assert (done.counts["conversation_logs"], await left_of(place, ann)) == (6, set())


async def test_without_redis_nothing_is_promised(place: Place) -> None:
    gone = memory.connect("redis://127.0.0.1:1")
    eraser = Eraser(place.pool, place.erasures, UserKeys(gone, place.erasures.digest, 120), place.profiles, None)
    with pytest.raises(StoreUnavailable):
        await eraser.erase(TENANT, "ann", 10)
    await gone.aclose()


async def test_the_same_id_of_another_tenant_is_another_user(place: Place) -> None:
    ann = a_person()
    theirs = entry_of(ann, tenant_id="other")
    await place.ledger.insert([Row.of(theirs)])
    await place.erase(ann.name)
    (row,) = await place.rows(ann.name)
    assert (row["tenant_id"], row["query"], row["erased"]) == ("other", theirs.turn.query, False)
    assert place.erasures.digest("a", "bc") != place.erasures.digest("ab", "c")


async def test_the_digest_is_keyed_and_outlives_processes(place: Place, pool: asyncpg.Pool) -> None:
    again = await Erasures.open(pool)
    assert again.digest(TENANT, "ann") == place.erasures.digest(TENANT, "ann")
    assert Erasures(pool, b"another").digest(TENANT, "ann") != again.digest(TENANT, "ann")


def test_an_erasure_reaches_to_the_end_of_its_millisecond() -> None:
    moment = datetime(2026, 9, 15, 12, 0, 0, 999_999, tzinfo=UTC)
    last = last_of(moment)
    assert last.int >> 80 == int(moment.timestamp()) * 1000 + 999
    assert last < last_of(moment + timedelta(microseconds=1)), "the next millisecond is not reached"
    assert json.dumps(str(last)).endswith('ffff"')
