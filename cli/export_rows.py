"""Rows of exports from messages: plain values by column, as JSON has them."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import conversation_pb2, feedback_pb2, inference_pb2

Row = dict[str, Any]
"""One row by column name; times are RFC 3339 texts."""
_SAME = (
    *("response_id", "generation_method", "selection_probability", "policy_release", "reward_release", "seed"),
    *("response", "refused", "regenerated", "explored", "profile_used"),
)


def log_row(of: conversation_pb2.Conversation) -> Row:
    """The row of a reply."""
    reply = of.reply
    method = inference_pb2.SelectionMethod.Name(reply.selection_method)
    return {
        **{name: getattr(reply, name) for name in _SAME},
        "create_time": _time(reply.create_time),
        "user_id": of.user_id,
        "session_id": of.session_id,
        "request_id": of.request_id,
        "query": of.query,
        "context": of.context,
        "previous_messages": [{"query": each.query, "response": each.response} for each in of.previous_messages],
        "summary": of.summary,
        "user_profile": [{"name": name, "value": value} for name, value in sorted(of.user_profile.items())],
        "reward_score": _optional(reply, "reward_score"),
        "selection_method": _word(method, "SELECTION_METHOD_"),
        "refusal_reasons": list(reply.refusal_reasons),
        "arm": of.arm,
        "arm_share": of.arm_share,
        "candidates": [_candidate(each) for each in reply.candidates],
        "tool_runs": [_run(each) for each in reply.tool_runs],
        "citations": [
            {"number": each.number, "support": each.support, **_evidence(each.evidence)} for each in reply.citations
        ],
        "latencies": [{"stage": each.stage, "seconds": _seconds(each.duration)} for each in reply.latencies],
        "total_seconds": _seconds(reply.total_latency),
        "degradations": [
            {
                "reason": _word(inference_pb2.DegradationReason.Name(each.reason), "DEGRADATION_REASON_"),
                "detail": each.detail,
            }
            for each in reply.degradations
        ],
        "erased": of.erased,
        "problem": of.problem,
        "feedback": [feedback_row(each) for each in of.feedback],
    }


def feedback_row(of: feedback_pb2.Feedback) -> Row:
    """The row of a feedback."""
    preference = of.preference if of.HasField("preference") else None
    stars = of.rating_dimensions
    return {
        "feedback_id": of.feedback_id,
        "kind": _word(feedback_pb2.FeedbackKind.Name(of.kind), "FEEDBACK_KIND_"),
        "response_id": of.response_id,
        "user_id": of.user_id,
        "session_id": of.session_id,
        "rating_overall": _optional(of, "rating_overall"),
        "rating_dimensions": {name: _optional(stars, name) for name in stars.DESCRIPTOR.fields_by_name},
        "reaction_type": _word(feedback_pb2.ReactionType.Name(of.reaction_type), "REACTION_TYPE_") or None,
        "text_feedback": of.text_feedback,
        "safety_category": _word(feedback_pb2.SafetyCategory.Name(of.safety_category), "SAFETY_CATEGORY_") or None,
        "chosen_index": preference.chosen_index if preference else None,
        "rejected_index": preference.rejected_index if preference else None,
        "revision": of.revision,
        "withdrawn": of.withdrawn,
        "create_time": _time(of.create_time),
        "update_time": _time(of.update_time),
        "policy_release": of.policy_release,
        "reward_release": of.reward_release,
        "arm": of.arm,
        "arm_share": of.arm_share,
        "selection_probability": of.selection_probability,
        "is_training_data": of.is_training_data,
    }


def _candidate(of: inference_pb2.Candidate) -> Row:
    sampling = of.sampling
    aspects = of.aspects if of.HasField("aspects") else None
    return {
        "index": of.index,
        "text": of.text,
        "reward_score": _optional(of, "reward_score"),
        "reward_logit": _optional(of, "reward_logit"),
        "aspects": {name: getattr(aspects, name) for name in aspects.DESCRIPTOR.fields_by_name} if aspects else None,
        "selected": of.selected,
        "selection_probability": of.selection_probability,
        "passed": of.passed,
        "preset": sampling.preset,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "finish_reason": _word(inference_pb2.FinishReason.Name(of.finish_reason), "FINISH_REASON_") or None,
        "output_tokens": of.output_tokens,
        "seconds": _seconds(of.latency),
        "error": of.error,
        "wave": of.wave,
        "duplicate_of": _optional(of, "duplicate_of"),
        "score_source": _word(inference_pb2.ScoreSource.Name(of.score_source), "SCORE_SOURCE_") or None,
        "findings": [
            {
                "check": _word(inference_pb2.QualityCheck.Name(each.check), "QUALITY_CHECK_"),
                "passed": each.passed,
                "value": each.value,
                "detail": each.detail,
            }
            for each in of.findings
        ],
    }


def _run(of: inference_pb2.ToolRun) -> Row:
    return {
        "tool": of.tool,
        "outcome": _word(inference_pb2.ToolOutcome.Name(of.outcome), "TOOL_OUTCOME_"),
        "relevance": of.relevance,
        "seconds": _seconds(of.latency),
        "detail": of.detail,
        "evidence": [_evidence(each) for each in of.evidence],
    }


def _evidence(of: inference_pb2.Evidence) -> Row:
    return {name: getattr(of, name) for name in ("tool", "source", "title", "text", "uri", "score")}


def _optional(of: Any, field: str) -> Any:
    return getattr(of, field) if of.HasField(field) else None


def _word(name: str, prefix: str) -> str:
    """The value of an enum as rows have it: its name, small, "" for none."""
    word = name.removeprefix(prefix).lower()
    return "" if word == "unspecified" else word


def _time(of: Timestamp) -> str:
    return of.ToDatetime().isoformat(timespec="microseconds") + "Z"


def _seconds(of: Duration) -> float:
    return of.seconds + of.nanos / 1e9
