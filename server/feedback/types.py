"""What a feedback says, and what it says after a change. Pure: nothing here does I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class Kind(StrEnum):
    """What a feedback is about; the values of `ratchet.v1.FeedbackKind`. A user has one of each on a reply."""

    RATING = "rating"
    SAFETY_REPORT = "safety_report"
    PREFERENCE = "preference"


class Reaction(StrEnum):
    """A thumb; the values of `ratchet.v1.ReactionType`."""

    THUMBS_UP = "thumbs_up"
    THUMBS_DOWN = "thumbs_down"
    NEUTRAL = "neutral"


class SafetyCategory(StrEnum):
    """What a safety report is about; the values of `ratchet.v1.SafetyCategory`."""

    TOXIC = "toxic"
    DANGEROUS = "dangerous"
    PRIVACY = "privacy"
    MISLEADING = "misleading"
    OTHER = "other"


class Part(StrEnum):
    """A part of a rating that can be cleared: the field of `Opinion` that it empties."""

    RATING_OVERALL = "rating_overall"
    RATING_DIMENSIONS = "rating_dimensions"
    REACTION = "reaction_type"
    TEXT = "text_feedback"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one feedback says. Stars are 1 to 5; the dimensions are accuracy, helpfulness, clarity and safety, those
    that were given; indexes are candidates of the reply."""

    rating_overall: int | None = None
    rating_dimensions: Mapping[str, int] = field(default_factory=dict)
    text_feedback: str = ""
    reaction_type: Reaction | None = None
    safety_category: SafetyCategory | None = None
    chosen_index: int | None = None
    rejected_index: int | None = None

    def after(self, change: "Change") -> "Opinion":
        """This, changed: first the cleared parts go, then what is given takes its place, and the rest stays."""
        empty: dict[str, Any] = {part.value: getattr(_NOTHING, part.value) for part in change.clear}
        cleared = replace(self, **empty)
        given = {name: value for name in _NAMES if (value := getattr(change.says, name)) not in (None, "", {})}
        if "rating_dimensions" in given:
            given["rating_dimensions"] = {**cleared.rating_dimensions, **change.says.rating_dimensions}
        return replace(cleared, **given)


_NOTHING = Opinion()
_NAMES = tuple(each.name for each in fields(Opinion))


@dataclass(frozen=True, slots=True)
class Change:
    """What a user says now. What is unset in it stays as it was, apart from the parts to `clear`."""

    kind: Kind
    says: Opinion
    clear: frozenset[Part] = frozenset()


@dataclass(frozen=True, slots=True)
class Standing:
    """A feedback as it stands. One that was taken back keeps what it said."""

    opinion: Opinion
    withdrawn: bool = False


def following(current: Standing | None, change: Change) -> Standing | None:
    """The feedback after the change; None when there is nothing to write, as it says so already.

    What was taken back is not built upon: who speaks again begins anew. Who clears the last part of a rating takes it
    back.
    """
    stands = current is not None and not current.withdrawn
    before = current.opinion if current is not None and stands else _NOTHING
    after = before.after(change)
    if change.kind is Kind.RATING and after == _NOTHING:
        return Standing(before, withdrawn=True) if stands else None
    if stands and after == before:
        return None
    return Standing(after)


def lesson_weight(kind: Kind, standing: Standing) -> float:
    """What a feedback moves its user's preference vector by, -2 to 2: stars less 3, else a thumb, else the mean of the
    dimensions less 3. Other kinds, and what was taken back, move nothing."""
    says = standing.opinion
    if kind is not Kind.RATING or standing.withdrawn:
        return 0.0
    if says.rating_overall is not None:
        return says.rating_overall - 3.0
    if says.reaction_type is not None:
        return {Reaction.THUMBS_UP: 1.0, Reaction.THUMBS_DOWN: -1.0}.get(says.reaction_type, 0.0)
    given = says.rating_dimensions.values()
    return sum(given) / len(given) - 3.0 if given else 0.0


@dataclass(frozen=True, slots=True)
class GivenReply:
    """A reply as far as feedback on it needs. `logged`: its log row is in Postgres, not only in a spool."""

    tenant_id: str
    response_id: UUID
    user_id: str
    session_id: str
    created_at: datetime
    policy_release: str
    reward_release: str
    logged: bool = True


@dataclass(frozen=True, slots=True)
class Feedback:
    """A row of `feedback_data`, by its columns; what is None there was not given, or is not known yet."""

    feedback_id: UUID
    response_id: UUID
    user_id: str
    session_id: str
    kind: Kind
    rating_overall: int | None
    rating_dimensions: Mapping[str, int]
    text_feedback: str
    reaction_type: Reaction | None
    safety_category: SafetyCategory | None
    chosen_index: int | None
    rejected_index: int | None
    timestamp: datetime
    updated_at: datetime
    revision: int
    withdrawn: bool
    policy_release: str
    reward_release: str
    arm: str | None
    arm_share: float | None
    selection_probability: float | None
    is_training_data: bool
    learned_weight: float

    @property
    def standing(self) -> Standing:
        """What it says."""
        return Standing(Opinion(**{name: getattr(self, name) for name in _NAMES}), self.withdrawn)


class Effect(StrEnum):
    """What a call did to a feedback; labels of metrics."""

    GIVEN = "given"
    EDITED = "edited"
    WITHDRAWN = "withdrawn"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Kept:
    """A feedback as it is now, what the call did to it, and the weight by which its user's preference is still to be
    moved."""

    feedback: Feedback
    effect: Effect
    to_learn: float = 0.0
