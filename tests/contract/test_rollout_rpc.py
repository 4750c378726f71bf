"""RolloutService over a loopback server with API keys and a real Postgres, whose controller is the test."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest

from ratchet.v1 import rollout_pb2 as pb
from ratchet.v1.release_pb2 import RELEASE_KIND_POLICY, RELEASE_KIND_REWARD
from server.errors import StoreUnavailable
from server.identity import Role
from server.rollout import documents, orders
from server.rollout.errors import RolloutChanged
from server.rollout.registry import Looked, ReplicaState
from server.rollout.types import Finding, Guardrail, Kind, Move, Rollout, Safety, State, Trigger, Verdict
from server.rpc import rollouts as service
from server.storage import partitions, releases, safety
from server.storage import rollouts as store
from server.storage.evidence import PostgresEvidence
from tests.logged import give_feedback
from tests.registered import settle, two
from tests.rollout_api import Edge, serving
from tests.rollouts import good
from tests.unit.test_rpc import refused

DRAFT, PUBLISHED, SHADOW = pb.ROLLOUT_STATE_DRAFT, pb.ROLLOUT_STATE_PUBLISHED, pb.ROLLOUT_STATE_SHADOW
CANARY, PAUSED, VERIFIED = pb.ROLLOUT_STATE_CANARY, pb.ROLLOUT_STATE_PAUSED, pb.ROLLOUT_STATE_VERIFIED
ROLLING_BACK, ROLLED_BACK = pb.ROLLOUT_STATE_ROLLING_BACK, pb.ROLLOUT_STATE_ROLLED_BACK
NOT_POSSIBLE = (grpc.StatusCode.FAILED_PRECONDITION, "ROLLOUT_NOT_POSSIBLE")


@pytest.fixture
async def edge(pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.setattr(service, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(orders, "LOOK_SECONDS", 0.3)
    for name in ("READING", "WRITING"):
        for module in (store, releases, safety):
            monkeypatch.setattr(module, name, 20.0, raising=False)  # a busy machine is no Postgres that is away
    await settle(pool)
    edge = Edge(pool, tmp_path / "models")
    async with serving(edge):
        yield edge
    await settle(pool)


async def started(edge: Edge, kind: Kind = Kind.REWARD, **fields: Any) -> Any:
    _, challenger = await two(edge.rollouts, kind)
    await edge.ready(challenger)
    return (await edge.call("StartRollout", release=challenger, **fields)).rollout


async def in_canary(edge: Edge) -> Rollout:
    """Of a reward, in its first stage, and looked at: all is well."""
    rollout = await started(edge)
    for _ in range(3):
        stored = await edge.advance(rollout.rollout_id)
    assert stored.state is State.CANARY
    await edge.look(stored)
    return stored


# Starting


async def test_a_release_is_drafted_and_started_against_the_champion_with_the_defaults(edge: Edge) -> None:
    champion, challenger = await two(edge.rollouts)
    asked: dict[str, Any] = {"release": challenger, "reason": "Tốt hơn?"}
    rollout = (await edge.call("StartRollout", **asked)).rollout
    assert (rollout.state, rollout.version, rollout.share, rollout.kind) == (PUBLISHED, 2, 0, RELEASE_KIND_REWARD)
    assert (rollout.champion, rollout.challenger, rollout.creator) == (champion, challenger, f"key of {edge.tenant}")
    assert [stage.share for stage in rollout.plan.stages] == [0.1, 0.5, 1]
    assert (rollout.plan.holdback, rollout.plan.shadow.share, rollout.plan.goals.gain) == (0.05, 0.1, 0.05)
    assert rollout.plan.salt, "drawn for this rollout"
    found = await edge.call("GetRollout", rollout_id=rollout.rollout_id)
    assert [(each.trigger, each.actor, each.is_person, each.reason) for each in found.events] == [
        (trigger, f"key of {edge.tenant}", True, "Tốt hơn?") for trigger in ("start", "draft")
    ]
    assert found.events[0].from_state == DRAFT
    assert found.events[1].from_state == pb.ROLLOUT_STATE_UNSPECIFIED
    assert not found.HasField("look")


async def test_the_same_request_many_times_at_once_is_one_rollout(edge: Edge) -> None:
    _, challenger = await two(edge.rollouts)
    asked: dict[str, Any] = {
        "release": challenger,
        "request_id": f"một {edge.tenant}",
        "plan": pb.RolloutPlan(holdback=0.1),
    }
    made = await asyncio.gather(*(edge.call("StartRollout", **asked) for _ in range(20)))
    assert len({each.rollout.rollout_id for each in made}) == 1
    assert {each.rollout.state for each in made} == {PUBLISHED}
    await edge.advance(made[0].rollout.rollout_id)
    assert (await edge.call("StartRollout", **asked)).rollout.state == pb.ROLLOUT_STATE_LOADED, "as it is now"
    refusal = await refused(edge.call("StartRollout", **{**asked, "plan": pb.RolloutPlan(holdback=0.2)}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_draft_waits_and_is_started_later_against_the_champion_of_then(edge: Edge) -> None:
    draft = await started(edge, draft=True)
    assert (draft.state, draft.version) == (DRAFT, 1)
    crowned, _ = await two(edge.rollouts)
    other = (await edge.rollouts.releases(size=1, before="", kind=Kind.REWARD))[0].release
    await edge.pool.execute("UPDATE champions SET release = $1 WHERE kind = 'reward'", other)
    begun = (await edge.call("StartRollout", rollout_id=draft.rollout_id)).rollout
    assert (begun.state, begun.champion) == (PUBLISHED, other)
    assert draft.champion == crowned
    assert (await edge.call("StartRollout", rollout_id=draft.rollout_id)).rollout.version == begun.version, "done"


async def test_what_can_not_be_started_leaves_nothing_behind(edge: Edge) -> None:
    first = await started(edge)
    count = await edge.pool.fetchval("SELECT count(*) FROM rollouts")
    _, another = await two(edge.rollouts)
    for release in (another, first.champion):
        refusal = await refused(edge.call("StartRollout", release=release))
        assert (refusal.code, refusal.reason) == NOT_POSSIBLE
    refusal = await refused(edge.call("StartRollout", release="reward-of-nobody"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "RELEASE_NOT_FOUND")
    await edge.pool.execute("UPDATE releases SET retired_at = now() WHERE release = $1", another)
    await edge.call("RollBackRollout", rollout_id=first.rollout_id)
    await edge.advance(first.rollout_id, Trigger.DRAIN)
    refusal = await refused(edge.call("StartRollout", release=another))
    assert (refusal.code, "not published" in refusal.text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    assert await edge.pool.fetchval("SELECT count(*) FROM rollouts") == count


async def test_a_kind_that_nobody_serves_has_nothing_to_compare_with(edge: Edge) -> None:
    _, challenger = await two(edge.rollouts)
    await edge.pool.execute("DELETE FROM champions")
    refusal = await refused(edge.call("StartRollout", release=challenger))
    assert (refusal.code, refusal.reason) == NOT_POSSIBLE


async def test_nothing_starts_against_a_champion_that_no_replica_has_but_what_takes_it_back_does(edge: Edge) -> None:
    champion, challenger = await two(edge.rollouts)
    await edge.ready(champion, state=ReplicaState.REFUSED, refusal="It is torn.")
    refusal = await refused(edge.call("StartRollout", release=challenger))
    assert (refusal.code, refusal.reason) == NOT_POSSIBLE
    assert f"{champion}, which it would be compared with, is ready on no replica: a:8001: It is torn. " in refusal.text
    draft = (await edge.call("StartRollout", release=challenger, draft=True)).rollout
    refusal = await refused(edge.call("StartRollout", rollout_id=draft.rollout_id))
    assert (refusal.code, refusal.reason) == NOT_POSSIBLE
    await edge.ready(champion, challenger)
    assert (await edge.call("StartRollout", rollout_id=draft.rollout_id)).rollout.state == PUBLISHED
    verified = await edge.advance(draft.rollout_id)
    while not verified.state.is_final:
        verified = await edge.advance(draft.rollout_id)
    await edge.ready(challenger, state=ReplicaState.REFUSED, refusal="It is torn.")
    undoing = (await edge.call("RollBackRollout", rollout_id=verified.rollout_id)).rollout
    assert (undoing.state, undoing.undoes) == (PUBLISHED, verified.rollout_id)


async def test_two_who_start_at_once_start_one(edge: Edge) -> None:
    names = [(await two(edge.rollouts))[1] for _ in range(4)]
    found = await asyncio.gather(*(edge.call("StartRollout", release=name) for name in names), return_exceptions=True)
    assert len([each for each in found if isinstance(each, pb.StartRolloutResponse)]) == 1
    for each in found:
        if isinstance(each, grpc.aio.AioRpcError):
            assert each.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_reward_and_a_policy_are_rolled_out_side_by_side(edge: Edge) -> None:
    reward, policy = await started(edge), await started(edge, Kind.POLICY)
    under_way = (await edge.call("ListRollouts", active_only=True)).rollouts
    assert [each.rollout_id for each in under_way] == [policy.rollout_id, reward.rollout_id]
    only = (await edge.call("ListRollouts", active_only=True, kind=RELEASE_KIND_POLICY)).rollouts
    assert [each.rollout_id for each in only] == [policy.rollout_id]


# Hostile input


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.StartRolloutRequest(), ["release"]),
        (pb.StartRolloutRequest(release="a\0b"), ["release"]),
        (pb.StartRolloutRequest(release="x" * 129), ["release"]),
        (pb.StartRolloutRequest(release="r", reason="\x1b[2J"), ["reason"]),
        (pb.StartRolloutRequest(release="r", reason="x" * 1001), ["reason"]),
        (pb.StartRolloutRequest(release="r", request_id="\n"), ["request_id"]),
        (pb.StartRolloutRequest(rollout_id="nobody"), ["rollout_id"]),
        (pb.StartRolloutRequest(rollout_id=str(uuid4()), release="r"), ["rollout_id"]),
        (pb.StartRolloutRequest(release="r", plan=pb.RolloutPlan(salt="a\0")), ["plan.salt"]),
        (pb.StartRolloutRequest(release="r", plan=pb.RolloutPlan(holdback=float("nan"))), ["plan.holdback"]),
        (
            pb.StartRolloutRequest(release="r", plan=pb.RolloutPlan(stages=[pb.RolloutStage(share=2)])),
            ["plan.stages[0].share"],
        ),
        (pb.StartRolloutRequest(release="r", plan=pb.RolloutPlan(strategy=9)), ["plan.strategy"]),  # type: ignore[arg-type]
    ],
)
async def test_a_bad_field_is_named(edge: Edge, request_: pb.StartRolloutRequest, fields: list[str]) -> None:
    refusal = await refused(edge.send("StartRollout", request_))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, fields)
    assert "\\x" not in refusal.text, "a pattern is not an explanation"


async def test_an_id_that_is_none_and_one_that_nobody_has_are_told_apart(edge: Edge) -> None:
    for method in ("GetRollout", "PauseRollout", "ListRolloutEvents", "RollBackRollout"):
        refusal = await refused(edge.call(method, rollout_id="nobody"))
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["rollout_id"])
        refusal = await refused(edge.call(method, rollout_id=str(uuid4())))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "ROLLOUT_NOT_FOUND")
    async with edge.watching(str(uuid4())) as messages:
        assert (await refused(anext(messages))).reason == "ROLLOUT_NOT_FOUND"


async def test_who_may_not_changes_nothing_and_who_may_read_reads(edge: Edge) -> None:
    rollout = await started(edge)
    trainer, caller = edge.keys.add(Role.TRAINER, tenant=edge.tenant), edge.keys.add(Role.CALLER, tenant=edge.tenant)
    for method in ("PauseRollout", "ResumeRollout", "PromoteRollout", "RollBackRollout"):
        refusal = await refused(edge.call(method, trainer, rollout_id=rollout.rollout_id, version=rollout.version))
        assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    assert (await edge.call("GetRollout", trainer, rollout_id=rollout.rollout_id)).rollout.version == rollout.version
    refusal = await refused(edge.call("GetRollout", caller, rollout_id=rollout.rollout_id))
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED


# Commands


async def test_a_pause_keeps_the_share_and_is_resumed_where_it_was_by_who_saw_it(edge: Edge) -> None:
    rollout = await in_canary(edge)
    asked = {"rollout_id": rollout.rollout_id}
    paused = (await edge.call("PauseRollout", **asked, reason="Lễ.")).rollout
    assert (paused.state, paused.resumes_to, paused.share) == (PAUSED, CANARY, pytest.approx(0.1))
    assert [(each.cause, each.reason) for each in paused.pauses] == [(pb.ROLLOUT_PAUSE_CAUSE_PERSON, "Lễ.")]
    again = (await edge.call("PauseRollout", **asked)).rollout
    assert again.version == paused.version, "done already"
    refusal = await refused(edge.call("ResumeRollout", **asked, version=rollout.version))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "CONFLICT")
    refusal = await refused(edge.call("ResumeRollout", **asked))
    assert refusal.fields == ["version"]
    await edge.look(await edge.rollouts.get(rollout.rollout_id))
    resumed = (await edge.call("ResumeRollout", **asked, version=paused.version)).rollout
    assert (resumed.state, resumed.stage, len(resumed.pauses)) == (CANARY, 0, 0)


async def test_a_promotion_takes_what_the_controller_saw_of_the_rollout_as_it_stands(edge: Edge) -> None:
    rollout = await in_canary(edge)
    asked = {"rollout_id": rollout.rollout_id}
    promoted = (await edge.call("PromoteRollout", **asked, version=rollout.version, reason="Lên.")).rollout
    assert (promoted.state, promoted.stage, promoted.share) == (CANARY, 1, pytest.approx(0.5))
    refusal = await refused(edge.call("PromoteRollout", **asked, version=rollout.version))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "CONFLICT")
    refusal = await refused(edge.call("PromoteRollout", **asked, version=promoted.version))
    assert (refusal.code, refusal.reason) == NOT_POSSIBLE, "nobody has looked since"
    assert "has not looked" in refusal.text


async def test_a_promotion_waits_for_the_look_that_comes(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "LOOK_SECONDS", 10.0)
    rollout = await in_canary(edge)
    first = (await edge.call("PromoteRollout", rollout_id=rollout.rollout_id, version=rollout.version)).rollout
    asked = edge.call("PromoteRollout", rollout_id=rollout.rollout_id, version=first.version)
    waiting = asyncio.ensure_future(asked)
    await edge.look(await edge.rollouts.get(rollout.rollout_id))
    assert (await waiting).rollout.stage == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"findings": (Finding(Guardrail.LATENCY, "It is slower by 25 %."),)}, "slower by 25 %"),
        ({"quality": Verdict.INFERIOR}, "Quality is worse"),
        ({"mismatch": "Users are not split as planned."}, "not split as planned"),
    ],
)
async def test_a_promotion_skips_nothing_that_speaks_against_the_release(
    edge: Edge, changes: dict[str, Any], said: str
) -> None:
    rollout = await in_canary(edge)
    await edge.look(rollout, **changes)
    refusal = await refused(edge.call("PromoteRollout", rollout_id=rollout.rollout_id, version=rollout.version))
    assert (refusal.code, refusal.reason, said in refusal.text) == (*NOT_POSSIBLE, True)


async def test_a_promotion_knows_what_happened_since_the_look(edge: Edge) -> None:
    rollout = await in_canary(edge)
    asked: dict[str, Any] = {"rollout_id": rollout.rollout_id, "version": rollout.version}
    await edge.ready(rollout.challenger, state=ReplicaState.REFUSED, refusal="There is no room.")
    assert "There is no room." in (await refused(edge.call("PromoteRollout", **asked))).text
    await edge.ready(rollout.challenger)
    await edge.reported(rollout)
    assert "1 safety report" in (await refused(edge.call("PromoteRollout", **asked))).text


async def test_what_was_seen_long_ago_gives_no_traffic(edge: Edge) -> None:
    rollout = await in_canary(edge)
    evidence = documents.of_evidence(good(rollout))
    long_ago = Looked(rollout.version, datetime.now(UTC) - timedelta(minutes=5), "It waits.", evidence)
    await edge.rollouts.look(rollout.rollout_id, long_ago)
    refusal = await refused(edge.call("PromoteRollout", rollout_id=rollout.rollout_id, version=rollout.version))
    assert (refusal.code, refusal.reason, "5 min ago" in refusal.text) == (*NOT_POSSIBLE, True)


async def test_rolling_back_needs_no_version_and_no_look_and_is_done_once(edge: Edge) -> None:
    rollout = await started(edge)
    found = await asyncio.gather(
        *(edge.call("RollBackRollout", rollout_id=rollout.rollout_id, reason="Tệ.") for _ in range(8))
    )
    assert {(each.rollout.state, each.rollout.version, each.rollout.share) for each in found} == {
        (ROLLING_BACK, rollout.version + 1, 0.0)
    }


async def test_nothing_gives_traffic_while_nobody_looks_after_the_replicas(edge: Edge) -> None:
    rollout = await in_canary(edge)
    await edge.pool.execute("UPDATE replica_models SET checked_at = now() - interval '10 minutes'")
    refusal = await refused(edge.call("PromoteRollout", rollout_id=rollout.rollout_id, version=rollout.version))
    assert (refusal.code, refusal.reason, "nobody has looked after" in refusal.text) == (*NOT_POSSIBLE, True)


@pytest.mark.parametrize("way", ["reports", "looks"])
@pytest.mark.parametrize(("method", "state"), [("RollBackRollout", ROLLING_BACK), ("PauseRollout", PAUSED)])
async def test_traffic_is_taken_away_although_the_evidence_cant_be_read(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, method: str, state: Any, way: str
) -> None:
    rollout = await in_canary(edge)
    if way == "reports":

        async def slow(*_: Any) -> Safety:
            raise StoreUnavailable("Postgres has not answered in time.")

        monkeypatch.setattr(safety.PostgresSafetyReports, "counted", slow)
    else:  # of a newer server
        seen = documents.of_evidence(good(rollout)) | {"safety": {"suspected": 1}}
        await edge.rollouts.look(rollout.rollout_id, Looked(rollout.version, datetime.now(UTC), "It waits.", seen))
    found = await edge.call(method, rollout_id=rollout.rollout_id, reason="Tệ.")
    assert (found.rollout.state, found.rollout.version) == (state, rollout.version + 1)


async def test_what_only_a_newer_server_can_read_is_told_as_such(edge: Edge) -> None:
    rollout = await in_canary(edge)
    asked: dict[str, Any] = {"rollout_id": rollout.rollout_id}
    seen = {**documents.of_evidence(good(rollout)), "satisfaction": "delighted"}
    await edge.rollouts.look(rollout.rollout_id, Looked(rollout.version, datetime.now(UTC), "It waits.", seen))
    look = (await edge.call("GetRollout", **asked)).look
    assert (look.reason, look.HasField("evidence")) == ("It waits.", False)
    unavailable = (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    refusal = await refused(edge.call("PromoteRollout", version=rollout.version, **asked))
    assert (refusal.code, refusal.reason) == unavailable, "nothing goes on by what can't be read"
    newer = """UPDATE rollouts SET plan = plan || '{"moods": 3}' WHERE rollout_id = $1"""
    await edge.pool.execute(newer, UUID(rollout.rollout_id))
    for method in ("GetRollout", "PauseRollout"):
        refusal = await refused(edge.call(method, **asked))
        assert (refusal.code, refusal.reason) == unavailable
        assert "was written by a newer Ratchet" in refusal.text


async def test_undoing_what_others_write_at_the_same_time_drafts_one_rollout(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = await in_canary(edge)
    for _ in range(3):
        await edge.advance(rollout.rollout_id)
    await edge.ready(rollout.champion)
    true, tries = store.PostgresRollouts.apply, 0

    async def apply(self: store.PostgresRollouts, move: Move) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2 * orders.ATTEMPTS:
            raise RolloutChanged("Somebody was faster.")
        await true(self, move)

    monkeypatch.setattr(store.PostgresRollouts, "apply", apply)
    undoing = (await edge.call("RollBackRollout", rollout_id=rollout.rollout_id)).rollout
    assert (undoing.undoes, undoing.state) == (rollout.rollout_id, PUBLISHED)
    drafted = await edge.pool.fetch("SELECT rollout_id FROM rollouts WHERE undoes = $1", UUID(rollout.rollout_id))
    assert [str(each[0]) for each in drafted] == [undoing.rollout_id]


async def test_what_is_verified_is_undone_by_a_new_rollout_once(edge: Edge) -> None:
    rollout = await in_canary(edge)
    for _ in range(3):
        await edge.advance(rollout.rollout_id)
    verified = (await edge.call("GetRollout", rollout_id=rollout.rollout_id)).rollout
    assert (verified.state, verified.share) == (VERIFIED, 1)
    await edge.ready(rollout.champion)
    undoing = (await edge.call("RollBackRollout", rollout_id=rollout.rollout_id, reason="Hối hận.")).rollout
    assert (undoing.undoes, undoing.challenger, undoing.state) == (rollout.rollout_id, rollout.champion, PUBLISHED)
    assert undoing.plan.strategy == pb.ROLLOUT_STRATEGY_RETURN
    again = (await edge.call("RollBackRollout", rollout_id=rollout.rollout_id)).rollout
    assert (again.rollout_id, again.version) == (undoing.rollout_id, undoing.version)
    for _ in range(3):
        await edge.advance(undoing.rollout_id)
    gone = (await edge.call("GetRollout", rollout_id=rollout.rollout_id)).rollout
    assert (gone.state, gone.share) == (VERIFIED, 0), "another one has taken over since"


# What is shown


async def test_evidence_is_shown_measure_by_measure(edge: Edge) -> None:
    rollout = await in_canary(edge)
    measure = {
        "name": "satisfaction",
        "subject": "Satisfaction",
        "value": 0.07,
        "lower": 0.01,
        "upper": None,
        "state": "met",
        "sentence": "Nó tăng 7 %.",
        "guardrail": True,
    }
    figures = {"measures": [measure, "no measure"], "days_left": 3.5, "more": {"alpha": 0.05}}
    await edge.look(rollout, figures=figures, safety=Safety(1, 0, 2), samples=412)
    look = (await edge.call("GetRollout", rollout_id=rollout.rollout_id)).look
    (shown,) = look.evidence.measures
    assert (shown.name, shown.value, shown.lower, shown.guardrail) == ("satisfaction", 0.07, 0.01, True)
    assert (shown.state, shown.sentence, shown.HasField("upper")) == (pb.MEASURE_STATE_MET, "Nó tăng 7 %.", False)
    assert (look.evidence.days_left, look.evidence.samples, look.version) == (3.5, 412, rollout.version)
    assert (look.evidence.reports_pending, look.evidence.reports_dismissed) == (1, 2)
    assert look.evidence.figures["more"]["alpha"] == 0.05
    assert "measures" not in look.evidence.figures


async def test_the_audit_is_paged_newest_first_and_its_token_belongs_to_its_rollout(edge: Edge) -> None:
    rollout = await in_canary(edge)
    seen, token = list[Any](), ""
    while True:
        page = await edge.call("ListRolloutEvents", rollout_id=rollout.rollout_id, page_size=2, page_token=token)
        seen += [(each.version, each.trigger, each.HasField("evidence")) for each in page.events]
        if not (token := page.next_page_token):
            break
        other = await started(edge, Kind.POLICY, draft=True)
        refusal = await refused(edge.call("ListRolloutEvents", rollout_id=other.rollout_id, page_token=token))
        assert refusal.fields == ["page_token"]
    advanced = [(version, "advance", True) for version in (5, 4, 3)]
    assert seen == [*advanced, (2, "start", True), (1, "draft", False)]


async def test_rollouts_are_paged_newest_first(edge: Edge) -> None:
    made = [(await started(edge, draft=True)).rollout_id for _ in range(5)]
    seen, token = list[Any](), ""
    while len(seen) < 5:
        page = await edge.call("ListRollouts", page_size=2, page_token=token)
        seen += [each.rollout_id for each in page.rollouts]
        token = page.next_page_token
        assert (await refused(edge.call("ListRollouts", kind=1, page_token=token))).fields == ["page_token"]
    assert seen[:5] == made[::-1]


# Watching


async def test_who_watches_sees_each_change_each_look_and_the_end(edge: Edge) -> None:
    rollout = await started(edge)
    async with edge.watching(rollout.rollout_id) as messages:
        first = await anext(messages)
        assert [each.trigger for each in first.events] == ["draft", "start"]
        stored = await edge.advance(rollout.rollout_id)
        loaded = await anext(messages)
        assert (loaded.rollout.version, [each.version for each in loaded.events]) == (3, [3])
        await edge.look(stored, "Nó đợi.")
        looked = await anext(messages)
        assert (looked.look.reason, len(looked.events)) == ("Nó đợi.", 0)
        await edge.call("RollBackRollout", rollout_id=rollout.rollout_id)
        await edge.advance(rollout.rollout_id, Trigger.DRAIN)
        rest = [message async for message in messages]
    assert [each.version for message in rest for each in message.events] == [4, 5]
    assert (rest[-1].rollout.state, rest[-1].HasField("look")) == (ROLLED_BACK, False)


async def test_a_watch_of_what_has_ended_is_one_message_and_one_ends_when_the_server_stops(edge: Edge) -> None:
    draft = await started(edge, draft=True)
    async with edge.watching(draft.rollout_id) as messages:
        await anext(messages)
        edge.draining = True
        assert (await refused(anext(messages))).reason == "DRAINING"
    edge.draining = False
    await edge.call("RollBackRollout", rollout_id=draft.rollout_id)
    async with edge.watching(draft.rollout_id) as messages:
        assert [each.rollout.state async for each in messages] == [ROLLED_BACK]


# Safety reports


async def test_reports_that_wait_come_first_and_are_decided_by_people(edge: Edge) -> None:
    rollout = await in_canary(edge)
    asked = {"rollout_id": rollout.rollout_id}
    reply, older = await edge.reported(rollout)
    _, newer = await edge.reported(rollout)
    _, withdrawn = await edge.reported(rollout, withdrawn=True)
    decided = await edge.call("DecideSafetyReport", **asked, feedback_id=str(newer), confirmed=False, note="Đùa.")
    assert (decided.report.confirmed, decided.report.decided_by) == (False, f"key of {edge.tenant}")
    shown = (await edge.call("GetRollout", **asked)).safety_reports
    assert [each.feedback_id for each in shown] == [str(older), str(newer)]
    assert (shown[0].HasField("confirmed"), shown[0].response_id) == (False, str(reply))
    assert (shown[0].category, shown[0].comment) == ("dangerous", "Nguy hiểm!")
    assert await edge.reports.counted(rollout) == Safety(pending=1, confirmed=0, dismissed=1)
    again = await edge.call("DecideSafetyReport", **asked, feedback_id=str(newer), confirmed=True)
    assert again.report.confirmed, "deciding again replaces it"
    for unknown in (uuid4(), withdrawn):
        refusal = await refused(edge.call("DecideSafetyReport", **asked, feedback_id=str(unknown)))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "FEEDBACK_NOT_FOUND")
    assert not await edge.pool.fetchval("SELECT count(*) FROM safety_decisions WHERE feedback_id = $1", withdrawn)


async def test_a_decision_is_changed_although_the_user_took_the_report_back(edge: Edge) -> None:
    rollout = await in_canary(edge)
    _, given = await edge.reported(rollout)
    asked = {"rollout_id": rollout.rollout_id, "feedback_id": str(given)}
    await edge.call("DecideSafetyReport", **asked, confirmed=True)
    await edge.pool.execute("UPDATE feedback_data SET withdrawn = true WHERE feedback_id = $1", given)
    assert not (await edge.call("DecideSafetyReport", **asked, confirmed=False)).report.confirmed
    assert await edge.reports.counted(rollout) == Safety()


async def test_reports_are_looked_for_in_no_partition_from_before_the_rollout(edge: Edge) -> None:
    """However many months the log has, commands that count reports have little time."""
    rollout = await in_canary(edge)
    (old,) = await partitions.ensure(edge.pool, datetime(2001, 3, 5, tzinfo=UTC), ahead=0)
    try:
        for query, more in ((safety._COUNTED, ()), (safety._NEWEST, (9,)), (safety._ONE, (edge.tenant, uuid4()))):
            told = await edge.pool.fetch(f"EXPLAIN {query}", *safety._of(rollout), *more)
            plan = "\n".join(row[0] for row in told)
            assert re.search(r"on conversation_logs_2\d+_\d+ l_", plan), plan
            assert not re.search(rf"on {old} l\b", plan.replace("l_", "l ")), plan
    finally:
        await edge.pool.execute(f"DROP TABLE {old}")


async def test_a_report_without_words_is_shown_with_what_its_user_wrote_of_the_reply(edge: Edge) -> None:
    rollout = await in_canary(edge)
    reply, _ = await edge.reported(rollout, text_feedback="")
    asked = {"rollout_id": rollout.rollout_id}
    (shown,) = (await edge.call("GetRollout", **asked)).safety_reports
    assert shown.comment == ""
    for user, text in (("ann", "Nó bảo tôi nối tắt cầu chì."), ("binh", "Cảm ơn!")):
        await give_feedback(edge.pool, edge.tenant, reply, user_id=user, text_feedback=text)
    (shown,) = (await edge.call("GetRollout", **asked)).safety_reports
    assert shown.comment == "Nó bảo tôi nối tắt cầu chì."


async def test_a_report_of_another_tenant_counts_and_is_decided_but_its_words_stay_there(edge: Edge) -> None:
    rollout = await in_canary(edge)
    other = f"t-{uuid4().hex}"
    _, theirs = await edge.reported(rollout, tenant=other)
    asked = {"rollout_id": rollout.rollout_id}
    (shown,) = (await edge.call("GetRollout", **asked)).safety_reports
    assert (shown.tenant_id, shown.feedback_id, shown.category, shown.comment) == (other, str(theirs), "dangerous", "")
    key = edge.keys.add(Role.TRAINER, tenant=other)
    (read,) = (await edge.call("GetRollout", key, **asked)).safety_reports
    assert read.comment == "Nguy hiểm!"
    single = edge.keys.add(Role.OPERATOR, tenant=other, user="ann")
    (hidden,) = (await edge.call("GetRollout", single, **asked)).safety_reports
    assert hidden.comment == ""
    refusal = await refused(edge.call("DecideSafetyReport", **asked, feedback_id=str(theirs), confirmed=True))
    assert refusal.reason == "FEEDBACK_NOT_FOUND", "without a tenant it is one's own"
    await edge.call("DecideSafetyReport", **asked, feedback_id=str(theirs), tenant_id=other, confirmed=True)
    assert (await edge.reports.counted(rollout)).confirmed == 1


async def test_what_people_found_unsafe_once_is_not_rolled_out_again(edge: Edge) -> None:
    rollout = await in_canary(edge)
    reply, given = await edge.reported(rollout)
    await edge.pool.execute(
        "UPDATE conversation_logs SET assignments = jsonb_set(assignments, '{0,release}', to_jsonb($2::text))"
        " WHERE response_id = $1",
        *(reply, rollout.challenger),
    )
    asked = {"rollout_id": rollout.rollout_id, "feedback_id": str(given)}
    await edge.call("DecideSafetyReport", **asked, confirmed=True)
    await edge.pool.execute("UPDATE feedback_data SET withdrawn = true WHERE feedback_id = $1", given)
    assert (await edge.reports.counted(rollout)).confirmed == 1, "a person's word outlasts its occasion"
    await edge.call("RollBackRollout", rollout_id=rollout.rollout_id)
    await edge.advance(rollout.rollout_id, Trigger.DRAIN)
    refusal = await refused(edge.call("StartRollout", release=rollout.challenger))
    assert (refusal.code, "1 safety report" in refusal.text) == (grpc.StatusCode.FAILED_PRECONDITION, True)


async def test_what_was_found_unsafe_is_known_by_the_reply_s_challengers_and_until_it_is_dismissed(edge: Edge) -> None:
    """Of a reply whose row still waits in a spool, by whom the decision was about."""
    rollout = await in_canary(edge)
    reply, given = await edge.reported(rollout)
    names = [f"policy-{edge.tenant}", f"reward-{edge.tenant}", f"champion-{edge.tenant}"]
    parts = [{"experiment": rollout.rollout_id, "challenger": name != names[2], "release": name} for name in names]
    statement = "UPDATE conversation_logs SET assignments = $2 WHERE response_id = $1"
    await edge.pool.execute(statement, reply, json.dumps(parts))
    source = PostgresEvidence(edge.pool, lambda *_: b"")

    async def decided(confirmed: bool, feedback_id: UUID) -> None:
        asked: dict[str, Any] = {"rollout_id": rollout.rollout_id, "confirmed": confirmed}
        await edge.call("DecideSafetyReport", feedback_id=str(feedback_id), **asked)

    for confirmed in (True, False, True):
        await decided(confirmed, given)
        assert [await source.condemned(name) for name in names] == [int(confirmed), int(confirmed), 0]
    later = UUID(int=int(reply) + 1)
    said = {"kind": "safety_report", "safety_category": "dangerous", "reward_release": rollout.challenger}
    spooled = await give_feedback(edge.pool, edge.tenant, later, **said)
    await decided(True, spooled)
    assert await source.condemned(rollout.challenger) == 1


async def test_a_report_on_the_champions_reply_is_none_of_the_challenger(edge: Edge) -> None:
    rollout = await in_canary(edge)
    reply, given = await edge.reported(rollout)
    await edge.pool.execute(
        "UPDATE conversation_logs SET assignments = jsonb_set(assignments, '{0,challenger}', 'false')"
        " WHERE response_id = $1",
        reply,
    )
    assert await edge.reports.counted(rollout) == Safety()
    asked = {"rollout_id": rollout.rollout_id, "feedback_id": str(given)}
    assert (await refused(edge.call("DecideSafetyReport", **asked))).reason == "FEEDBACK_NOT_FOUND"


async def test_a_postgres_that_answers_nothing_is_told_as_such_in_time(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = await started(edge)
    for module in (store, releases, safety):
        for name in ("READING", "WRITING"):
            monkeypatch.setattr(module, name, 0.2, raising=False)
    async with edge.watching(rollout.rollout_id) as messages, edge.pool.acquire() as held, held.transaction():
        await anext(messages)
        await held.execute("LOCK TABLE rollouts IN ACCESS EXCLUSIVE MODE")
        for call in (
            edge.call("ListRollouts"),
            edge.call("GetRollout", rollout_id=rollout.rollout_id),
            edge.call("RollBackRollout", rollout_id=rollout.rollout_id),
            anext(messages),
        ):
            refusal = await refused(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert UUID(rollout.rollout_id)
