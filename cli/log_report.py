"""Logged replies, drawn for a terminal."""

from collections.abc import Iterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cli.output import Flow, hanging, visible
from cli.reply import panel
from ratchet.v1 import conversation_pb2 as pb
from ratchet.v1 import feedback_pb2

_THUMBS = {
    feedback_pb2.REACTION_TYPE_THUMBS_UP: "👍",
    feedback_pb2.REACTION_TYPE_THUMBS_DOWN: "👎",
    feedback_pb2.REACTION_TYPE_NEUTRAL: "😐",
}


def table(found: Sequence[pb.ConversationSummary]) -> Table:
    """A list of replies: when, score, stars; query, answer and id below each other, the id never cut."""
    drawn = Table(box=None, pad_edge=False, expand=True, header_style="dim", row_styles=[""])
    drawn.add_column("made (UTC)", no_wrap=True, style="dim")
    drawn.add_column("score", justify="right", no_wrap=True)
    drawn.add_column("rated", no_wrap=True)
    drawn.add_column("reply", ratio=1, overflow="fold")
    for each in found:
        score = f"{each.reward_score:.3f}" if each.HasField("reward_score") else "–"
        drawn.add_row(f"{each.create_time.ToDatetime():%m-%d %H:%M:%S}", score, _rated(each), _reply(each))
    return drawn


def story(found: pb.Conversation) -> RenderableType:
    """The whole story of a reply."""
    parts: list[RenderableType] = [Flow(list(_facts(found)), " · ")]
    if found.problem:
        parts.append(hanging(Text("! "), Text(visible(found.problem)), style="yellow"))
    if found.erased:
        parts.append(Text("The user was erased: texts are gone, ids stand for nobody.", style="yellow"))
    parts += _before(found)
    parts.append(panel(found.query, found.reply, verbose=True))
    parts.append(Rule("Feedback", align="left", style="dim"))
    parts += [_feedback(each) for each in found.feedback] or [Text("none", style="dim")]
    return Group(*parts)


def stars(count: int) -> str:
    """As many as were given, of five."""
    return "★" * count + "☆" * (5 - count)


def _rated(each: pb.ConversationSummary) -> str:
    given = f"{each.rating_overall}★" if each.HasField("rating_overall") else ""
    return f"{given} {_THUMBS.get(each.reaction_type, '')}".strip()


def _reply(each: pb.ConversationSummary) -> RenderableType:
    grid = Table.grid()
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row(Text(_line(each.query) or "(erased)", style="bold"))
    grid.add_row(Text(_line(each.response)))
    flags = " ".join(pb.ConversationFlag.Name(flag).removeprefix("CONVERSATION_FLAG_").lower() for flag in each.flags)
    who = "/".join(part for part in (visible(each.user_id), visible(each.session_id)) if part)
    return Group(grid, Flow([part for part in (each.response_id, who, flags) if part], "  "))


def _facts(found: pb.Conversation) -> Iterator[str]:
    yield f"{_moment(found.reply.create_time)}"
    yield f"user {visible(found.user_id)}" if found.user_id else "anonymous"
    if found.session_id:
        yield f"session {visible(found.session_id)}"
    if found.request_id:
        yield f"request {visible(found.request_id)}"
    yield f"arm {visible(found.arm)} ({found.arm_share:.0%} of the traffic)"


def _before(found: pb.Conversation) -> Iterator[RenderableType]:
    """What the prompt held beside the query."""
    known = "  ".join(f"{visible(name)}={visible(value)}" for name, value in sorted(found.user_profile.items()))
    for label, text in (("Profile", known), ("Context", found.context), ("Earlier", found.summary)):
        if text:
            yield hanging(Text(f"{label}  ", style="dim"), Text(visible(text)))
    for turn in found.previous_messages:
        yield hanging(Text("  asked  ", style="dim"), Text(visible(turn.query)))
        yield hanging(Text("  told   ", style="dim"), Text(visible(turn.response), style="dim"))


def _feedback(each: feedback_pb2.Feedback) -> RenderableType:
    kind = feedback_pb2.FeedbackKind.Name(each.kind).removeprefix("FEEDBACK_KIND_").lower().replace("_", " ")
    said = [stars(each.rating_overall)] if each.HasField("rating_overall") else []
    said += [_THUMBS[each.reaction_type]] if each.reaction_type in _THUMBS else []
    said += [f"{field.name} {stars}" for field, stars in each.rating_dimensions.ListFields()]
    if each.safety_category:
        said.append(feedback_pb2.SafetyCategory.Name(each.safety_category).removeprefix("SAFETY_CATEGORY_").lower())
    if each.HasField("preference"):
        said.append(f"candidate {each.preference.chosen_index} over {each.preference.rejected_index}")
    if each.text_feedback:
        said.append(f"“{visible(each.text_feedback)}”")
    state = f"{_moment(each.update_time)}, revision {each.revision}{', withdrawn' if each.withdrawn else ''}"
    text = Text.assemble("  ".join(said), (f"  {state}", "dim"))
    return hanging(Text(f"{kind}  ", style="dim"), text, style="strike" if each.withdrawn else "")


def _line(text: str) -> str:
    return " ".join(visible(text).split())


def _moment(of: Timestamp) -> str:
    return f"{of.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
