"""Ask: a chat with the best of N. Its address holds the conversation (`/?c=...`), so that it can be come back to."""

import json
import uuid
from functools import partial
from urllib.parse import quote

from nicegui import ui

from console import client, shell
from console.ask.conversation import Conversation
from console.parts import button, el, icon_button, set_text
from console.words import t

_LONGEST = 65_536
"""Bytes of a question that the server takes."""
_EXAMPLES = ("example_1", "example_2", "example_3")
# More than the longest question is not sent to the console: enough to know that it is too long.
_EMIT = f"emit(document.getElementById('question').value.slice(0, {_LONGEST + 1}))"
_SUBMIT = f"() => {_EMIT}"
_ENTER = f"""(event) => {{
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  {_EMIT};
}}"""
_GROW = (
    "(event) => { const box = event.target; box.style.height = ''; box.style.height = box.scrollHeight + 2 + 'px'; }"
)
_TAKE = """const box = document.getElementById('question'), sent = %s;
if (box.value.startsWith(sent)) box.value = box.value.slice(sent.length);
box.dispatchEvent(new Event('input'));
box.focus();
history.replaceState(null, '', %s);"""
"""What was sent leaves the box; what was typed after it, while that was on its way, stays."""


class _Ask:
    """The page of one visitor."""

    def __init__(self, session_id: str) -> None:
        self._known, self._unrestored = bool(session_id), False
        self._id = session_id or str(uuid.uuid4())
        with shell.frame(t("ask.title"), classes="narrow ask") as frame:
            with frame.actions:
                button(t("ask.new"), self._new, symbol="add", classes="new", aria_label=t("ask.new"))
            self._welcome = el("div", "welcome")
            self._log = el("div", "log", role="log", aria_label=t("ask.conversation"), aria_live="polite")
            self._note = el("p", "muted small note", "", role="status")
            self._conversation = Conversation(self._id, self._log, self._changed)
            self._compose()
        self._draw_welcome()
        self._welcome.set_visibility(not self._known)
        if self._known:
            shell.when_ready(self._restore)
        shell.on_return(self._returned)

    def _compose(self) -> None:
        with el("div", "composer-room"), el("form", "composer") as form:
            self._question = el(
                "textarea",
                "composer-text",
                id="question",
                rows=1,
                placeholder=t("ask.placeholder"),
                aria_label=t("ask.question"),
                aria_description=t("ask.keys"),
                autofocus=True,
            )
            self._send = icon_button(t("ask.send"), "arrow_upward", classes="send")
            self._send.props["type"] = "submit"
            self._stop = icon_button(t("ask.stop"), "stop", self._conversation.stop, "send stop")
        self._stop.set_visibility(False)
        self._question.on("keydown", self._asked, js_handler=_ENTER).on("input", js_handler=_GROW)
        form.on("submit.prevent", self._asked, js_handler=_SUBMIT)

    def _draw_welcome(self) -> None:
        with self._welcome:
            el("h2", "welcome-title", t("ask.welcome"))
            el("p", "muted", t("ask.welcome_text"))
            with el("div", "row examples"):
                for each in _EXAMPLES:
                    text = t(f"ask.{each}")
                    button(text, partial(self._ask, text), classes="example")

    async def _restore(self) -> None:
        try:
            with shell.loading(self._welcome):
                self._welcome.set_visibility(True)
                found = await self._conversation.restore()
                self._unrestored = False
        except client.Trouble as trouble:
            found = False
            self._unrestored = trouble.away
            if trouble.away:
                shell.trouble(self._welcome, trouble, retry=self._restore)
                return
            set_text(self._note, t("ask.history_lost", why=trouble.sentence))
        if not found:
            self._welcome.clear()
            self._draw_welcome()
        self._welcome.set_visibility(not found)

    async def _returned(self) -> None:
        """The server is back: what it did not answer goes on."""
        if self._unrestored:
            await self._restore()
        self._conversation.go_on()

    def _asked(self, event: object) -> None:
        self._ask(str(getattr(event, "args", "")))

    def _ask(self, text: str) -> None:
        if not text.strip() or self._conversation.asking:
            return
        # A character that was cut in half counts too.
        if len(text.encode(errors="replace")) > _LONGEST:
            set_text(self._note, t("ask.too_long"))
            return
        self._welcome.set_visibility(False)
        set_text(self._note, "")
        ui.run_javascript(_TAKE % (json.dumps(text), json.dumps("/?c=" + quote(self._id, safe=""))))
        self._conversation.ask(text.strip())

    def _changed(self) -> None:
        self._send.set_visibility(not self._conversation.asking)
        self._stop.set_visibility(self._conversation.asking)

    def _new(self) -> None:
        ui.navigate.to("/")


@shell.page("/", nav="ask", icon="chat_bubble_outline", order=10)
async def ask(c: str = "") -> None:
    """The page; `c` is the conversation's session id."""
    _Ask(c if _is_id(c) else "")


def _is_id(text: str) -> bool:
    return 0 < len(text) <= 128 and text.isprintable()
