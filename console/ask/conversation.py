"""One conversation: what was asked and answered, drawn one below the other; asking, stopping, and coming back to it."""

import asyncio
import uuid
from collections.abc import Callable

import grpc
from nicegui import app, background_tasks, ui
from nicegui.element import Element

from console import client, session
from console.ask import history
from console.ask import reply as replies
from console.ask.progress import Progress
from console.ask.votes import Ballot, Votes
from console.parts import button, el
from console.words import t
from ratchet.v1 import inference_pb2 as pb

SECONDS = 90.0
_OPEN = "open question"
"""Where a tab's memory, which ends with it and is on no disk, has the question that is being answered, and whose."""


class Conversation:
    """Draws itself into `room`. `changed` is called when an answer begins or ends to be made."""

    def __init__(self, session_id: str, room: Element, changed: Callable[[], None]) -> None:
        self.session_id, self._room, self._changed = session_id, room, changed
        self._visitor = session.visitor()
        self._asking: asyncio.Task[None] | None = None
        self._again: Callable[[], None] | None = None
        ui.context.client.on_delete(self.stop)

    @property
    def asking(self) -> bool:
        """Whether an answer is being made."""
        return self._asking is not None and not self._asking.done()

    async def restore(self) -> bool:
        """Draws what was said before, and asks again what was not answered when the page was left; gives whether there
        was anything. Raises client.Trouble."""
        said = await history.of(self.session_id, session.user())
        with self._room:
            for each in said:
                _turn(each.query)
                with _answer_room():
                    replies.draw(each.reply, self._ballot(each.reply, Votes().after(each.feedback)))
        open_ = app.storage.tab.pop(_OPEN, None)
        answered = {each.request_id for each in said}
        ours = open_ is not None and (open_["visitor"], open_["session"]) == (self._visitor, self.session_id)
        goes_on = ours and open_["id"] not in answered
        if goes_on:
            self._begin(open_["query"], open_["id"])
        return bool(said) or goes_on

    def go_on(self) -> None:
        """Asks again what failed because the server was away."""
        if self._again is not None and not self.asking:
            self._again()

    def ask(self, query: str) -> None:
        """Asks, and draws the answer as it comes. A question while another is open is none."""
        if not self.asking:
            self._begin(query, str(uuid.uuid4()))

    def stop(self) -> None:
        """Cancels the call: the server stops its work."""
        if self._asking is not None:
            self._asking.cancel()

    def _begin(self, query: str, request_id: str) -> None:
        self._asking = background_tasks.create(self._ask(query, request_id), name="ask", context=self._room)
        self._changed()

    async def _ask(self, query: str, request_id: str) -> None:
        self._again = None
        app.storage.tab[_OPEN] = {
            "visitor": self._visitor,
            "session": self.session_id,
            "id": request_id,
            "query": query,
        }
        _turn(query)
        room = _answer_room()
        _to_the_end()
        try:
            await self._answer(query, request_id, room)
        except client.Trouble as trouble:
            hopeless = trouble.code is grpc.StatusCode.INVALID_ARGUMENT  # the same again would fail again
            again = self._failed(room, trouble.sentence, query, request_id, offer=not hopeless)
            self._again = again if trouble.away else None
        except asyncio.CancelledError:
            if not room.is_deleted:
                self._failed(room, t("ask.stopped"), query, str(uuid.uuid4()))
            raise
        finally:
            self._asking = None
            if not room.is_deleted:
                app.storage.tab.pop(_OPEN, None)
                room.props["aria-busy"] = "false"
                self._changed()
                _to_the_end()

    async def _answer(self, query: str, request_id: str, room: Element) -> None:
        request = pb.GenerateRequest(
            request_id=request_id, user_id=session.user(), session_id=self.session_id, query=query
        )
        with room:
            progress = Progress()
        api = client.api()
        async for event in api.watch(
            api.inference.StreamGenerate, pb.StreamGenerateRequest(request=request), timeout=SECONDS
        ):
            if event.HasField("result"):
                room.clear()
                history.keep(self._visitor, self.session_id, query, event.result)
                with room:
                    replies.draw(event.result, self._ballot(event.result, Votes()))
            else:
                progress.take(event)

    def _failed(
        self, room: Element, sentence: str, query: str, request_id: str, *, offer: bool = True
    ) -> Callable[[], None]:
        """Says so, and may `offer` to ask the same again, which it gives: with the same id, so that an answer that was
        made is found."""

        def again() -> None:
            if self.asking:
                return
            turn.delete()
            room.delete()
            self._begin(query, request_id)

        room.clear()
        siblings = self._room.default_slot.children
        turn = siblings[siblings.index(room) - 1]
        with room, el("div", "row failed"):
            el("span", text=sentence)
            if offer:
                button(t("ask.ask_again"), again, symbol="refresh")
        return again

    def _ballot(self, reply: pb.GenerateResponse, votes: Votes) -> Ballot:
        return Ballot(reply.response_id, session.user(), reply.receipt, votes)


def _turn(query: str) -> None:
    replies.question(query)


def _answer_room() -> Element:
    return el("article", "answer", aria_label=t("ask.answer"))


def _to_the_end() -> None:
    ui.run_javascript("requestAnimationFrame(() => window.scrollTo({top: document.body.scrollHeight}))")
