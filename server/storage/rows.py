"""What a row of `conversation_logs` holds, and the reply that can be made again from it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from server.rollout.assignment import CHAMPION
from server.rollout.registry import Assignment
from server.types import (
    Candidate,
    Check,
    Choice,
    Citation,
    Degradation,
    DegradationReason,
    Evidence,
    Finding,
    FinishReason,
    Preset,
    Profile,
    Recollection,
    Reply,
    Sampling,
    Score,
    ScoreSource,
    SelectionMethod,
    ToolOutcome,
    ToolRun,
    Turn,
)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One reply with all that it came from: what the log keeps.

    `recollection` and `profile` are what the prompt held of them; `decided` the settings that the choice hung on;
    `reward_context` what the reward model was given beside the query (None: it was asked nothing); `assignments` the
    experiments that it was part of.
    """

    turn: Turn
    recollection: Recollection
    profile: Profile | None
    reply: Reply
    decided: Mapping[str, Any] = field(default_factory=dict)
    reward_context: str | None = None
    assignments: tuple[Assignment, ...] = ()


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
    "tool_runs": "jsonb",
    "citations": "jsonb",
    "selection": "jsonb",
    "refused": "bool",
    "regenerated": "bool",
    "explored": "bool",
    "profile_used": "bool",
    "spooled": "bool",
    "erased": "bool",
    "reward_context": "text",
    "arm": "text",
    "arm_share": "float8",
    "assignments": "jsonb",
}
"""The columns of `conversation_logs` in the order of `values`, with their types."""


def values(entry: LogEntry) -> tuple[Any, ...]:
    """The entry's values in the order of COLUMNS."""
    turn, reply = entry.turn, entry.reply
    return (
        turn.tenant_id,
        turn.response_id,
        turn.request_id,
        turn.user_id,
        turn.session_id,
        reply.created_at,
        turn.query,
        _dump(_context(entry)),
        reply.response,
        reply.reward_score,
        _dump([_candidate_object(c, reply.choice) for c in reply.candidates]),
        reply.generation_method,
        reply.feedback_prompt,
        reply.choice.method.value,
        reply.selection_probability,
        reply.policy_release,
        reply.reward_release,
        reply.seed,
        reply.seed_honored,
        _dump(list(reply.latencies.items())),  # jsonb would not keep the order of an object's keys
        reply.total_seconds,
        _dump([{"reason": d.reason, "detail": d.detail} for d in reply.degradations]),
        _dump([_tool_run_object(run) for run in reply.tool_runs]),
        _dump([_citation_object(citation) for citation in reply.citations]),
        _dump({**entry.decided, **_asked(turn)}),
        reply.refused,
        reply.regenerated,
        reply.choice.explored,
        reply.profile_used,
        False,
        False,
        entry.reward_context,
        arm_of(entry.assignments),
        math.prod((each.propensity for each in entry.assignments), start=1.0),
        _dump([asdict(each) for each in entry.assignments]),
    )


def arm_of(assignments: Sequence[Assignment]) -> str:
    """What all experiments of a reply gave it together: the challengers that it was assigned, else the champion."""
    return "+".join(each.release for each in assignments if each.challenger) or CHAMPION


def _asked(turn: Turn) -> dict[str, Any]:
    """What the request asked for beside its query: None where it left the choice to the settings."""
    return {
        "seed_given": turn.seed_given,
        "tool_use": turn.tool_use,
        "tools": turn.tools,
        "asked_method": turn.selection_method,
        "asked_minimum_reward": turn.minimum_reward,
        "candidate_count": turn.candidate_count,
        "max_output_tokens": turn.max_output_tokens,
    }


def _context(entry: LogEntry) -> dict[str, Any]:
    recalled, profile = entry.recollection, entry.profile
    return {
        "given": entry.turn.context,
        "turns": [{"query": e.query, "response": e.response} for e in recalled.exchanges],
        "summary": recalled.summary,
        "profile": {"attributes": dict(profile.attributes), "weight": profile.weight} if profile else None,
    }


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
            index=next((index for index, o in enumerate(objects) if o["selected"]), None),
            method=SelectionMethod(row["selection_method"]),
            probabilities=tuple(o["selection_probability"] for o in objects),
            explored=row["explored"],
        ),
        policy_release=row["policy_release"],
        reward_release=row["reward_release"],
        seed=row["seed"],
        seed_honored=row["seed_honored"],
        created_at=row["timestamp"],
        latencies=dict(json.loads(row["latencies"])),
        total_seconds=row["total_seconds"],
        degradations=tuple(
            Degradation(DegradationReason(d["reason"]), d["detail"]) for d in json.loads(row["degradations"])
        ),
        replayed=True,
        tool_runs=tuple(_tool_run(o) for o in json.loads(row["tool_runs"])),
        citations=tuple(
            Citation(o["number"], _evidence(o["evidence"]), o["support"]) for o in json.loads(row["citations"])
        ),
        regenerated=row["regenerated"],
        profile_used=row["profile_used"],
    )


def _tool_run_object(run: ToolRun) -> dict[str, Any]:
    return {
        "tool": run.tool,
        "outcome": run.outcome,
        "relevance": run.relevance,
        "seconds": run.seconds,
        "detail": run.detail,
        "evidence": [_evidence_object(evidence) for evidence in run.evidence],
    }


def _citation_object(citation: Citation) -> dict[str, Any]:
    evidence = _evidence_object(citation.evidence)
    return {"number": citation.number, "evidence": evidence, "support": citation.support}


def _evidence_object(evidence: Evidence) -> dict[str, Any]:
    return {
        "tool": evidence.tool,
        "source": evidence.source,
        "title": evidence.title,
        "text": evidence.text,
        "uri": evidence.uri,
        "score": evidence.score,
        "excludes": evidence.excludes,
    }


def _evidence(o: Mapping[str, Any]) -> Evidence:
    return Evidence(**{**o, "excludes": tuple(o.get("excludes", ()))})


def _tool_run(o: Mapping[str, Any]) -> ToolRun:
    evidence = tuple(_evidence(each) for each in o["evidence"])
    return ToolRun(**{**o, "outcome": ToolOutcome(o["outcome"]), "evidence": evidence})


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
        "wave": candidate.wave,
        "duplicate_of": candidate.duplicate_of,
        "findings": [
            {"check": f.check, "passed": f.passed, "value": f.value, "detail": f.detail} for f in candidate.findings
        ],
        "score_source": candidate.score.source if candidate.score else None,
        "similarity": candidate.score.similarity if candidate.score else None,
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
        wave=o.get("wave", 0),
        duplicate_of=o.get("duplicate_of"),
        findings=tuple(Finding(Check(f["check"]), f["passed"], f["value"], f["detail"]) for f in o.get("findings", ())),
    )


def _score(o: Mapping[str, Any]) -> Score | None:
    if o["reward_score"] is None:
        return None
    aspects = tuple(o["aspects"]) if o["aspects"] else None
    source, similarity = ScoreSource(o.get("score_source", ScoreSource.MODEL)), o.get("similarity", 1.0)
    return Score(o["reward_score"], o["reward_logit"], aspects, o["truncated"], source, similarity)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
