"""Releases and rollouts with something to see in each part. All of it made up, and the same each time."""

from collections.abc import Iterator
from typing import Any

from ratchet.v1 import experiment_pb2, release_pb2
from ratchet.v1 import rollout_pb2 as pb
from tests.browser import training_samples
from tests.browser.planted import stamp
from tests.browser.planted_rollouts import PlantedReleases, PlantedRollouts

CANARY, PAUSED, VERIFIED, BACK, DRAFT = (f"0199f000-0000-7000-8000-00000000010{n}" for n in range(1, 6))
EXPERIMENT = "0199f000-0000-7000-8000-000000000401"
REPORT = "0199f000-0000-7000-8000-000000000201"
REPLY = "0199f000-0000-7000-8000-000000000301"
HOUR = 3600.0
MET, MISSED, OPEN = pb.MEASURE_STATE_MET, pb.MEASURE_STATE_MISSED, pb.MEASURE_STATE_UNDECIDED
REWARD, POLICY = release_pb2.RELEASE_KIND_REWARD, release_pb2.RELEASE_KIND_POLICY
_MEAN, _TAIL = "Mean latency (end to end)", "Latency of the 95 % quantile (end to end)"
RETIRED = "reward-000000"
REFUSAL = "It has no room: 1.9 GiB are needed and 0.7 GiB are free."
SAFE = "Safety reports: 0 of 1204 users of the challenger reported a reply, at most 0.31 % of such users would."
COMMENT = "It told me to bridge the kettle's thermal fuse with wire.\nMy kitchen nearly burned."


def releases(now: float) -> Iterator[release_pb2.Release]:
    """A chain of three reward releases, of which the middle one serves, and a policy that a replica refuses."""
    newest = _release("reward-000003", REWARD, now - 5 * HOUR, parent="reward-000002", publisher="training")
    newest.training_id, newest.rollout_id, newest.share = training_samples.BETTER, CANARY, 0.5
    newest.data_snapshot, newest.base_model, newest.architecture = "3f" * 32, "roberta-base", "RobertaForRegression"
    newest.metrics.update(training_samples.METRICS)
    figures = {"fp32_largest_difference": 1.5e-06, "rank_agreement": 0.9964, "score_largest_difference": 0.0153}
    newest.parity.update({**figures, "int8": {"regret": 0.004, "pairs": 412}})
    newest.threshold, newest.variants[:] = 0.583, ["onnx-int8-cpu", "tensorrt-fp16-sm90"]
    newest.threshold_reason = (
        "It passes as many of 812 replies that both have scored as 0.6 of reward-000002 did (71.4 %), and 640 ratings"
        " do not contradict it."
    )
    newest.calibration["temperature"] = 1.31
    for replica in ("127.0.0.1:8001", "triton-1.internal:8001"):
        newest.replicas.append(_replica(replica, now))
    yield newest
    refused = _release("policy-000002", POLICY, now - 29 * HOUR, parent="policy-000001", publisher="Lan")
    refused.rollout_id, refused.variants[:] = PAUSED, ["ctranslate2-int8-cpu"]
    refused.replicas.append(_replica("127.0.0.1:8001", now))
    refused.replicas.append(_replica("triton-1.internal:8001", now, release_pb2.REPLICA_MODEL_STATE_REFUSED, REFUSAL))
    yield refused
    serving = _release("reward-000002", REWARD, now - 200 * HOUR, parent="reward-000001", publisher="training")
    serving.champion, serving.share, serving.threshold = True, 0.5, 0.6
    serving.champion_time.CopyFrom(stamp(now - 150 * HOUR))
    serving.replicas.append(_replica("127.0.0.1:8001", now))
    yield serving
    yield _release("reward-000001", REWARD, now - 900 * HOUR, publisher="settings", base_model="ratchet-starter-reward")
    first = _release("policy-000001", POLICY, now - 900 * HOUR, publisher="settings")
    first.champion, first.share = True, 1.0
    yield first


