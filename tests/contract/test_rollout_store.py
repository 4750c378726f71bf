"""Rollouts in Postgres: each step once and as a whole, an audit that only grows, and servers that hear of it."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from server.errors import (
    FeedbackNotFound,
    ReleaseExists,
    ReleaseNotFound,
    RequestIdReused,
    RolloutNotFound,
    StoreUnavailable,
)
from server.rollout.commands import undo
from server.rollout.continuity import Continuity, Method
from server.rollout.errors import RolloutChanged, RolloutNotPossible
from server.rollout.guards import Look
from server.rollout.machine import move
from server.rollout.plan import Plan, Stage
from server.rollout.registry import Assignment, Looked, ReplicaModel, ReplicaState
from server.rollout.types import Cause, Kind, Move, Pause, Rollout, State, Trigger
from server.storage import releases as registry
from server.storage import rollouts as store
from server.storage.rollouts import PostgresRollouts
from server.storage.training import new_id
from tests.conftest import RunningStack
from tests.registered import (
    LAN,
    a_release,
    drafted,
    no_rollout_made_the_champion,
    onward,
    report_on,
    settle,
    started,
    two,
    under_way,
)
from tests.rollouts import good
from tests.tenants import Tenant, a_tenant

NOW = datetime(2026, 9, 15, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
async def rollouts(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresRollouts]:
    for name in ("READING", "WRITING"):
        for module in (registry, store):
            monkeypatch.setattr(module, name, 20.0)  # a busy machine is no Postgres that is away
    await settle(pool)
    yield PostgresRollouts(pool)
    await settle(pool)


@pytest.fixture
async def tenant(pool: asyncpg.Pool) -> Tenant:
    return await a_tenant(pool)


# Drafts


async def test_a_draft_is_read_as_it_was_written(rollouts: PostgresRollouts) -> None:
    plan = Plan(stages=(Stage(share=0.25, minimum_samples=3), Stage(share=1)), shadow=None, salt="muối")
    made = await rollouts.create(drafted(*await two(rollouts), plan=plan))
    assert await rollouts.get(made.rollout_id) == made
    (event,) = await rollouts.events(made.rollout_id, size=10, before=0)
    assert (event.version, event.trigger, event.actor, event.before) == (1, Trigger.DRAFT, LAN, None)
    assert await rollouts.created([made.rollout_id]) == {made.rollout_id: (event.at, "lan")}
    assert await rollouts.active() == []


async def test_a_repeated_request_gives_what_the_first_one_made_as_it_is_now(rollouts: PostgresRollouts) -> None:
    pair, request = await two(rollouts), uuid4().hex
    asked = [rollouts.create(drafted(*pair), request_id=request, fingerprint=b"same") for _ in range(6)]
    made = await asyncio.gather(*asked)
    assert len({each.rollout_id for each in made}) == 1
    await rollouts.apply(started(made[0]))
    again = await rollouts.create(drafted(*pair), request_id=request, fingerprint=b"same")
    assert (again.rollout_id, again.state) == (made[0].rollout_id, State.PUBLISHED)
    assert len(await rollouts.events(again.rollout_id, size=10, before=0)) == 2
    with pytest.raises(RequestIdReused):
        await rollouts.create(drafted(*pair), request_id=request, fingerprint=b"other")


async def test_without_a_request_id_each_draft_is_its_own(rollouts: PostgresRollouts) -> None:
    pair = await two(rollouts)
    first, second = [await rollouts.create(drafted(*pair)) for _ in range(2)]
    assert first.rollout_id != second.rollout_id


async def test_a_draft_of_what_nobody_published_is_refused(rollouts: PostgresRollouts) -> None:
    champion, challenger = await two(rollouts)
    for wrong in ((champion, "reward-of-nobody"), ("reward-of-nobody", challenger)):
        with pytest.raises(ReleaseNotFound, match="reward-of-nobody"):
            await rollouts.create(drafted(*wrong))
    lost = drafted(champion, challenger)
    with pytest.raises(RolloutNotFound):
        await rollouts.create(replace(lost, rollout=replace(lost.rollout, undoes=str(uuid4()))))
    assert await rollouts.page(size=1, before="", kind=None, active_only=True) == []


# Steps


async def test_of_two_writers_one_writes_and_the_other_is_told(rollouts: PostgresRollouts) -> None:
    rollout = await under_way(rollouts)
    steps = [onward(rollout), move(Look(rollout, good(rollout), NOW), Trigger.PAUSE, LAN, "Wait.", Cause.PERSON)] * 4
    found = await asyncio.gather(*(rollouts.apply(each) for each in steps), return_exceptions=True)
    assert found.count(None) == 1
    assert all(isinstance(each, RolloutChanged) for each in found if each is not None)
    written = steps[found.index(None)]
    assert await rollouts.get(rollout.rollout_id) == written.rollout
    newest, *_ = await rollouts.events(rollout.rollout_id, size=10, before=0)
    assert newest == written.event


async def test_a_step_of_a_rollout_that_is_not_there_is_told_so(rollouts: PostgresRollouts) -> None:
    nobody = onward(replace(await under_way(rollouts), rollout_id=str(uuid4())))
    with pytest.raises(RolloutNotFound):
        await rollouts.apply(nobody)
    for wrong in ("", "0193", "x" * 36, "0193-\x00"):
        with pytest.raises(RolloutNotFound):
            await rollouts.get(wrong)


async def test_a_paused_rollout_and_its_evidence_are_read_as_they_were(rollouts: PostgresRollouts) -> None:
    rollout = await under_way(rollouts)
    paused = replace(
        onward(rollout).rollout,
        state=State.PAUSED,
        resumes_to=State.SHADOW,
        served=12.5,
        lost=0.25,
        pauses=(Pause(Cause.SAFETY, NOW, "Một báo cáo."), Pause(Cause.PERSON, NOW, "Chờ đã.")),
    )
    figures = {"none": float("nan"), "most": [float("inf"), 1.5], "text": "a\x00b"}
    event = replace(onward(rollout, figures=figures).event, reason="vì\x00 thế")
    await rollouts.apply(Move(paused, event))
    assert await rollouts.get(rollout.rollout_id) == paused
    newest, *_ = await rollouts.events(rollout.rollout_id, size=1, before=0)
    assert newest.evidence == replace(good(rollout), figures={"none": None, "most": [None, 1.5], "text": "ab"})
    assert newest.reason == "vì thế"


async def test_each_kind_has_one_under_way(rollouts: PostgresRollouts) -> None:
    pair = await two(rollouts)
    drafts = [await rollouts.create(drafted(*pair)) for _ in range(5)]
    found = await asyncio.gather(*(rollouts.apply(started(each)) for each in drafts), return_exceptions=True)
    assert found.count(None) == 1
    assert all(isinstance(each, RolloutNotPossible) for each in found if each is not None)
    of_policies = await under_way(rollouts, Kind.POLICY)
    active = await rollouts.active()
    assert [each.kind for each in active] == [Kind.REWARD, Kind.POLICY]
    assert active[1] == of_policies


async def test_what_is_verified_is_the_champion_and_stays_known_until_it_has_drained(
    pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    rollout = await walked(rollouts)
    assert (await rollouts.champions())[Kind.REWARD].release == rollout.challenger
    recent = replace(rollout, since=await rollouts.now())
    await pool.execute("UPDATE rollouts SET since = $1 WHERE rollout_id = $2::uuid", recent.since, rollout.rollout_id)
    assert await rollouts.active() == [recent]
    await pool.execute("UPDATE rollouts SET since = now() - interval '1 h' WHERE state = 'verified'")
    assert await rollouts.active() == []
    back = undo(recent, rollout_id=str(new_id()), actor=LAN, reason="It was better.", now=NOW)
    made = await rollouts.create(back)
    assert (await rollouts.get(made.rollout_id)).undoes == rollout.rollout_id
    await rollouts.apply(started(made))


async def walked(rollouts: PostgresRollouts) -> Rollout:
    """A rollout to its end, by the controller."""
    rollout = await under_way(rollouts)
    while rollout.state is not State.VERIFIED:
        step = onward(rollout)
        await rollouts.apply(step)
        rollout = step.rollout
    return rollout


async def test_a_draft_does_not_start_against_who_is_champion_no_more(rollouts: PostgresRollouts) -> None:
    """Whoever starts it has looked before; the one that is verified between would be undone by it."""
    champion, _ = await two(rollouts)
    late = a_release()
    await rollouts.publish(late)
    waiting = await rollouts.create(drafted(champion, late.release))
    await walked(rollouts)
    with pytest.raises(RolloutChanged, match="champion"):
        await rollouts.apply(started(waiting))
    assert (await rollouts.get(waiting.rollout_id)).state is State.DRAFT


async def test_an_event_that_can_t_be_written_leaves_the_rollout_as_it_was(
    pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    rollout = await under_way(rollouts)
    step = onward(rollout)
    await pool.execute(
        "INSERT INTO rollout_events (rollout_id, version, at, actor, is_person, trigger, after, reason)"
        " VALUES ($1::uuid, $2, now(), 'x', true, 'pause', '{}', '')",
        *(rollout.rollout_id, step.event.version),
    )
    with pytest.raises(StoreUnavailable):
        await rollouts.apply(step)
    assert await rollouts.get(rollout.rollout_id) == rollout


_KILLED = """
import asyncio, os, signal, sys
from server.storage import database, rollouts
from tests.registered import onward
url, rollout_id, place = sys.argv[1], sys.argv[2], int(sys.argv[3])

