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
from server.types import (
    Candidate,
    DegradationReason,
    FinishReason,
    Reply,
    Score,
    SelectionMethod,
    Turn,
)

DEFAULT_TENANT = "default"
"""The tenant of callers without a key."""

_METHODS: Mapping[SelectionMethod, pb.SelectionMethod.ValueType] = {SelectionMethod.BEST: pb.SELECTION_METHOD_BEST}
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
    """The turn of a valid request. `time_remaining` is the caller's deadline in seconds, None without one."""
    seconds = min(defaults.deadline_seconds if time_remaining is None else time_remaining, defaults.max_seconds)
    return Turn(
        tenant_id=DEFAULT_TENANT,
        request_id=request.request_id,
        user_id=request.user_id,
        session_id=request.session_id,
        query=request.query,
        context=request.context,
        candidate_count=request.candidate_count if request.HasField("candidate_count") else defaults.candidate_count,
        seed=request.seed if request.HasField("seed") else secrets.randbits(63),
        seed_given=request.HasField("seed"),
        selection_method=SelectionMethod.BEST,
        max_output_tokens=(
            request.max_output_tokens if request.HasField("max_output_tokens") else defaults.max_output_tokens
        ),
        response_id=UUID(int=uuid_utils.uuid7().int),
        received_at=datetime.now(UTC),
        deadline=asyncio.get_running_loop().time() + seconds,
        fingerprint=fingerprint(request),
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
        candidates=[_candidate(each, reply) for each in reply.candidates],
        selection_method=_METHODS[reply.choice.method],
        selection_probability=reply.choice.probabilities[reply.choice.index],
        policy_release=reply.policy_release,
        reward_release=reply.reward_release,
        seed=reply.seed,
        create_time=created,
        replayed=reply.replayed,
        total_latency=_duration(reply.total_seconds),
    )
    for stage, seconds in reply.latencies.items():
        response.latencies.add(stage=stage, duration=_duration(seconds))
    for degradation in reply.degradations:
        response.degradations.add(reason=_reason(degradation.reason), detail=degradation.detail)
    return response


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


def _candidate(candidate: Candidate, reply: Reply) -> pb.Candidate:
    preset = candidate.sampling.preset
    return pb.Candidate(
        index=candidate.index,
        text=candidate.text,
        reward_score=candidate.reward_score,
        selected=candidate.index == reply.choice.index,
        selection_probability=reply.choice.probabilities[candidate.index],
        sampling=pb.Sampling(
            preset=preset.name,
            temperature=preset.temperature,
            top_p=preset.top_p,
            top_k=preset.top_k,
            seed=candidate.sampling.seed,
            seed_honored=reply.seed_honored,
        ),
        finish_reason=_FINISH[candidate.finish_reason],
        output_tokens=candidate.output_tokens,
        error=candidate.error,
        latency=_duration(candidate.seconds),
        reward_logit=candidate.score.logit if candidate.score else None,
        aspects=_aspects(candidate.score.aspects) if candidate.score else None,
    )


def _reason(reason: DegradationReason) -> pb.DegradationReason.ValueType:
    return pb.DegradationReason.Value(f"DEGRADATION_REASON_{reason.name}")


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
