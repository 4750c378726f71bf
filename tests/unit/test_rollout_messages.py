"""Rollouts, releases and their evidence as messages, whatever the figures hold."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from ratchet.v1 import release_pb2, rollout_pb2
from server.rollout.plan import Plan, Stage
from server.rollout.readiness import readiness
from server.rollout.registry import Champion, Published, ReplicaModel, ReplicaState
from server.rollout.types import CONTROLLER, Cause, Event, Kind, Position, Readiness, Rollout, State, Trigger
from server.rpc import rollout_messages
from server.rpc.release_messages import Serving, release_of
from server.rpc.rollout_messages import event_of, evidence_of, fitting, rollout_of
from tests.rollouts import BEGAN, NEW, OLD, at, good, paused, rollout

MANIFEST: dict[str, Any] = {
    "kind": "reward",
    "id": NEW,
    "parent": OLD,
    "base_model": "roberta-base",
    "architecture": "roberta",
    "created_at": "2026-03-01T10:00:00Z",
    "code_version": "0.1.0",
    "threshold": 0.6,
    "calibration": {"temperature": 1.25},
    "metrics": {"pairwise_accuracy": 0.71, "by_language": {"vi": 0.7, "en": None}},
    "parity": {"rows": 48},
    "variants": [{"target": "cpu", "backend": "onnxruntime-python", "precision": "int8", "int8_embeddings": True}],
}


def published(**changes: Any) -> Published:
    basis = Published(
        release=NEW, kind=Kind.REWARD, manifest=MANIFEST, digest=b"d", published_at=BEGAN, published_by="lan"
    )
    return replace(basis, **changes)


def serving(*active: Rollout, champion: str = OLD, models: tuple[ReplicaModel, ...] = ()) -> Serving:
    return Serving.of({Kind.REWARD: Champion(Kind.REWARD, champion, BEGAN)}, active, models)


def on(replica: str, release: str, state: ReplicaState, refusal: str = "") -> ReplicaModel:
    return ReplicaModel(replica=replica, release=release, state=state, since=BEGAN, checked_at=at(5), refusal=refusal)


# Releases


def test_a_release_shows_its_manifest_and_what_was_learned_since() -> None:
    shown = release_of(published(), serving())
    assert (shown.parent, shown.base_model, list(shown.variants)) == (
        OLD,
        "roberta-base",
        ["onnxruntime-python-int8-cpu"],
    )
    assert (shown.threshold, shown.threshold_reason, shown.calibration["temperature"]) == (0.6, "", 1.25)
    assert MessageToDict(shown.metrics) == MANIFEST["metrics"]
    assert shown.create_time.ToDatetime(UTC) == datetime(2026, 3, 1, 10, tzinfo=UTC)
    matched = release_of(published(threshold=0.55, continuity={"sentence": "Matched."}), serving())
    assert (matched.threshold, matched.threshold_reason) == (0.55, "Matched.")


@pytest.mark.parametrize("manifest", [{}, {**MANIFEST, "created_at": "?", "parent": None, "threshold": None}])
def test_a_manifest_that_lacks_something_is_shown_without_it(manifest: dict[str, Any]) -> None:
    shown = release_of(published(manifest=manifest), serving())
    assert (shown.release, shown.parent, shown.HasField("create_time"), shown.HasField("threshold")) == (
        *(NEW, ""),
        *(False, False),
    )


def test_shares_are_those_of_the_rollout_under_way_and_else_the_champions() -> None:
    canary = rollout(State.CANARY, stage=1)
    assert serving(canary).share(Kind.REWARD, NEW) == pytest.approx(0.5)
    assert serving(canary).share(Kind.REWARD, OLD) == pytest.approx(0.5)
    assert serving(canary).challenge(NEW) == canary.rollout_id
    suspended = serving(paused(Cause.SAFETY))
    assert (suspended.share(Kind.REWARD, NEW), suspended.share(Kind.REWARD, OLD)) == (0, 1)
    verified = serving(rollout(State.VERIFIED), champion=NEW)
    assert (verified.share(Kind.REWARD, NEW), verified.share(Kind.REWARD, OLD), verified.challenge(NEW)) == (1, 0, "")
    assert serving().share(Kind.POLICY, "policy-000001") == 0, "nobody serves it yet"


def test_a_champion_is_told_with_its_time_and_replicas_with_their_refusals() -> None:
    models = on("a:8001", NEW, ReplicaState.READY), on("b:8001", NEW, ReplicaState.REFUSED, "There is no room.")
    shown = release_of(published(), serving(champion=NEW, models=models))
    assert (shown.champion, shown.champion_time.ToDatetime(UTC), shown.share) == (True, BEGAN, 1)
    assert [(each.replica, each.state, each.refusal) for each in shown.replicas] == [
        ("a:8001", release_pb2.REPLICA_MODEL_STATE_READY, ""),
        ("b:8001", release_pb2.REPLICA_MODEL_STATE_REFUSED, "There is no room."),
    ]
    assert not release_of(published(), serving()).HasField("champion_time")


def test_a_replica_without_the_release_counts_as_one_that_is_not_ready() -> None:
    models = [on("a", NEW, ReplicaState.READY), on("a", OLD, ReplicaState.READY), on("b", OLD, ReplicaState.READY)]
    now = at(60)
    assert readiness(models, NEW, now) == Readiness(1, 2)
    assert not readiness(models, NEW, now).everywhere
    assert readiness(models, OLD, now).everywhere
    refused = [*models, on("b", NEW, ReplicaState.REFUSED, "Torn.")]
    assert readiness(refused, NEW, now) == Readiness(1, 2, "b: Torn.")
    assert readiness([], NEW, now) == Readiness()


def test_what_was_noted_of_a_replica_long_ago_says_nothing_of_it() -> None:
    models = [on("a", NEW, ReplicaState.READY), replace(on("b", NEW, ReplicaState.READY), checked_at=at(120))]
    assert readiness(models, NEW, at(65)) == Readiness(2, 2)
    found = readiness(models, NEW, at(125))
    assert (found.ready, found.replicas, found.refusal, found.everywhere) == (1, 2, "", False)
    assert found.unseen == "nobody has looked after a for 120 s."
    refused = [on("a", NEW, ReplicaState.REFUSED, "There is no room.")]
    assert readiness(refused, NEW, at(600)).refusal == "", "nobody knows that any more"


# Rollouts


@pytest.mark.parametrize("state", list(State))
def test_every_state_is_shown_as_itself(state: State) -> None:
    message = rollout_of(rollout(state), at(60), (BEGAN, "lan"), serving())
    assert rollout_pb2.RolloutState.Name(message.state) == f"ROLLOUT_STATE_{state.name}"
    assert (message.creator, message.create_time.ToDatetime(UTC)) == ("lan", BEGAN)


def test_a_pause_shows_its_causes_and_where_it_leads_back_to() -> None:
    message = rollout_of(paused(Cause.SAFETY), at(60), None, serving())
    (pause,) = message.pauses
    assert (pause.cause, pause.reason) == (rollout_pb2.ROLLOUT_PAUSE_CAUSE_SAFETY, "Because.")
    assert (message.resumes_to, message.share, message.elapsed_seconds) == (rollout_pb2.ROLLOUT_STATE_CANARY, 0, 0)


def test_a_share_ends_at_the_holdback() -> None:
    whole = rollout(State.CANARY, plan=Plan(stages=(Stage(share=1),), holdback=0.05, salt="s"))
    assert rollout_of(whole, at(0), None, serving(whole)).share == pytest.approx(0.95)


def test_what_was_verified_has_the_share_that_it_has_now() -> None:
    verified = rollout(State.VERIFIED)
    assert rollout_of(verified, at(0), None, serving(champion=NEW)).share == 1
    assert rollout_of(verified, at(0), None, serving(champion="reward-000009")).share == 0


@pytest.mark.parametrize(
    "figures",
    [
        {"measures": None},
        {"measures": "none"},
        {"measures": [1, None, "x", []]},
        {"days_left": "soon"},
        {"days_left": True},
        {"days_left": float("nan")},
        {"x": float("inf"), "y": {"z": [float("nan")]}},
    ],
)
def test_figures_of_any_form_are_shown_without_what_can_not_be(figures: dict[str, Any]) -> None:
    message = evidence_of(good(rollout(), figures=figures), BEGAN)
    assert not message.measures
    assert not message.HasField("days_left")
    assert rollout_pb2.RolloutEvidence.FromString(message.SerializeToString()) == message


def test_a_measure_without_its_parts_is_shown_empty() -> None:
    measures = [{}, {"name": "latency", "state": "?", "value": float("nan"), "guardrail": "yes", "lower": 1}]
    first, second = evidence_of(good(rollout(), figures={"measures": measures}), BEGAN).measures
    assert first == rollout_pb2.RolloutMeasure()
    assert second == rollout_pb2.RolloutMeasure(name="latency", lower=1)


# The audit


def event(version: int, **changes: Any) -> Event:
    basis = Event(
        rollout_id="0193",
        version=version,
        at=BEGAN,
        actor=CONTROLLER,
        trigger=Trigger.SUSPEND,
        before=Position(State.CANARY, 1),
        after=Position(State.PAUSED, 1, (Cause.SAFETY,)),
        reason="A report waits.",
        evidence=None,
    )
    return replace(basis, **changes)


@pytest.mark.parametrize("trigger", list(Trigger))
def test_an_entry_tells_what_was_done_from_where_to_where(trigger: Trigger) -> None:
    message = event_of(event(7, trigger=trigger))
    assert (message.trigger, message.actor, message.is_person) == (trigger.value, "controller", False)
    assert (message.from_state, message.from_stage, message.to_state) == (
        rollout_pb2.ROLLOUT_STATE_CANARY,
        1,
        rollout_pb2.ROLLOUT_STATE_PAUSED,
    )
    assert not message.HasField("evidence")
    assert event_of(event(1, before=None)).from_state == rollout_pb2.ROLLOUT_STATE_UNSPECIFIED


def test_a_message_takes_as_many_entries_as_it_can_hold_and_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event(version, reason="x" * 100) for version in range(9, 0, -1)]
    assert [each.version for each in fitting(events)] == list(range(9, 0, -1))
    monkeypatch.setattr(rollout_messages, "MOST_BYTES", 400)
    assert [each.version for each in fitting(events)] == [9, 8]
    monkeypatch.setattr(rollout_messages, "MOST_BYTES", 10)
    assert [each.version for each in fitting(events)] == [9]
