"""A feedback, drawn for a terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.output import console, visible

if TYPE_CHECKING:
    from ratchet.v1 import feedback_pb2 as pb

_THUMBS = {1: "👍", 2: "👎", 3: "neutral"}


def show(feedback: "pb.Feedback") -> None:
    """Prints what it says; its id and the reply's have lines of their own, so that they can be copied."""
    from rich.text import Text

    from ratchet.v1 import feedback_pb2 as pb

    kind = pb.FeedbackKind.Name(feedback.kind).removeprefix("FEEDBACK_KIND_").lower().replace("_", " ")
    when = feedback.update_time.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")
    user = visible(feedback.user_id) or "anonymous"
    state = "withdrawn" if feedback.withdrawn else f"revision {feedback.revision}"
    lines = Text.assemble((f"{kind}  ", "bold"), "  ".join(_said(feedback)))
    lines.append(f"\n  {user}, {when}, {state}, {visible(feedback.policy_release)}", style="dim")
    if feedback.text_feedback:
        lines.append("\n  " + visible(feedback.text_feedback).replace("\n", "\n  "))
    lines.append(f"\n  feedback {feedback.feedback_id}\n  response {feedback.response_id}", style="dim")
    if feedback.withdrawn:
        lines.stylize("strike dim", 0, len(lines.plain.partition("\n")[0]))
    console.print(lines, soft_wrap=True)


def _said(feedback: "pb.Feedback") -> Iterator[str]:
    from ratchet.v1 import feedback_pb2 as pb

    if feedback.reaction_type:
        yield _THUMBS.get(feedback.reaction_type, "?")
    if feedback.HasField("rating_overall"):
        yield "★" * feedback.rating_overall + "☆" * (5 - feedback.rating_overall)
    for field, stars in feedback.rating_dimensions.ListFields():
        yield f"{field.name} {stars}/5"
    if feedback.HasField("preference"):
        yield f"{feedback.preference.chosen_index} over {feedback.preference.rejected_index}"
    if feedback.safety_category:
        yield pb.SafetyCategory.Name(feedback.safety_category).removeprefix("SAFETY_CATEGORY_").lower()