def retired(now: float) -> release_pb2.Release:
    """One that nobody is served by any more."""
    found = _release(RETIRED, REWARD, now - 1200 * HOUR, publisher="Lan", base_model="roberta-base")
    found.retire_time.CopyFrom(stamp(now - 3 * HOUR))
    return found


def refused(now: float) -> Iterator[release_pb2.RefusedRelease]:
    """What training made in vain: four newer than what serves, and one that is older."""
    reasons = (
        "/srv/ratchet/training/releases/reward-000008 is not on this machine: copy it here, and publish it.",
        "tokenizer/tokenizer.json was altered: its SHA-256 is not that of the manifest.",
        "Another release is published as reward-000006: give the new one another id.",
        "1/model.onnx is missing.",
        "release.json can't be read as JSON.",
    )
    for number, reason in enumerate(reasons):
        name = f"reward-{8 - number:06}"
        yield release_pb2.RefusedRelease(
            training_id=training_samples.BETTER,
            release=name,
            kind=REWARD,
            reason=reason,
            directory=f"/srv/ratchet/training/releases/{name}",
            refuse_time=stamp(now - (number + 1) * HOUR),
            newer_than_champion=number < 4,
        )


def plan() -> pb.RolloutPlan:
    """The default one, as the server resolves it."""
    found = pb.RolloutPlan(strategy=pb.ROLLOUT_STRATEGY_GRADUAL, holdback=0.05, salt="reward:0199f000")
    for share, hours, days in ((0.1, 1, 7), (0.5, 1, 7), (1.0, 24, 14)):
        waiting = pb.RolloutWaiting(minimum_samples=200, minimum_seconds=hours * HOUR, longest_seconds=days * 24 * HOUR)
        found.stages.add(share=share, waiting=waiting)
    found.shadow.share = 0.1
    found.shadow.waiting.CopyFrom(
        pb.RolloutWaiting(minimum_samples=200, minimum_seconds=600, longest_seconds=24 * HOUR)
    )
    found.goals.CopyFrom(
        pb.RolloutGoals(gain=0.05, margin=0.02, slower=0.1, quantile=0.95, failures=0.01, failure_ratio=1.5)
    )
    found.load_seconds, found.unready_seconds = 600, 300
    return found


def measures() -> list[pb.RolloutMeasure]:
    """As the server reports them, half way."""
    wanted = "asked for more than 5 % up: no verdict yet"
    return [
        _measure("satisfaction", "Satisfaction", (0.061, 0.018, 0.104), OPEN, f"6.1 % (1.8 % to 10.4 %), {wanted}."),
        _measure("safety", "Safety reports", (0.0, None, None), MET, SAFE),
        _measure("quality", "Quality", (0.004, -0.006, 0.014), MET, "0.4 % (-0.6 % to 1.4 %): met."),
        _measure("latency", _MEAN, (0.021, -0.012, 0.055), MET, "2.1 % (-1.2 % to 5.5 %): met."),
        _measure("latency", _TAIL, (0.048, -0.03, 0.127), OPEN, "4.8 % (-3 % to 12.7 %): no verdict yet."),
        _measure("satisfaction", "Satisfaction", (0.061, 0.004, 0.118), MET, "Not worse: met.", guardrail=True),
        _measure("quality", "Quality", (0.004, -0.009, 0.017), MET, "Not worse: met.", guardrail=True),
        _measure("latency", _MEAN, (0.021, -0.023, 0.066), MET, "Not slower: met.", guardrail=True),
        _measure("failures", "Failed calls", (0.0021, 0.0004, 0.0072), MET, "0.21 % of calls: met.", guardrail=True),
        _measure(
            "failures",
            "Users with a failure",
            (0.12, -0.41, 1.3),
            OPEN,
            "12 % more (-41 % to 130 %): no verdict yet.",
            guardrail=True,
        ),
        _measure("safety", "Safety reports", (0.0, None, None), MET, SAFE, guardrail=True),
        _measure(
            "shares",
            "Shares of users",
            (0.498, None, None),
            MET,
            "Shares of users: 1198 of 2406 users are the challenger's, 1203 expected (p = 0.61): met.",
            guardrail=True,
        ),
    ]


