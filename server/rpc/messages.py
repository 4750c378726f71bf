"""Protobuf messages to and from the values of the request path. Beyond this room there are no messages."""

from __future__ import annotations  # enum value types exist for type checkers only

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import uuid_utils
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import inference_pb2 as pb
from server.feedback.types import GivenReply
from server.identity import caller
from server.progress import CandidateDrawn, CandidateScored, Progress, ToolFinished, ToolsSelected
from server.types import (
    Candidate,
    Citation,
    DegradationReason,
    Evidence,
    Finding,
    FinishReason,
    Reply,
    Score,
    SelectionMethod,
    ToolRun,
    ToolUse,
    Turn,
)

_METHODS: Mapping[SelectionMethod, pb.SelectionMethod.ValueType] = {
    method: pb.SelectionMethod.Value(f"SELECTION_METHOD_{method.name}") for method in SelectionMethod
}
_ASKED = {value: method for method, value in _METHODS.items()}
_FINISH: Mapping[FinishReason | None, pb.FinishReason.ValueType] = {
    None: pb.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request that leaves something open gets. `max_seconds` caps any caller's deadline."""

    candidate_count: int = 5
    max_output_tokens: int = 128
    deadline_seconds: float = 30.0
    max_seconds: float = 120.0


def turn_of(request: pb.GenerateRequest, time_remaining: float | None, defaults: Defaults) -> Turn:
    """The turn of a valid request. `time_remaining` is the caller's deadline in seconds, None without one.

    Raises PermissionDenied when the caller can't act for the request's user.
    """
    caller().require_user(request.user_id)
    seconds = min(defaults.deadline_seconds if time_remaining is None else time_remaining, defaults.max_seconds)
    return Turn(
        tenant_id=caller().tenant_id,
        request_id=request.request_id,
        user_id=request.user_id,
        session_id=request.session_id,
        query=request.query,
        context=request.context,
        candidate_count=request.candidate_count if request.HasField("candidate_count") else defaults.candidate_count,
        seed=request.seed if request.HasField("seed") else secrets.randbits(63),
        seed_given=request.HasField("seed"),
        selection_method=_ASKED.get(request.selection_method),
        max_output_tokens=(
            request.max_output_tokens if request.HasField("max_output_tokens") else defaults.max_output_tokens
        ),
        response_id=UUID(int=uuid_utils.uuid7().int),
        received_at=datetime.now(UTC),
        deadline=asyncio.get_running_loop().time() + seconds,
        fingerprint=fingerprint(request),
        tool_use=ToolUse.NONE if request.tool_use == pb.TOOL_USE_NONE else ToolUse.AUTO,
        tools=tuple(request.tools),
        minimum_reward=request.minimum_reward if request.HasField("minimum_reward") else None,
        count_given=request.HasField("candidate_count"),
    )


def fingerprint(request: pb.GenerateRequest) -> bytes:
    """SHA-256 of the request as it was sent, without its id: defaults that change later don't change it."""
    asked = pb.GenerateRequest()
    asked.CopyFrom(request)
    asked.request_id = ""
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).digest()


def response_of(reply: Reply) -> pb.GenerateResponse:
    """The reply package."""
    created = Timestamp()
    created.FromDatetime(reply.created_at)
    response = pb.GenerateResponse(
        response=reply.response,
        reward_score=reply.reward_score,
        response_id=str(reply.response_id),
        candidates_count=reply.candidates_count,
        generation_method=reply.generation_method,
        feedback_prompt=reply.feedback_prompt,
        candidates=[_candidate_of(each, reply) for each in reply.candidates],
        selection_method=_METHODS[reply.choice.method],
        selection_probability=reply.selection_probability,
        policy_release=reply.policy_release,
        reward_release=reply.reward_release,
        seed=reply.seed,
        create_time=created,
        replayed=reply.replayed,
        total_latency=_duration(reply.total_seconds),
        tool_runs=[_tool_run(run) for run in reply.tool_runs],
        citations=[_citation(citation) for citation in reply.citations],
        refused=reply.refused,
        refusal_reasons=reply.refusal_reasons,
        regenerated=reply.regenerated,
        explored=reply.choice.explored,
        profile_used=reply.profile_used,
    )
    for each in reply.shown:
        response.experiments.add(experiment=each.experiment, variant=each.variant, challenger=bool(each.variant))
    for stage, seconds in reply.latencies.items():
        response.latencies.add(stage=stage, duration=_duration(seconds))
    for degradation in reply.degradations:
        response.degradations.add(reason=_reason(degradation.reason), detail=degradation.detail)
    return response


