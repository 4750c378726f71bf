"""Training runs and review items as protobuf messages."""

from __future__ import annotations  # enum value types exist for type checkers only

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import training_pb2 as pb
from server.errors import InvalidRequest, Violation
from server.training.types import Point, ReviewItem, ReviewReason, Run, State, Verdict

_STATES: Mapping[State, pb.TrainingState.ValueType] = {
    state: pb.TrainingState.Value(f"TRAINING_STATE_{state}") for state in State
}
_VERDICTS: Mapping[Verdict | None, pb.TrainingVerdict.ValueType] = {
    verdict: pb.TrainingVerdict.Value(f"TRAINING_VERDICT_{verdict}") for verdict in Verdict
}
_REASONS: Mapping[ReviewReason, pb.ReviewReason.ValueType] = {
    reason: pb.ReviewReason.Value(f"REVIEW_REASON_{reason}") for reason in ReviewReason
}
ASKED_STATES: Mapping[int, State] = {value: state for state, value in _STATES.items()}
"""By the value that a request names."""
MOST_CONFIG_BYTES = 64 << 10


def training_of(run: Run) -> pb.Training:
    """The message of a run."""
    message = pb.Training(
        training_id=str(run.training_id),
        kind=run.kind,
        state=_STATES[run.state],
        stage=run.stage,
        progress=run.progress,
        verdict=_VERDICTS.get(run.verdict, pb.TRAINING_VERDICT_UNSPECIFIED),
        reasons=run.reasons,
        release=run.release,
        compared_with=run.compared_with,
        base_model=run.base_model,
        snapshot=run.snapshot,
        feedback_count=run.feedback_count,
        new_feedback_count=run.new_count,
        metrics=run.metrics,
        requested_by=run.requested_by,
        create_time=_time(run.created_at),
        start_time=_time(run.started_at),
        end_time=_time(run.ended_at),
        error=run.error,
        duplicate_of=str(run.duplicate_of or ""),
        not_reproducible=run.not_reproducible,
        cancelling=run.cancel_requested and not run.state.ended,
        attempts=run.attempts,
    )
    message.config.update(run.config)
    return message


def point_of(point: Point) -> pb.TrainingPoint:
    """The message of a point."""
    return pb.TrainingPoint(step=point.step, values=point.values, time=_time(point.written_at))


def item_of(item: ReviewItem) -> pb.ReviewItem:
    """The message of a review item."""
    return pb.ReviewItem(
        item_id=str(item.item_id),
        training_id=str(item.training_id),
        response_id=str(item.response_id or ""),
        query=item.query,
        context=item.context,
        response=item.response,
        score=item.score,
        rating=item.rating,
        reason=_REASONS[item.reason],
        label=item.label,
        labelled_by=item.labelled_by,
        label_time=_time(item.labelled_at),
        note=item.note,
    )


def settings_of(config: Struct) -> dict[str, Any]:
    """The settings that a request names, still unchecked. Raises InvalidRequest when they are too large."""
    if config.ByteSize() > MOST_CONFIG_BYTES:
        raise InvalidRequest([Violation("config", f"must have {MOST_CONFIG_BYTES >> 10} KiB at most")])
    return {name: _plain(value) for name, value in config.fields.items()}


def _plain(value: Value) -> Any:
    """A value of JSON; unlike google.protobuf.json_format, with NaN and infinity, which the check refuses in words."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: _plain(each) for name, each in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(each) for each in value.list_value.values]
    return getattr(value, kind) if kind and kind != "null_value" else None


def _time(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    found = Timestamp()
    found.FromDatetime(moment)
    return found