def _all_met() -> list[pb.RolloutMeasure]:
    found = measures()
    for measure in found:
        measure.state = MET
    return found


def evidence(now: float, found: list[pb.RolloutMeasure] | None = None, **more: Any) -> pb.RolloutEvidence:
    """What one look saw."""
    known = pb.RolloutEvidence(ready_replicas=2, replicas=2, samples=143, measures=found or [], **more)
    known.time.CopyFrom(stamp(now))
    return known


def canary(now: float) -> pb.Rollout:
    """Half of the users, in its second stage."""
    found = _rollout(CANARY, REWARD, "reward-000003", "reward-000002", now - 4.6 * HOUR, pb.ROLLOUT_STATE_CANARY)
    found.stage, found.share, found.version, found.elapsed_seconds = 1, 0.5, 6, 41 * 60
    found.since_time.CopyFrom(stamp(now - 41 * 60))
    return found


def canary_look(now: float) -> pb.RolloutLook:
    """It waits for samples and time."""
    reason = "It has 143 of 200 samples, and was in this stage for 41 of 60 minutes."
    known = evidence(now, measures(), days_left=3.4)
    return pb.RolloutLook(reason=reason, version=6, evidence=known)


def canary_events(now: float) -> list[pb.RolloutEvent]:
    """From the draft to half of the users, oldest first."""
    states = (
        (1, "draft", pb.ROLLOUT_STATE_UNSPECIFIED, 0, pb.ROLLOUT_STATE_DRAFT, 0, "Better by 3.3 points.", "Lan"),
        (2, "start", pb.ROLLOUT_STATE_DRAFT, 0, pb.ROLLOUT_STATE_PUBLISHED, 0, "Monday's model.", "Lan"),
        (3, "advance", pb.ROLLOUT_STATE_PUBLISHED, 0, pb.ROLLOUT_STATE_LOADED, 0, "Ready on 2 of 2 replicas.", ""),
        (4, "advance", pb.ROLLOUT_STATE_LOADED, 0, pb.ROLLOUT_STATE_SHADOW, 0, "Loaded: it is seen by nobody yet.", ""),
        (5, "promote", pb.ROLLOUT_STATE_SHADOW, 0, pb.ROLLOUT_STATE_CANARY, 0, "No need to wait for more.", "Lan"),
        (6, "advance", pb.ROLLOUT_STATE_CANARY, 0, pb.ROLLOUT_STATE_CANARY, 1, "Satisfaction and quality kept.", ""),
    )
    found = []
    for version, trigger, before, first, after, last, reason, who in states:
        event = pb.RolloutEvent(
            version=version, trigger=trigger, reason=reason, actor=who or "controller", is_person=bool(who)
        )
        event.from_state, event.from_stage, event.to_state, event.to_stage = before, first, after, last
        event.time.CopyFrom(stamp(now - (4.6 - 0.78 * (version - 1)) * HOUR))
        if version == 5:
            event.evidence.CopyFrom(evidence(now - 1.5 * HOUR))
        if version == 6:
            event.evidence.CopyFrom(evidence(now - 0.7 * HOUR, measures()))
        found.append(event)
    return found


def paused(now: float) -> pb.Rollout:
    """A safety report took its users away, and somebody paused it besides."""
    found = _rollout(PAUSED, POLICY, "policy-000002", "policy-000001", now - 28 * HOUR, pb.ROLLOUT_STATE_PAUSED)
    found.resumes_to, found.version, found.elapsed_seconds = pb.ROLLOUT_STATE_CANARY, 7, 25 * 60
    found.since_time.CopyFrom(stamp(now - HOUR))
    reason = "A reply of policy-000002 was reported as unsafe: 1 report waits."
    safety = found.pauses.add(cause=pb.ROLLOUT_PAUSE_CAUSE_SAFETY, reason=reason)
    safety.since_time.CopyFrom(stamp(now - 0.8 * HOUR))
    person = found.pauses.add(cause=pb.ROLLOUT_PAUSE_CAUSE_PERSON, reason="Let us read it first.")
    person.since_time.CopyFrom(stamp(now - 0.7 * HOUR))
    return found


