"""The list of replies: page by page, with a hint when there are new ones."""

import time
from datetime import UTC, datetime, tzinfo

from nicegui import ui
from nicegui.element import Element

from console import client, moments, parts, shell
from console.logs.filters import PATH, Filters
from console.numerals import number
from console.parts import button, chip, el, icon
from console.words import t
from ratchet.v1 import conversation_pb2 as pb
from ratchet.v1 import feedback_pb2

PAGE = 30
PATIENCE = 30.0
"""Seconds that a page of a search may take."""
LOOKS = 3
"""Pages without a find after which the visitor is asked whether to search on."""
NEWS_EVERY = 5.0
REST = 20.0
"""A look that took long is followed by a rest of so many times as long: an open page must not keep the server busy."""
THUMBS = {
    feedback_pb2.REACTION_TYPE_THUMBS_UP: ("thumb_up", "thumbs_up"),
    feedback_pb2.REACTION_TYPE_THUMBS_DOWN: ("thumb_down", "thumbs_down"),
    feedback_pb2.REACTION_TYPE_NEUTRAL: ("sentiment_neutral", "neutral"),
}
_TONES = {"safety_reported": "bad", "refused": "warn", "degraded": "warn"}
_SEEN_OTHERWISE = "has_feedback"


class Listing:
    """Draws itself where it is made."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._zone: tzinfo = UTC
        self._request = filters.request(datetime.now(UTC))
        self._newest: pb.ConversationSummary | None = None
        self._since = datetime.now(UTC)
        self._rests_until = 0.0
        self._list: Element | None = None
        self._news = el("div", "log-news", role="status")
        self._room = el("div", "stack")
        self._foot = el("div", "log-foot")
        shell.when_ready(self.load)
        shell.on_return(self.load)
        ui.timer(NEWS_EVERY, self._look_for_news, immediate=False)

    async def load(self) -> None:
        """Shows the newest, from the beginning."""
        with self._room:  # whoever asked for it, such as a button, may be gone before the answer comes
            await self._load()

    async def _load(self) -> None:
        self._request = self._filters.request(datetime.now(UTC))
        self._newest, self._list, self._since = None, None, datetime.now(UTC)
        self._news.clear()
        self._foot.clear()
        try:
            with shell.loading(self._room, lines=4):
                self._zone = await moments.zone()
                page = await self._search()
        except client.Trouble as trouble:
            shell.trouble(self._room, trouble, retry=self.load)
            return
        self._room.clear()
        self._show(page)

    async def _search(self) -> pb.ListConversationsResponse:
        """The next page that has something, or the last one that was looked at."""
        api = client.api()
        self._request.page_size = PAGE
        for _ in range(LOOKS):
            page = await api.call(api.conversations.ListConversations, self._request, timeout=PATIENCE)
            self._request.page_token = page.next_page_token
            if page.summaries or not page.next_page_token:
                break
        return page

    def _show(self, page: pb.ListConversationsResponse) -> None:
        if self._list is None and page.summaries:
            self._newest = page.summaries[0]
            with self._room:
                self._list = el("ol", "log-list", aria_label=t("conversations.list"))
        if self._list is not None:
            with self._list:
                for each in page.summaries:
                    _item(each, self._zone)
        self._foot.clear()
        with self._foot:
            self._end(page)

    def _end(self, page: pb.ListConversationsResponse) -> None:
        """What stands below the list: how to go on, or that this is all."""
        since = moments.written(moments.of(page.searched_from), self._zone) if page.HasField("searched_from") else ""
        if page.next_page_token:
            if not page.summaries:
                el("p", "muted", t("conversations.searched", moment=since))
            words = "conversations.more" if page.summaries else "conversations.go_on"
            button(t(words), self._more, symbol="expand_more")
        elif self._list is not None:
            el("p", "muted small", t("conversations.end_text", moment=since) if since else t("conversations.end"))
        else:
            _nothing(self._filters, since)

    async def _more(self) -> None:
        with self._room:
            try:
                with shell.loading(self._foot, lines=2):
                    page = await self._search()
            except client.Trouble as trouble:
                shell.trouble(self._foot, trouble, retry=self._more)
                return
            self._show(page)

    async def _look_for_news(self) -> None:
        """Says so when there are newer replies. The list itself stays: nobody's line moves away while it is read."""
        began = time.monotonic()
        if self._request.until_time.seconds or client.health.away or began < self._rests_until:
            return
        request = self._filters.request(datetime.now(UTC))
        request.page_size = 1
        if self._newest is not None:
            request.from_time.CopyFrom(self._newest.create_time)
        else:
            request.from_time.FromDatetime(self._since)
        api = client.api()
        try:
            found = await api.call(api.conversations.ListConversations, request)
        except client.Trouble:
            return  # the next look may do better
        finally:
            self._rests_until = time.monotonic() + REST * (time.monotonic() - began)
        known = self._newest.response_id if self._newest else ""
        if found.summaries and found.summaries[0].response_id != known and not self._news.default_slot.children:
            with self._news, el("div", "log-news-inside"):
                el("span", text=t("conversations.new"))
                button(t("conversations.show_new"), self.load, symbol="refresh")


def flags_of(summary: pb.ConversationSummary) -> list[str]:
    """The names of its flags."""
    return [pb.ConversationFlag.Name(each).removeprefix("CONVERSATION_FLAG_").lower() for each in summary.flags]


def stars(count: int) -> None:
    """So many of five, drawn and said."""
    with el("span", "log-stars", title=t("conversations.stars", n=count)):
        el("span", text="★" * count + "☆" * (5 - count), aria_hidden="true")
        el("span", "sr-only", t("conversations.stars", n=count))


def thumb(reaction: int) -> None:
    """The thumb, if there is one."""
    if reaction in THUMBS:
        symbol, name = THUMBS[reaction]  # type: ignore[index]  # an enum's value is an int
        with el("span", f"log-thumb {name}", title=t(f"conversations.{name}")):
            icon(symbol)
            el("span", "sr-only", t(f"conversations.{name}"))


def _item(each: pb.ConversationSummary, zone: tzinfo) -> None:
    with el("li"), el("a", "log-item", href=f"{PATH}/{each.response_id}"):
        with el("span", "log-line"):
            el("strong", "log-query", each.query or t("conversations.erased"))
            el("span", "log-time num", moments.written(moments.of(each.create_time), zone))
        el("span", "log-answer", each.response)
        with el("span", "log-facts"):
            score = number(each.reward_score, 3) if each.HasField("reward_score") else t("conversations.no_score")
            el("span", "num", score)
            if each.HasField("rating_overall"):
                stars(each.rating_overall)
            thumb(each.reaction_type)
            for flag in flags_of(each):
                if flag != _SEEN_OTHERWISE:
                    chip(t(f"conversations.{flag}"), _TONES.get(flag, "plain"))  # type: ignore[arg-type]
            el("span", "clip", each.user_id or t("conversations.anonymous"))
            el("span", "clip", each.policy_release)


def _nothing(filters: Filters, since: str) -> None:
    if not filters.given and not filters.text:
        with shell.empty(t("conversations.empty"), t("conversations.empty_text"), icon="forum"):
            parts.link(t("conversations.empty_ask"), "/", classes="btn btn-primary")
        return
    text = t("conversations.nothing_since", moment=since) if since else t("conversations.nothing_text")
    with shell.empty(t("conversations.nothing"), text, icon="search_off"):
        parts.link(t("conversations.clear"), PATH, classes="btn")
