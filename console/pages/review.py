"""The review page: replies that people are asked to judge, one at a time, by click or by key."""

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from console import client, parts, shell
from console.numerals import number
from console.parts import button, el, icon
from console.review.card import Card, said
from console.review.queue import Queue
from console.words import t
from ratchet.v1 import training_pb2 as pb

SHOWN = 8
"""Judgements of this visit that can be taken back one by one."""
_KEYS = """(event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest('input, textarea, select'))
    return;
  const key = event.key.toLowerCase();
  if (!'12345nu'.includes(key)) return;
  event.preventDefault();
  emit(key);
}"""
"""Keys act while the focus is within the page's own part, so that they are in nobody's way (WCAG 2.2, 2.1.4)."""

Next = Callable[[], Awaitable[pb.ReviewItem | None]]


@shell.page("/review", nav="review", icon="rate_review", order=60)
def review(run: str = "") -> None:
    """The page; `run` shows replies of one training run only."""
    with shell.frame(t("review.title")) as frame:
        Review(frame, run)


class Review:
    """One visitor's page."""

    def __init__(self, frame: shell.Frame, training_id: str) -> None:
        self._queue = Queue(training_id)
        self._card: Card | None = None
        self._busy = False
        with frame.actions:
            self._count = el("span", "chip", t("shell.loading"), role="status")
        with el("div", "review stack", tabindex="-1") as self._box:
            with el("div", "row review-bar"):
                el("p", "muted small grow hide-small", t("review.keys"))
                self._said = el("p", "review-said", "", role="status")
            self._room = el("div", "stack")
            self._judged = el("section", "stack", aria_label=t("review.judged"))
        self._box.on("keydown", self._pressed, js_handler=_KEYS)
        shell.when_ready(self.load)
        shell.on_return(self._returned)

    async def load(self) -> None:
        """From the beginning."""
        with self._room:
            try:
                with shell.loading(self._room, lines=4):
                    item = await self._queue.begin()
            except client.Trouble as trouble:
                self._card = None
                shell.trouble(self._room, trouble, retry=self.load)
                return
            self._show(item)

    async def _returned(self) -> None:
        """What somebody is about to judge stays."""
        if self._card is None:
            await self.load()

    async def _pressed(self, event: Any) -> None:
        key = str(event.args)
        if key == "u":
            await self._take_back()
        elif key == "n":
            await self._skip()
        elif self._card is not None:
            await self._card.pick(int(key))

    async def _skip(self) -> None:
        await self._go_on(self._queue.skip)

    async def _take_back(self, item: pb.ReviewItem | None = None) -> None:
        if self._queue.judged:
            await self._go_on(lambda: self._queue.take_back(item), t("review.taken_back"))

    async def _go_on(self, step: Next, sentence: str = "") -> None:
        """Takes a step, one at a time: a key that is pressed twice must not judge the reply after."""
        if self._busy:
            return
        self._busy = True
        try:
            with self._room:
                self._show(await step())
            parts.set_text(self._said, sentence)
        except client.Trouble as trouble:
            await self._failed(trouble)
        finally:
            self._busy = False

    async def _failed(self, trouble: client.Trouble) -> None:
        parts.set_text(self._said, t("review.not_saved") if trouble.away else trouble.sentence)
        self._said.classes(add="review-failed")
        if trouble.code.name == "NOT_FOUND":
            with self._room:
                self._show(await self._queue.next(), keep=True)

    def _show(self, item: pb.ReviewItem | None, *, keep: bool = False) -> None:
        """The reply to judge, or that there is none."""
        if not keep:
            self._said.classes(remove="review-failed")
        parts.set_text(self._count, t("review.count", n=number(self._queue.left)))
        self._room.clear()
        self._card = None
        with self._room:
            if item is None:
                self._show_done()
            else:
                self._card = Card(item, self._judge_of(item), self._skip)
        self._show_judged()
        ui.run_javascript(f"getHtmlElement({self._box.id}).focus({{preventScroll: true}}); scrollTo(0, 0)")

    def _judge_of(self, item: pb.ReviewItem) -> Callable[[int, str], Awaitable[None]]:
        async def judge(stars: int, note: str) -> None:
            await self._go_on(lambda: self._queue.judge(item, stars, note), t("review.said", n=stars))

        return judge

    def _show_done(self) -> None:
        if self._queue.judged:
            with shell.empty(t("review.done"), t("review.done_text"), icon="task_alt"):
                button(t("review.again"), self.load, symbol="refresh")
        else:
            with shell.empty(t("review.empty"), t("review.empty_text"), icon="rate_review"):
                parts.link(t("review.to_training"), "/training", classes="btn btn-primary")

    def _show_judged(self) -> None:
        """What this visitor judged lately, to be taken back."""
        self._judged.clear()
        if not self._queue.judged:
            return
        with self._judged:
            el("h2", "section-title", t("review.judged"))
            with el("ul", "card history"):
                for item in self._queue.judged[: -SHOWN - 1 : -1]:
                    with el("li", "judged-line"):
                        el(
                            "span",
                            "log-stars",
                            "★" * item.label,
                            aria_label=t("review.n_stars", n=item.label),
                            role="img",
                        )
                        with el("span", "judged-words"):
                            el("span", "clip", item.query)
                            el("span", "muted small", said(item))
                        with el(
                            "button",
                            "btn btn-ghost btn-small",
                            type="button",
                            aria_label=f"{t('review.take_back')}: {item.query[:80]}",
                        ).on("click", lambda item=item: self._take_back(item)):
                            icon("undo")
                            el("span", "", t("review.take_back"))