def paused_look(now: float) -> pb.RolloutLook:
    """What a report makes of it."""
    broken = _measure("safety", "Safety reports", (1.0, None, None), MISSED, "1 of 204 users: missed.", guardrail=True)
    worse = _measure("satisfaction", "Satisfaction", (-0.031, -0.052, -0.01), MISSED, "Worse: missed.", guardrail=True)
    early = _measure("satisfaction", "Satisfaction", (-0.031, -0.049, -0.013), MISSED, "Worse: missed.")
    quality = _measure("quality", "Quality", (0.01, -0.2, 0.21), OPEN, "Too few users: no verdict yet.")
    known = evidence(now, [early, quality, worse, broken], reports_pending=1, reports_dismissed=1)
    return pb.RolloutLook(reason="It waits for a person.", version=7, evidence=known)


def reports(now: float) -> list[pb.RolloutSafetyReport]:
    """One that waits, one that was harmless."""
    first = pb.RolloutSafetyReport(
        feedback_id=REPORT, tenant_id="default", response_id=REPLY, category="dangerous", comment=COMMENT
    )
    first.time.CopyFrom(stamp(now - 0.8 * HOUR))
    second = pb.RolloutSafetyReport(
        feedback_id=f"{REPORT[:-1]}2", tenant_id="default", response_id=REPLY, category="other", decided_by="Minh"
    )
    second.confirmed = False
    second.time.CopyFrom(stamp(now - 9 * HOUR))
    return [first, second]


def ended(now: float) -> Iterator[tuple[pb.Rollout, pb.RolloutEvent]]:
    """One that took over, and one that was worse, with their last entries."""
    better = _rollout(VERIFIED, REWARD, "reward-000002", "reward-000001", now - 190 * HOUR, pb.ROLLOUT_STATE_VERIFIED)
    better.stage, better.share, better.version = 2, 1.0, 8
    reason = "All four success criteria are met after 1,240 samples."
    yield better, _last(better, now - 150 * HOUR, "advance", reason, pb.ROLLOUT_STATE_CANARY, 2, _all_met())
    worse = _rollout(BACK, REWARD, "reward-000002b", "reward-000001", now - 300 * HOUR, pb.ROLLOUT_STATE_ROLLED_BACK)
    worse.stage, worse.version = 0, 6
    missed = _measure("satisfaction", "Satisfaction", (-0.06, -0.09, -0.03), MISSED, "6 % down: missed.")
    reason = "Satisfaction is 6 % down (-9 % to -3 %), asked for less than 2 % down."
    yield worse, _last(worse, now - 290 * HOUR, "roll_back", reason, pb.ROLLOUT_STATE_CANARY, 0, [missed])


def drained(now: float) -> pb.RolloutEvent:
    """What follows the way back of the one that was worse."""
    leaving, gone = pb.ROLLOUT_STATE_ROLLING_BACK, pb.ROLLOUT_STATE_ROLLED_BACK
    found = pb.RolloutEvent(version=7, trigger="drain", actor="controller", from_state=leaving, to_state=gone)
    found.reason = "All calls that it had must have ended."
    found.time.CopyFrom(stamp(now - 289.9 * HOUR))
    return found


def plant(found: PlantedReleases, rollouts: PlantedRollouts, now: float) -> None:
    """All of it."""
    found.plant(*releases(now), retired(now))
    found.refused.extend(refused(now))
    rollouts.plant(canary(now), *canary_events(now), look=canary_look(now))
    rollouts.plant(paused(now), *paused_events(now), look=paused_look(now))
    rollouts.reports[PAUSED] = reports(now)
    for rollout, event in ended(now):
        rollouts.plant(rollout, event)
    rollouts.events[BACK].append(drained(now))
    rollouts.plant(draft(now))