async def main():
    pool = await database.connect(url, size=2)
    store = rollouts.PostgresRollouts(pool)
    rollout = await store.get(rollout_id)
    real = database.Connection.__args__[0].execute
    left = [place]
    async def dying(self, *given, **named):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return await real(self, *given, **named)
    database.Connection.__args__[0].execute = dying
    await store.apply(onward(rollout))
asyncio.run(main())
"""


async def test_killed_at_any_statement_a_step_is_whole_or_not_there(
    stack: RunningStack, rollouts: PostgresRollouts
) -> None:
    """The step is the last one, which changes the champion too."""
    rollout = await under_way(rollouts)
    while rollout.state is not State.CANARY or not rollout.is_last_stage:
        step = onward(rollout)
        await rollouts.apply(step)
        rollout = step.rollout
    crowned = (await rollouts.champions())[Kind.REWARD]
    for place in itertools.count():
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _KILLED, stack.endpoints.database_url, rollout.rollout_id, str(place)],
            env={**os.environ, "PYTHONPATH": "."},
            check=False,
        )
        now, champion = await rollouts.get(rollout.rollout_id), (await rollouts.champions())[Kind.REWARD]
        newest, *_ = await rollouts.events(rollout.rollout_id, size=1, before=0)
        assert done.returncode == -signal.SIGKILL, "it died, and after its commit at the latest"
        if now != rollout:
            break
        assert (champion, newest.version) == (crowned, rollout.version)
    assert place > 4, "before: BEGIN, the rollout, the champion, the event, COMMIT"
    assert (now.state, now.version, newest.version) == (State.VERIFIED, rollout.version + 1, rollout.version + 1)
    assert champion.release == rollout.challenger


# What is told


async def test_the_audit_refuses_every_change(pool: asyncpg.Pool, rollouts: PostgresRollouts) -> None:
    rollout = await under_way(rollouts)
    before = await rollouts.events(rollout.rollout_id, size=10, before=0)
    for statement in (
        "UPDATE rollout_events SET reason = 'nothing'",
        "DELETE FROM rollout_events",
        "TRUNCATE rollout_events",
        "TRUNCATE rollouts CASCADE",
    ):
        with pytest.raises(asyncpg.RaiseError, match="only grows"):
            await pool.execute(statement)
    assert await rollouts.events(rollout.rollout_id, size=10, before=0) == before


async def test_every_change_of_who_answers_is_told_at_once(pool: asyncpg.Pool, rollouts: PostgresRollouts) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with pool.acquire() as connection:

        def hear(_: object, __: int, channel: str, ___: object) -> None:
            heard.put_nowait(channel)

        await connection.add_listener("ratchet_routes", hear)
        champion, challenger = await two(rollouts)
        await said(heard)
        made = await rollouts.create(drafted(champion, challenger))
        await said(heard)
        await rollouts.apply(started(made))
        await said(heard)
        await rollouts.set_threshold(challenger, 0.5, {})
        await said(heard)
        await connection.remove_listener("ratchet_routes", hear)


async def said(heard: asyncio.Queue[str]) -> None:
    """Waits for a notice, and takes those that came with it."""
    async with asyncio.timeout(20):
        assert await heard.get() == "ratchet_routes"
    await asyncio.sleep(0.05)
    while not heard.empty():
        heard.get_nowait()


async def test_pages_and_events_go_on_where_the_last_one_stopped(rollouts: PostgresRollouts) -> None:
    pair = await two(rollouts)
    made = [await rollouts.create(drafted(*pair)) for _ in range(3)]
    first = await rollouts.page(size=2, before="", kind=Kind.REWARD, active_only=False)
    second = await rollouts.page(size=1, before=first[-1].rollout_id, kind=Kind.REWARD, active_only=False)
    assert [*first, *second] == made[::-1]
    assert all(each.kind is Kind.POLICY for each in await page_of(rollouts, Kind.POLICY))
    rollout = await walked(rollouts)
    events = await rollouts.events(rollout.rollout_id, size=1000, before=0)
    assert [each.version for each in events] == list(range(rollout.version, 0, -1))
    assert await rollouts.events(rollout.rollout_id, size=2, before=3) == events[-2:]


async def page_of(rollouts: PostgresRollouts, kind: Kind) -> list[Rollout]:
    return await rollouts.page(size=100, before="", kind=kind, active_only=False)


async def test_the_last_look_is_kept_and_none_of_an_older_version(rollouts: PostgresRollouts) -> None:
    rollout = await under_way(rollouts)
    assert await rollouts.looked(rollout.rollout_id) is None
    looks = [Looked(version, NOW, f"Look {version}.", {"samples": version}) for version in (1, 2, 3)]
    await rollouts.look(rollout.rollout_id, looks[0])
    assert await rollouts.looked(rollout.rollout_id) is None, "of the draft"
    await rollouts.look(rollout.rollout_id, looks[1])
    await rollouts.look(rollout.rollout_id, replace(looks[1], reason="Later."))
    assert await rollouts.looked(rollout.rollout_id) == replace(looks[1], reason="Later.")
    await rollouts.look(str(uuid4()), looks[2])


# Releases and replicas


async def test_a_release_is_registered_once(rollouts: PostgresRollouts) -> None:
    release = a_release(training_id=uuid4(), threshold=0.5, continuity={"method": "kept"})
    found = await asyncio.gather(*(rollouts.publish(release) for _ in range(4)))
    assert sorted(before for _, before in found) == [False, True, True, True]
    assert {each.release for each, _ in found} == {release.release}
    assert await rollouts.release(release.release) == release
    with pytest.raises(ReleaseExists):
        await rollouts.publish(replace(release, digest=b"other"))
    with pytest.raises(ReleaseNotFound):
        await rollouts.release("reward-of-nobody")


async def test_a_threshold_is_kept_with_how_it_was_found(rollouts: PostgresRollouts) -> None:
    release = a_release()
    await rollouts.publish(release)
    found = Continuity(0.25, Method.MATCHED, 200, 0, 0.5, 0.505, "Matched on 200 replies.")
    await rollouts.set_threshold(release.release, 0.25, found)
    known = await rollouts.release(release.release)
    assert known.threshold == 0.25
    assert known.continuity == {
        "threshold": 0.25,
        "method": "matched",
        "pairs": 200,
        "ratings": 0,
        "passed_before": 0.5,
        "passed_after": 0.505,
        "sentence": "Matched on 200 replies.",
    }
    with pytest.raises(ReleaseNotFound):
        await rollouts.set_threshold("reward-of-nobody", 0.25, found)


async def test_releases_come_newest_first(rollouts: PostgresRollouts) -> None:
    later = NOW + timedelta(days=3650)  # than all that other tests made
    made = [a_release(published_at=later + timedelta(seconds=number // 2)) for number in range(4)]
    for each in made:
        await rollouts.publish(each)
    expected = sorted(made, key=lambda each: (each.published_at, each.release), reverse=True)
    first = await rollouts.releases(size=3, before="", kind=Kind.REWARD)
    second = await rollouts.releases(size=1, before=first[-1].release, kind=None)
    assert [*first, *second] == expected
    assert all(each.kind is Kind.POLICY for each in await rollouts.releases(size=9, before="", kind=Kind.POLICY))


async def test_the_first_champion_is_crowned_once(rollouts: PostgresRollouts) -> None:
    releases = [a_release() for _ in range(4)]
    for each in releases:
        await rollouts.publish(each)
    found = await asyncio.gather(*(rollouts.crown_first(Kind.REWARD, each.release) for each in releases))
    assert len({each.release for each in found}) == 1
    assert (await rollouts.champions())[Kind.REWARD] == found[0]
    with pytest.raises(ReleaseNotFound):
        await rollouts.crown_first(Kind.POLICY, "policy-of-nobody")


async def test_what_the_settings_name_is_crowned_until_a_rollout_is_under_way_or_made_one(
    pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    await no_rollout_made_the_champion(pool)
    champion, challenger = await two(rollouts)
    for name in (challenger, champion):  # settings that change
        assert (await rollouts.crown_configured(Kind.REWARD, name)).release == name
    step = started(await rollouts.create(drafted(champion, challenger)))
    await rollouts.apply(step)
    assert (await rollouts.crown_configured(Kind.REWARD, challenger)).release == champion, "it is compared with"
    await rollouts.apply(onward(step.rollout, Trigger.FAIL))
    assert (await rollouts.crown_configured(Kind.REWARD, challenger)).release == challenger
    await rollouts.crown_configured(Kind.REWARD, champion)
    made = await walked(rollouts)
    assert (await rollouts.crown_configured(Kind.REWARD, champion)).release == made.challenger
    with pytest.raises(ReleaseNotFound):
        await rollouts.crown_configured(Kind.POLICY, "policy-of-nobody")


async def test_no_rollout_starts_against_whom_the_settings_crown_meanwhile(
    pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    champion, challenger = await two(rollouts)
    other = a_release()
    await rollouts.publish(other)
    step = started(await rollouts.create(drafted(champion, challenger)))
    async with pool.acquire() as crowning:
        async with crowning.transaction():
            await crowning.execute("UPDATE champions SET release = $1 WHERE kind = 'reward'", other.release)
            starting = asyncio.create_task(rollouts.apply(step))
            await held_up(pool, starting)
        with pytest.raises(RolloutChanged, match="champion"):
            await starting


async def test_the_settings_crown_nobody_beside_a_rollout_that_starts_meanwhile(
    pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    await no_rollout_made_the_champion(pool)
    champion, challenger = await two(rollouts)
    made = await rollouts.create(drafted(champion, challenger))
    async with pool.acquire() as start:
        async with start.transaction():
            await start.execute(
                "UPDATE rollouts SET state = 'published', version = 2 WHERE rollout_id = $1", UUID(made.rollout_id)
            )
            await start.execute(store._CHAMPION, "reward")
            crowning = asyncio.create_task(rollouts.crown_configured(Kind.REWARD, challenger))
            await held_up(pool, crowning)
        assert (await crowning).release == champion


async def held_up(pool: asyncpg.Pool, work: "asyncio.Task[object]") -> None:
    """Returns once it waits for a lock, or has ended without."""
    waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')"
    while not work.done() and not await pool.fetchval(waiting):
        await asyncio.sleep(0.01)


async def test_replicas_are_known_as_they_were_reported_last(rollouts: PostgresRollouts) -> None:
    def on(replica: str, release: str, state: ReplicaState = ReplicaState.READY, refusal: str = "") -> ReplicaModel:
        return ReplicaModel(replica=replica, release=release, state=state, since=NOW, checked_at=NOW, refusal=refusal)

    first = [on("a:1", "reward-1"), on("a:1", "reward-2", ReplicaState.REFUSED, "No room."), on("b:1", "reward-1")]
    await rollouts.report(first, ["a:1", "b:1"])
    assert await rollouts.replicas() == first
    second = [on("a:1", "reward-2"), on("c:1", "reward-2")]
    await asyncio.gather(*(rollouts.report([*second, first[2]], ["a:1", "c:1"]) for _ in range(4)))
    assert await rollouts.replicas() == second
    assert await rollouts.replicas("reward-1") == []


# Failures and safety reports


def part_of(rollout: Rollout, **changes: Any) -> Assignment:
    basis = Assignment(
        experiment=rollout.rollout_id,
        kind=rollout.kind,
        stage=1,
        challenger=True,
        release=rollout.challenger,
        share=0.5,
        propensity=0.5,
        sticky=True,
        held_back=False,
        timed=True,
        failed=True,
    )
    return replace(basis, **changes)


async def test_a_failed_call_is_noted_for_each_rollout_that_it_was_part_of(
    pool: asyncpg.Pool, rollouts: PostgresRollouts
) -> None:
    first, second = await under_way(rollouts), await under_way(rollouts, Kind.POLICY)
    parts = [part_of(first), part_of(second, challenger=False, stage=0, sticky=False)]
    await rollouts.failed("acme", b"digest", parts, "POLICY_UNAVAILABLE")
    await rollouts.failed("acme", b"digest", [], "POLICY_UNAVAILABLE")
    rows = await pool.fetch("SELECT * FROM rollout_failures WHERE rollout_id = ANY($1::uuid[])", ids(first, second))
    found = {str(row["rollout_id"]): tuple(row.values())[2:] for row in rows}
    said = "acme", b"digest", "POLICY_UNAVAILABLE"
    assert found == {first.rollout_id: (1, True, True, *said), second.rollout_id: (0, False, False, *said)}


async def test_a_call_that_fails_after_its_user_was_erased_is_nobody_s(
    pool: asyncpg.Pool, rollouts: PostgresRollouts, tenant: Tenant
) -> None:
    rollout = await under_way(rollouts)
    async with pool.acquire() as connection:
        await tenant.erasures.mark(connection, tenant.name, "ann", datetime.now(UTC))
    for user in ("ann", "bob"):
        await rollouts.failed(tenant.name, tenant.erasures.digest(tenant.name, user), [part_of(rollout)], "OVERLOADED")
    rows = await pool.fetch("SELECT digest, sticky FROM rollout_failures WHERE tenant_id = $1", tenant.name)
    assert {tuple(row) for row in rows} == {(b"", False), (bytes.fromhex(tenant.digest("bob")), True)}


def ids(*rollouts: Rollout) -> list[str]:
    return [each.rollout_id for each in rollouts]


async def test_only_a_safety_report_on_a_reply_of_the_challenger_is_decided(
    pool: asyncpg.Pool, rollouts: PostgresRollouts, tenant: Tenant
) -> None:
    rollout = await under_way(rollouts)
    reply, other = await tenant.reply(), await tenant.reply()
    await report_on(pool, tenant.name, reply, rollout)
    reported, rated, elsewhere = (
        await tenant.say(reply, kind="safety_report"),
        await tenant.say(reply, rating_overall=1),
        await tenant.say(other, kind="safety_report"),
    )
    waiting = await tenant.say(uuid4(), kind="safety_report", reward_release=rollout.challenger)
    for wrong in ((tenant.name, rated), (tenant.name, elsewhere), (tenant.name, uuid4()), ("other", reported)):
        with pytest.raises(FeedbackNotFound):
            await rollouts.decide_report(rollout.rollout_id, *wrong, confirmed=True, by="lan", note="")
    with pytest.raises(RolloutNotFound):
        await rollouts.decide_report(str(uuid4()), tenant.name, reported, confirmed=True, by="lan", note="")
    for confirmed in (True, False):
        for each in (reported, waiting):
            await rollouts.decide_report(
                rollout.rollout_id, tenant.name, each, confirmed=confirmed, by="lan", note="Không sao.\x00"
            )
    rows = await pool.fetch("SELECT * FROM safety_decisions WHERE tenant_id = $1", tenant.name)
    assert {(row["feedback_id"], row["confirmed"], row["note"]) for row in rows} == {
        (reported, False, "Không sao."),
        (waiting, False, "Không sao."),
    }


async def test_a_postgres_that_is_away_is_said_to_be(stack: RunningStack) -> None:
    pool = await asyncpg.create_pool(stack.endpoints.database_url, min_size=0)
    away = PostgresRollouts(pool)
    await pool.close()
    for call in (away.now(), away.champions(), away.active(), away.get(str(uuid4())), away.report([], [])):
        with pytest.raises(StoreUnavailable, match="store of rollouts"):
            await call
