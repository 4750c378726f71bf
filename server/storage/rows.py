"""What a row of `conversation_logs` holds, and the reply that can be made again from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.types import (
    Candidate,
    Choice,
    Degradation,
    DegradationReason,
    Exchange,
    FinishReason,
    Preset,
    Reply,
    Sampling,
    Score,
    SelectionMethod,
    Turn,
)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One reply with all that it came from: what the log keeps."""

    turn: Turn
    exchanges: tuple[Exchange, ...]
    reply: Reply


COLUMNS: Mapping[str, str] = {
    "tenant_id": "text",
    "response_id": "uuid",
    "request_id": "text",
    "user_id": "text",
    "session_id": "text",
    "timestamp": "timestamptz",
    "query": "text",
    "context": "jsonb",
    "selected_response": "text",
    "reward_score": "float8",
    "all_candidates": "jsonb",
    "generation_method": "text",
    "feedback_prompt": "bool",
    "selection_method": "text",
    "selection_probability": "float8",
    "policy_release": "text",
    "reward_release": "text",
    "seed": "bigint",
    "seed_honored": "bool",
    "latencies": "jsonb",
    "total_seconds": "float8",
    "degradations": "jsonb",
}
"""The columns of `conversation_logs` in the order of `values`, with their types."""


def values(entry: LogEntry) -> tuple[Any, ...]:
    """The entry's values in the order of COLUMNS."""
    turn, reply = entry.turn, entry.reply
    context = {"given": turn.context, "turns": [{"query": e.query, "response": e.response} for e in entry.exchanges]}
    return (
        turn.tenant_id,
        turn.response_id,
        turn.request_id,
        turn.user_id,
        turn.session_id,
        reply.created_at,
        turn.query,
        _dump(context),
        reply.response,
        reply.reward_score,
        _dump([_candidate_object(c, reply.choice) for c in reply.candidates]),
        reply.generation_method,
        reply.feedback_prompt,
        reply.choice.method.value,
        reply.choice.probabilities[reply.choice.index],
        reply.policy_release,
        reply.reward_release,
        reply.seed,
        reply.seed_honored,
        _dump(dict(reply.latencies)),
        reply.total_seconds,
        _dump([{"reason": d.reason.value, "detail": d.detail} for d in reply.degradations]),
    )


def reply_of(row: Mapping[str, Any]) -> Reply:
    """The reply that a row was made from, marked as replayed.

    Raises KeyError, TypeError or ValueError for a row that a newer version wrote in words of its own.
    """
    objects = json.loads(row["all_candidates"])
    return Reply(
        response_id=row["response_id"],
        response=row["selected_response"],
        reward_score=row["reward_score"],
        generation_method=row["generation_method"],
        feedback_prompt=row["feedback_prompt"],
        candidates=tuple(_candidate(o) for o in objects),
        choice=Choice(
            index=next(index for index, o in enumerate(objects) if o["selected"]),
            method=SelectionMethod(row["selection_method"]),
            probabilities=tuple(o["selection_probability"] for o in objects),
        ),
        policy_release=row["policy_release"],
        reward_release=row["reward_release"],
        seed=row["seed"],
        seed_honored=row["seed_honored"],
        created_at=row["timestamp"],
        latencies=json.loads(row["latencies"]),
        total_seconds=row["total_seconds"],
        degradations=tuple(
            Degradation(DegradationReason(d["reason"]), d["detail"]) for d in json.loads(row["degradations"])
        ),
        replayed=True,
    )


def _candidate_object(candidate: Candidate, choice: Choice) -> dict[str, Any]:
    preset = candidate.sampling.preset
    return {
        "index": candidate.index,
        "text": candidate.text,
        "reward_score": candidate.reward_score,
        "reward_logit": candidate.score.logit if candidate.score else None,
        "aspects": candidate.score.aspects if candidate.score else None,
        "truncated": candidate.score.truncated if candidate.score else False,
        "selected": candidate.index == choice.index,
        "selection_probability": choice.probabilities[candidate.index],
        "preset": preset.name,
        "temperature": preset.temperature,
        "top_p": preset.top_p,
        "top_k": preset.top_k,
        "seed": candidate.sampling.seed,
        "max_tokens": candidate.sampling.max_tokens,
        "finish_reason": candidate.finish_reason,
        "output_tokens": candidate.output_tokens,
        "seconds": candidate.seconds,
        "error": candidate.error,
    }


def _candidate(o: Mapping[str, Any]) -> Candidate:
    preset = Preset(o["preset"], o["temperature"], o["top_p"], o["top_k"])
    return Candidate(
        index=o["index"],
        sampling=Sampling(preset, o["seed"], o["max_tokens"]),
        text=o["text"],
        finish_reason=FinishReason(o["finish_reason"]) if o["finish_reason"] else None,
        output_tokens=o["output_tokens"],
        seconds=o["seconds"],
        error=o["error"],
        score=_score(o),
    )


def _score(o: Mapping[str, Any]) -> Score | None:
    if o["reward_score"] is None:
        return None
    return Score(o["reward_score"], o["reward_logit"], tuple(o["aspects"]) if o["aspects"] else None, o["truncated"])


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