def paused_events(now: float) -> list[pb.RolloutEvent]:
    """The first one, and what paused it."""
    rollout = paused(now)
    begun = _last(rollout, now - 28 * HOUR, "start", "Try the new policy.", pb.ROLLOUT_STATE_DRAFT, 0, None)
    begun.version, begun.is_person, begun.actor, begun.to_state = 1, True, "Lan", pb.ROLLOUT_STATE_PUBLISHED
    reason = rollout.pauses[0].reason
    return [begun, _last(rollout, now - 0.8 * HOUR, "suspend", reason, pb.ROLLOUT_STATE_CANARY, 0, None)]


def experiment(now: float) -> experiment_pb2.GetExperimentResponse:
    """More candidates, for a tenth of the users; a report holds it."""
    known = evidence(now, measures()[:5], days_left=12.2)
    found = experiment_pb2.GetExperimentResponse(look=pb.RolloutLook(version=2, evidence=known))
    tried = found.experiment
    tried.experiment_id, tried.name, tried.version, tried.share = EXPERIMENT, "more-candidates", 2, 0.1
    tried.kind, tried.state = experiment_pb2.EXPERIMENT_KIND_SELECTION, experiment_pb2.EXPERIMENT_STATE_RUNNING
    tried.variant.name, tried.variant.selection.candidates, tried.variant.selection.exploration = "eight", 8, 0.05
    tried.goals.CopyFrom(plan().goals)
    tried.to_set.append("RATCHET_CANDIDATES=8")
    tried.start_time.CopyFrom(stamp(now - 50 * HOUR))
    found.safety_reports.append(reports(now)[0])
    return found


def draft(now: float) -> pb.Rollout:
    """One that waits for somebody."""
    return _rollout(DRAFT, POLICY, "policy-000003", "policy-000001", now - 320 * HOUR, pb.ROLLOUT_STATE_DRAFT)


def _rollout(
    rollout_id: str, kind: int, challenger: str, champion: str, since: float, state: "pb.RolloutState.ValueType"
) -> pb.Rollout:
    return pb.Rollout(
        rollout_id=rollout_id,
        kind=kind,  # type: ignore[arg-type]
        challenger=challenger,
        champion=champion,
        plan=plan(),
        state=state,
        version=1,
        since_time=stamp(since),
        create_time=stamp(since),
        creator="Lan",
    )


def _last(
    rollout: pb.Rollout,
    when: float,
    trigger: str,
    reason: str,
    before: "pb.RolloutState.ValueType",
    stage: int,
    found: list[pb.RolloutMeasure] | None,
) -> pb.RolloutEvent:
    event = pb.RolloutEvent(version=rollout.version, trigger=trigger, reason=reason, actor="controller")
    event.from_state, event.from_stage, event.to_state, event.to_stage = before, stage, rollout.state, stage
    event.time.CopyFrom(stamp(when))
    if found is not None:
        event.evidence.CopyFrom(evidence(when, found))
    return event


def _measure(
    name: str,
    subject: str,
    numbers: tuple[float, float | None, float | None],
    state: "pb.MeasureState.ValueType",
    sentence: str,
    *,
    guardrail: bool = False,
) -> pb.RolloutMeasure:
    value, lower, upper = numbers
    return pb.RolloutMeasure(
        name=name,
        subject=subject,
        guardrail=guardrail,
        value=value,
        lower=lower,
        upper=upper,
        state=state,
        sentence=sentence if sentence.startswith(subject) else f"{subject}: {sentence}",
    )


def _release(release: str, kind: "release_pb2.ReleaseKind.ValueType", when: float, **more: Any) -> release_pb2.Release:
    found = release_pb2.Release(release=release, kind=kind, code_version="0.1.0", **more)
    found.create_time.CopyFrom(stamp(when - 600))
    found.publish_time.CopyFrom(stamp(when))
    return found


def _replica(
    replica: str,
    now: float,
    state: "release_pb2.ReplicaModelState.ValueType" = release_pb2.REPLICA_MODEL_STATE_READY,
    refusal: str = "",
) -> release_pb2.ReplicaModel:
    return release_pb2.ReplicaModel(
        replica=replica, state=state, refusal=refusal, since_time=stamp(now - 4 * HOUR), check_time=stamp(now - 1)
    )
