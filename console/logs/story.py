"""The whole story of one reply: who asked what, what it was answered from, how it was chosen, what people thought."""

import uuid
from datetime import UTC, tzinfo

import grpc

from console import client, moments, parts, shell
from console.logs import answers, candidates, opinions
from console.logs.filters import PATH, Filters
from console.markdown import markdown
from console.numerals import number
from console.parts import card, chip, el, link
from console.words import has, t
from ratchet.v1 import conversation_pb2 as pb
from ratchet.v1 import inference_pb2


class StoryPage:
    """Draws itself where it is made."""

    def __init__(self, response_id: str) -> None:
        self._id = response_id
        self._zone: tzinfo = UTC
        link(t("conversations.back"), PATH, symbol="arrow_back", classes="link log-back")
        self._room = el("div", "stack story")
        shell.when_ready(self.load)
        shell.on_return(self.load)

    async def load(self) -> None:
        """Asks for the reply, and shows it."""
        with self._room:  # whoever asked for it, such as a button, may be gone before the answer comes
            await self._load()

    async def _load(self) -> None:
        if not _is_uuid(self._id):
            self._missing()
            return
        api = client.api()
        request = pb.GetConversationRequest(response_id=self._id)
        try:
            with shell.loading(self._room, lines=4):
                self._zone = await moments.zone()
                answer = await api.call(api.conversations.GetConversation, request)
        except client.Trouble as trouble:
            if trouble.code is grpc.StatusCode.NOT_FOUND:
                self._missing()
            else:
                shell.trouble(self._room, trouble, retry=self.load)
            return
        self._room.clear()
        with self._room:
            _draw(answer.conversation, self._zone)

    def _missing(self) -> None:
        self._room.clear()
        with (
            self._room,
            shell.empty(t("conversations.not_found"), t("conversations.not_found_text"), icon="search_off"),
        ):
            link(t("conversations.back"), PATH, classes="btn btn-primary")


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return len(text) == 36


def _draw(found: pb.Conversation, zone: tzinfo) -> None:
    if found.problem:
        el("p", "story-note", found.problem, role="note")
    if found.erased:
        el("p", "story-note", t("conversations.erased_text"), role="note")
    _question(found)
    answers.draw(found.reply)
    opinions.draw(found, zone)
    _facts(found, zone)
    if found.reply.candidates:
        candidates.draw(found.reply)
    if found.reply.tool_runs:
        answers.tools(found.reply)
    if found.reply.latencies:
        _latencies(found.reply)


def _question(found: pb.Conversation) -> None:
    with card("story-card"):
        el("h2", "card-title", t("conversations.question"))
        markdown(found.query or "—", "story-query")
        if found.context:
            _folded(t("conversations.context"), found.context)
        if found.previous_messages or found.summary:
            with el("details", "story-more"):
                el("summary", text=t("conversations.earlier_n", n=len(found.previous_messages)))
                if found.summary:
                    el("p", "muted", found.summary)
                with el("dl", "story-turns"):
                    for turn in found.previous_messages:
                        _turn(turn)
        if found.user_profile:
            with el("div", "row small"):
                el("span", "muted", t("conversations.profile"))
                for name, value in sorted(found.user_profile.items()):
                    chip(f"{name}: {value}")


def _turn(turn: pb.PreviousMessage) -> None:
    for name, text in (("asked", turn.query), ("told", turn.response)):
        el("dt", "muted small", t(f"conversations.{name}"))
        el("dd", "story-text", text)


def _folded(title: str, text: str) -> None:
    with el("details", "story-more"):
        el("summary", text=title)
        el("p", "story-text", text)


def _facts(found: pb.Conversation, zone: tzinfo) -> None:
    """What identifies and places the reply; what others share with it leads to them."""
    reply = found.reply
    seconds = reply.total_latency.ToTimedelta().total_seconds()
    user = Filters(user=found.user_id).address if found.user_id else ""
    session = Filters(user=found.user_id, session=found.session_id).address if found.session_id else ""
    releases = {name: Filters(release=name).address for name in (reply.policy_release, reply.reward_release) if name}
    rows = (
        ("made", moments.written(moments.of(reply.create_time), zone), ""),
        ("took", number(seconds * 1e3, 0, "ms") if seconds else "", ""),
        ("user", found.user_id or t("conversations.anonymous"), user),
        ("session", found.session_id, session),
        ("policy", reply.policy_release, releases.get(reply.policy_release, "")),
        ("reward", reply.reward_release or t("conversations.none"), releases.get(reply.reward_release, "")),
        ("arm", t("conversations.arm_share", arm=found.arm, share=f"{found.arm_share:.0%}"), ""),
        ("method", _method(reply), ""),
        ("seed", str(reply.seed) if reply.seed else "", ""),
        ("id", reply.response_id, ""),
    )
    with card("story-card"):
        el("h2", "card-title", t("conversations.facts"))
        with el("dl", "story-facts"):
            for name, value, address in rows:
                if value:
                    el("dt", text=t(f"conversations.{name}"))
                    with el("dd", "mono" if name in ("id", "seed") else ""):
                        parts.link(value, address) if address else el("span", text=value)


def _method(reply: inference_pb2.GenerateResponse) -> str:
    name = inference_pb2.SelectionMethod.Name(reply.selection_method).removeprefix("SELECTION_METHOD_").lower()
    if reply.refused or not has(f"conversations.{name}"):
        return ""
    share = f"{reply.selection_probability:.0%}"
    return t("conversations.method_share", method=t(f"conversations.{name}"), share=share)


def _latencies(reply: inference_pb2.GenerateResponse) -> None:
    """A bar a stage; the figures stand beside them, so the bars are for the eye only."""
    spent = [(each.stage, each.duration.ToTimedelta().total_seconds()) for each in reply.latencies]
    longest = max(max((seconds for _, seconds in spent), default=0.0), 1e-9)
    with card("story-card"):
        el("h2", "card-title", t("conversations.latencies"))
        with el("table", "story-bars"), el("tbody"):
            for stage, seconds in spent:
                with el("tr"):
                    el("th", "", t(f"live.{stage}") if has(f"live.{stage}") else stage, scope="row")
                    with el("td", "story-bar-room", aria_hidden="true"):
                        el("span", "story-bar").style(f"width:{seconds / longest:.1%}")
                    el("td", "num", number(seconds * 1e3, 1, "ms"))
