"""TrainingService over a loopback server with API keys and a real Postgres, whose trainer is the test."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from ratchet.v1 import training_pb2 as pb
from server.identity import Role
from server.storage import reviews, training
from server.storage.erasure import Erasures
from tests.tenants import Tenant
from tests.training_api import Edge
from tests.unit.test_rpc import refused
from trainer import scheduler
from trainer.settings import Schedule

QUEUED, RUNNING = pb.TRAINING_STATE_QUEUED, pb.TRAINING_STATE_RUNNING
CANCELLED, SUCCEEDED = pb.TRAINING_STATE_CANCELLED, pb.TRAINING_STATE_SUCCEEDED


async def test_a_run_waits_with_exactly_the_settings_that_were_asked_for(edge: Edge) -> None:
    asked = {"base": "đường/dẫn", "seeds": 3, "train": {"learning_rate": 3e-5, "bucket": False}}
    run = await edge.start(asked)
    assert (run.state, run.kind, run.progress, run.attempts) == (QUEUED, "reward", 0, 0)
    assert run.requested_by == f"key of {edge.tenant}"
    assert not run.HasField("start_time")
    kept = await edge.pool.fetchval("SELECT asked FROM training_runs WHERE training_id = $1", UUID(run.training_id))
    assert json.loads(kept) == asked
    assert '"seeds": 3,' in kept, "whole numbers are whole"
    assert (await edge.call("GetTraining", training_id=run.training_id)).training == run


async def test_the_same_request_fifty_times_at_once_is_one_run(edge: Edge) -> None:
    made = await asyncio.gather(*(edge.start({"seed": 2}, request_id="một") for _ in range(50)))
    assert len({run.training_id for run in made}) == 1
    assert await edge.pool.fetchval("SELECT count(*) FROM training_runs WHERE tenant_id = $1", edge.tenant) == 1
    assert (await edge.start({"seed": 2}, request_id="một", kind="reward")).training_id == made[0].training_id
    refusal = await refused(edge.start({"seed": 3}, request_id="một"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    other = edge.keys.add(Role.OPERATOR, tenant=f"{edge.tenant}-2")
    theirs = await edge.start({"seed": 3}, key=other, request_id="một")
    assert theirs.training_id != made[0].training_id, "request ids are their tenant's"


async def test_a_misspelt_setting_is_refused_by_its_name_and_nothing_waits(edge: Edge) -> None:
    refusal = await refused(edge.start({"train": {"lerning_rate": 1e-5}}))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["config.train.lerning_rate"])
    for config in ({"seed": "NaN"}, {"base": "x" * 70_000}, {"data": [1]}):
        assert (await refused(edge.start(config))).code is grpc.StatusCode.INVALID_ARGUMENT
    bad = pb.StartTrainingRequest()
    bad.config["seed"] = float("nan")
    refusal = await refused(edge.stub.StartTraining(bad, metadata=edge.being()))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["config.seed"])
    assert not (await edge.call("ListTrainings")).trainings


async def test_no_more_than_a_hundred_wait_and_a_repeated_request_is_answered_nevertheless(edge: Edge) -> None:
    first = await edge.start(request_id="first")
    await edge.pool.execute(
        "INSERT INTO training_runs (tenant_id, training_id, kind, requested_by)"
        " SELECT $1, gen_random_uuid(), 'reward', 'count' FROM generate_series(1, $2)",
        *(edge.tenant, training.MOST_WAITING_RUNS - 1),
    )
    refusal = await refused(edge.start(request_id="one more"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert await edge.start(request_id="first") == first
    await edge.call("CancelTraining", training_id=first.training_id)
    assert (await edge.start(request_id="one more")).state == QUEUED


async def test_runs_are_paged_newest_first_and_a_token_belongs_to_its_listing_and_tenant(edge: Edge) -> None:
    made = [(await edge.start()).training_id for _ in range(5)]
    await edge.run(made[2], state="FAILED", error="Hết bộ nhớ.")
    seen, token = [], ""
    while True:
        page = await edge.call("ListTrainings", page_size=2, page_token=token)
        seen += [run.training_id for run in page.trainings]
        if not (token := page.next_page_token):
            break
        other = await refused(edge.call("ListTrainings", state=QUEUED, page_token=token))
        assert other.fields == ["page_token"]
        key = edge.keys.add(Role.TRAINER, tenant="another")
        assert (await refused(edge.call("ListTrainings", key, page_token=token))).fields == ["page_token"]
    assert seen == made[::-1]
    failed = (await edge.call("ListTrainings", state=pb.TRAINING_STATE_FAILED)).trainings
    assert [(run.training_id, run.error) for run in failed] == [(made[2], "Hết bộ nhớ.")]


async def trainer_counts(edge: Edge) -> int:
    when = (Schedule.COUNT, 100, 3, datetime.now(UTC))
    return (await scheduler.look(edge.pool, edge.tenant, *when))[1].unseen


async def test_waiting_feedback_is_what_begins_a_run_by_itself_as_the_trainer_counts_it(edge: Edge) -> None:
    tenant = Tenant(edge.tenant, edge.pool, await Erasures.open(edge.pool))

    async def give(reply: dict[str, Any] | None = None, owner: Tenant = tenant, **says: Any) -> UUID:
        given = await owner.say(await owner.reply(**reply or {}), **says)
        await revised(given, owner)
        return given

    async def revised(feedback_id: UUID, owner: Tenant = tenant, revision: int = 1) -> None:
        columns = "tenant_id, feedback_id, revision, recorded_at"
        insert = f"INSERT INTO feedback_revisions ({columns}) VALUES ($1, $2, $3, now())"
        await edge.pool.execute(insert, owner.name, feedback_id, revision)

    async def counted() -> int:
        page = await edge.call("ListTrainings")
        assert page.waiting_feedback_count == await trainer_counts(edge)
        return int(page.waiting_feedback_count)

    first = await give(rating_overall=4)
    await give(kind="preference", chosen_index=0, rejected_index=1)
    await give(text_feedback="?")
    await give(rating_overall=4, is_training_data=True)
    await give({"refused": True}, rating_overall=4)
    await give(owner=Tenant(f"{edge.tenant}-2", edge.pool, tenant.erasures), rating_overall=4)
    assert await counted() == 2
    assert (await edge.call("ListTrainings")).minimum_feedback_count == 1000
    no_better, snapshot = await edge.start(), uuid4().hex * 2
    await edge.pool.execute(
        "INSERT INTO training_snapshots (snapshot, tenant_id, path, watermark, feedback_count, new_count)"
        " VALUES ($1, $2, '/x', pg_snapshot_xmin(pg_current_snapshot()), 4, 4)",
        *(snapshot, edge.tenant),
    )
    await edge.run(no_better.training_id, state="SUCCEEDED", verdict="NOT_BETTER", snapshot=snapshot)
    assert await counted() == 0, "it has looked at them, and begins no other run"
    await give(rating_overall=2)
    await revised(first, revision=2)
    assert await counted() == 2, "a new one, and one that was changed"


async def test_everything_that_a_trainer_writes_is_shown(edge: Edge) -> None:
    earlier, run = await edge.start(), await edge.start()
    await edge.pool.execute(
        "INSERT INTO training_snapshots (snapshot, tenant_id, path, watermark, feedback_count, new_count)"
        " VALUES ($1, $2, '/x', '9', 4200, 1200) ON CONFLICT DO NOTHING",
        *("a" * 64, edge.tenant),
    )
    await edge.run(
        run.training_id,
        state="SUCCEEDED",
        stage="",
        progress=1.0,
        snapshot="a" * 64,
        verdict="NOT_BETTER",
        reasons=["Nó không tốt hơn."],
        metrics={"pairwise_accuracy": 0.71, "mse": None},
        config={"train": {"learning_rate": 1e-5}, "base": "x"},
        compared_with="reward-000001",
        not_reproducible=True,
        duplicate_of=UUID(earlier.training_id),
        attempts=2,
    )
    found = (await edge.call("GetTraining", training_id=run.training_id)).training
    assert (found.state, found.verdict, list(found.reasons)) == (
        SUCCEEDED,
        pb.TRAINING_VERDICT_NOT_BETTER,
        ["Nó không tốt hơn."],
    )
    assert (found.feedback_count, found.new_feedback_count, found.attempts) == (4200, 1200, 2)
    assert dict(found.metrics) == {"pairwise_accuracy": 0.71}
    assert found.config["train"]["learning_rate"] == 1e-5
    assert (found.not_reproducible, found.duplicate_of) == (True, earlier.training_id)
    await edge.pool.execute("DELETE FROM training_runs WHERE tenant_id = $1", edge.tenant)
    await edge.pool.execute("DELETE FROM training_snapshots WHERE tenant_id = $1", edge.tenant)


async def test_cancelling_ends_what_waits_asks_what_runs_and_leaves_what_has_ended(edge: Edge) -> None:
    waits, runs, orphan, ended = [(await edge.start()).training_id for _ in range(4)]
    await edge.run(runs, state="RUNNING")
    await edge.run(orphan, state="RUNNING")
    later, earlier = "now() + interval '1 minute'", "now() - interval '1 minute'"
    for training_id, until in ((runs, later), (orphan, earlier)):
        await edge.pool.execute(
            f"UPDATE training_runs SET lease_until = {until} WHERE training_id = $1", UUID(training_id)
        )
    await edge.run(ended, state="SUCCEEDED", verdict="BETTER")
    found = {}
    for training_id in (waits, runs, orphan, ended):
        first = (await edge.call("CancelTraining", training_id=training_id)).training
        found[training_id] = (first.state, first.cancelling, first.HasField("end_time"))
        assert (await edge.call("CancelTraining", training_id=training_id)).training == first, "idempotent"
    assert found == {
        waits: (CANCELLED, False, True),
        runs: (RUNNING, True, False),
        orphan: (CANCELLED, False, True),
        ended: (SUCCEEDED, False, False),
    }


async def test_a_report_is_given_without_whose_data_it_shows_and_its_absence_is_told(edge: Edge) -> None:
    run = await edge.start()
    refusal = await refused(edge.call("GetTrainingReport", training_id=run.training_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TRAINING_HAS_NO_REPORT")
    shown: dict[str, Any] = {
        "verdict": "Tốt hơn",
        "mistakes": [{"query": "?", "users": []}, {"query": "!", "users": []}],
    }
    kept = shown | {"mistakes": [{"query": "?", "users": ["5" * 64]}, {"query": "!", "users": ["6" * 64, "7" * 64]}]}
    for report, given in (({"verdict": "Tốt hơn"}, {"verdict": "Tốt hơn"}), (kept, shown)):
        await edge.run(run.training_id, report=report, report_html="<h1>Tốt hơn</h1>")
        found = await edge.call("GetTrainingReport", training_id=run.training_id)
        assert (json.loads(found.json), found.html) == (given, "<h1>Tốt hơn</h1>")


async def test_another_tenant_sees_and_changes_nothing(edge: Edge) -> None:
    run = await edge.start()
    item = await edge.item(run.training_id)
    other = edge.keys.add(Role.OPERATOR, tenant=f"{edge.tenant}-2")
    for method in ("GetTraining", "CancelTraining", "GetTrainingReport"):
        refusal = await refused(edge.call(method, other, training_id=run.training_id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "TRAINING_NOT_FOUND")
    async with edge.watching(run.training_id, other) as messages:
        assert (await refused(anext(messages))).reason == "TRAINING_NOT_FOUND"
    assert (await refused(edge.call("LabelReviewItem", other, item_id=item, label=1))).reason == "REVIEW_ITEM_NOT_FOUND"
    listed = await edge.call("ListReviewItems", other)
    assert (list(listed.items), listed.open_count) == ([], 0)
    assert not (await edge.call("ListTrainings", other)).trainings
    assert (await edge.call("GetTraining", training_id=run.training_id)).training == run


async def test_a_postgres_that_answers_nothing_is_told_as_such_in_time(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await edge.start()
    for module in (training, reviews):
        monkeypatch.setattr(module, "READING", 0.2)
        monkeypatch.setattr(module, "WRITING", 0.2)
    async with edge.watching(run.training_id) as messages, edge.pool.acquire() as held, held.transaction():
        await anext(messages)
        await held.execute("LOCK TABLE training_runs, review_items IN ACCESS EXCLUSIVE MODE")
        for call in (
            *(edge.call("ListTrainings"), edge.start(), edge.call("ListReviewItems")),
            edge.call("CancelTraining", training_id=run.training_id),
            edge.call("LabelReviewItem", item_id=str(uuid4()), label=1),
            anext(messages),
        ):
            refusal = await refused(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    monkeypatch.setattr(training, "READING", 20.0)
    assert (await edge.call("GetTraining", training_id=run.training_id)).training.state == QUEUED