def given_of(turn: Turn, reply: Reply) -> GivenReply:
    """The reply as its receipt says it. A replayed one belongs to the user of this turn too: the fingerprints agree."""
    return GivenReply(
        turn.tenant_id,
        reply.response_id,
        turn.user_id,
        turn.session_id,
        reply.created_at,
        reply.policy_release,
        reply.reward_release,
    )


def event_of(progress: Progress) -> pb.StreamGenerateResponse:
    """What happened, as a message of the stream."""
    match progress:
        case ToolsSelected(tools):
            return pb.StreamGenerateResponse(tools_selected=pb.ToolsSelected(tools=tools))
        case ToolFinished(run):
            return pb.StreamGenerateResponse(tool_finished=_tool_run(run))
        case CandidateDrawn(candidate):
            return pb.StreamGenerateResponse(candidate_drawn=_candidate(candidate))
        case CandidateScored(candidate):
            return pb.StreamGenerateResponse(candidate_scored=_candidate(candidate))
        case _:
            return pb.StreamGenerateResponse(regenerating=pb.Regenerating(reasons=progress.reasons))


def _tool_run(run: ToolRun) -> pb.ToolRun:
    return pb.ToolRun(
        tool=run.tool,
        outcome=pb.ToolOutcome.Value(f"TOOL_OUTCOME_{run.outcome.name}"),
        relevance=run.relevance,
        latency=_duration(run.seconds),
        detail=run.detail,
        evidence=[_evidence(evidence) for evidence in run.evidence],
    )


def _citation(citation: Citation) -> pb.Citation:
    return pb.Citation(number=citation.number, evidence=_evidence(citation.evidence), support=citation.support)


def _evidence(evidence: Evidence) -> pb.Evidence:
    return pb.Evidence(
        tool=evidence.tool,
        source=evidence.source,
        title=evidence.title,
        text=evidence.text,
        uri=evidence.uri,
        score=evidence.score,
    )


def response_score_of(score: Score) -> pb.ResponseScore:
    """One response's score."""
    return pb.ResponseScore(
        score=score.score, logit=score.logit, truncated=score.truncated, aspects=_aspects(score.aspects)
    )


def _aspects(aspects: tuple[float, float, float, float] | None) -> pb.AspectScores | None:
    if aspects is None:
        return None
    accuracy, helpfulness, clarity, safety = aspects
    return pb.AspectScores(accuracy=accuracy, helpfulness=helpfulness, clarity=clarity, safety=safety)


def _candidate_of(candidate: Candidate, reply: Reply) -> pb.Candidate:
    message = _candidate(candidate)
    message.selected = candidate.index == reply.choice.index
    message.selection_probability = reply.choice.probabilities[candidate.index]
    message.sampling.seed_honored = reply.seed_honored
    message.passed = candidate.passed
    return message


def _candidate(candidate: Candidate) -> pb.Candidate:
    """The candidate as far as it has come: nothing is chosen yet."""
    preset, score = candidate.sampling.preset, candidate.score
    return pb.Candidate(
        index=candidate.index,
        text=candidate.text,
        reward_score=candidate.reward_score,
        sampling=pb.Sampling(
            preset=preset.name,
            temperature=preset.temperature,
            top_p=preset.top_p,
            top_k=preset.top_k,
            seed=candidate.sampling.seed,
        ),
        finish_reason=_FINISH[candidate.finish_reason],
        output_tokens=candidate.output_tokens,
        error=candidate.error,
        latency=_duration(candidate.seconds),
        reward_logit=score.logit if score else None,
        aspects=_aspects(score.aspects) if score else None,
        wave=candidate.wave,
        duplicate_of=candidate.duplicate_of,
        findings=[_finding(finding) for finding in candidate.findings],
        score_source=_source(score),
    )


def _source(score: Score | None) -> pb.ScoreSource.ValueType:
    return pb.ScoreSource.Value(f"SCORE_SOURCE_{score.source.name if score else 'UNSPECIFIED'}")


def _finding(finding: Finding) -> pb.Finding:
    check = pb.QualityCheck.Value(f"QUALITY_CHECK_{finding.check.name}")
    return pb.Finding(check=check, passed=finding.passed, value=finding.value, detail=finding.detail)


def _reason(reason: DegradationReason) -> pb.DegradationReason.ValueType:
    return pb.DegradationReason.Value(f"DEGRADATION_REASON_{reason.name}")


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
