"""What people said about a logged reply, as it stands now."""

from datetime import tzinfo

from console import moments
from console.logs.listing import stars, thumb
from console.parts import card, chip, el
from console.words import has, t
from ratchet.v1 import conversation_pb2 as pb
from ratchet.v1 import feedback_pb2

_DIMENSIONS = ("accuracy", "helpfulness", "clarity", "safety")


def draw(found: pb.Conversation, zone: tzinfo) -> None:
    """All feedback on it."""
    with card("story-card"):
        el("h2", "card-title", t("conversations.feedback"))
        if not found.feedback:
            el("p", "muted", t("conversations.no_feedback"))
        for each in found.feedback:
            _one(each, zone)


def _one(each: feedback_pb2.Feedback, zone: tzinfo) -> None:
    kind = feedback_pb2.FeedbackKind.Name(each.kind).removeprefix("FEEDBACK_KIND_").lower()
    with el("div", f"story-opinion {'withdrawn' if each.withdrawn else ''}"):
        with el("div", "row"):
            name = f"conversations.kind_{kind}"
            el("strong", text=t(name) if has(name) else kind)
            if each.HasField("rating_overall"):
                stars(each.rating_overall)
            thumb(each.reaction_type)
            if each.safety_category:
                chip(_category(each.safety_category), "bad")
            if each.withdrawn:
                chip(t("conversations.withdrawn"), "warn")
            if each.is_training_data:
                chip(t("conversations.in_training"))
        if each.HasField("preference"):
            better, worse = each.preference.chosen_index + 1, each.preference.rejected_index + 1
            el("p", text=t("conversations.better", better=better, worse=worse))
        _dimensions(each.rating_dimensions)
        if each.text_feedback:
            el("blockquote", "story-text", each.text_feedback)
        el("p", "muted small", _when(each, zone))


def _dimensions(given: feedback_pb2.RatingDimensions) -> None:
    names = [name for name in _DIMENSIONS if given.HasField(name)]  # type: ignore[arg-type]
    if names:
        with el("dl", "story-aspects"):
            for name in names:
                el("dt", text=t(f"conversations.{name}"))
                with el("dd"):
                    stars(getattr(given, name))


def _category(category: "feedback_pb2.SafetyCategory.ValueType") -> str:
    name = feedback_pb2.SafetyCategory.Name(category).removeprefix("SAFETY_CATEGORY_").lower()
    return t(f"conversations.{name}")


def _when(each: feedback_pb2.Feedback, zone: tzinfo) -> str:
    first = moments.written(moments.of(each.create_time), zone)
    if each.revision <= 1:
        return t("conversations.first_said", moment=first)
    changed = moments.written(moments.of(each.update_time), zone)
    return t("conversations.changed", first=first, moment=changed, n=each.revision)
