"""The message of a feedback: the one place that makes it."""

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import feedback_pb2 as pb


def message_of(row: Mapping[str, Any]) -> pb.Feedback:
    """The message of a row of `feedback_data`, by column name. What is NULL, and ids that nobody has, stay unset."""
    created, updated = Timestamp(), Timestamp()
    created.FromDatetime(row["timestamp"])
    updated.FromDatetime(row["updated_at"])
    found = pb.Feedback(
        feedback_id=str(row["feedback_id"]),
        kind=pb.FeedbackKind.Value(f"FEEDBACK_KIND_{row['kind'].upper()}"),
        response_id=str(row["response_id"]),
        user_id=row["user_id"],
        session_id=row["session_id"],
        rating_overall=row["rating_overall"],
        rating_dimensions=pb.RatingDimensions(**_dimensions(row["rating_dimensions"])),
        reaction_type=pb.ReactionType.Value(f"REACTION_TYPE_{(row['reaction_type'] or 'unspecified').upper()}"),
        text_feedback=row["text_feedback"],
        revision=row["revision"],
        withdrawn=row["withdrawn"],
        create_time=created,
        update_time=updated,
        policy_release=row["policy_release"],
        reward_release=row["reward_release"],
        arm=row["arm"] or "",
        arm_share=row["arm_share"] or 0.0,
        selection_probability=row["selection_probability"] or 0.0,
        is_training_data=row["is_training_data"],
        safety_category=pb.SafetyCategory.Value(f"SAFETY_CATEGORY_{(row['safety_category'] or 'unspecified').upper()}"),
    )
    if row["chosen_index"] is not None:
        found.preference.chosen_index, found.preference.rejected_index = row["chosen_index"], row["rejected_index"]
    return found


def _dimensions(kept: str | Mapping[str, int]) -> Mapping[str, int]:
    """The dimensions that were given; asyncpg hands jsonb on as text."""
    given: Mapping[str, int] = json.loads(kept) if isinstance(kept, str) else kept
    return {name: stars for name, stars in given.items() if stars is not None}
