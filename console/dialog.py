"""The dialog in which people are asked something: the browser's own, which keeps the focus inside; Escape closes it."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from console import client, parts
from console.parts import Kind, el

Send = Callable[[], Awaitable[Callable[[], object]]]
"""Does what was asked for, and gives what is to follow once the dialog is shut: a dialog that shuts gives the keyboard
back to whom it had it from. Raises Trouble, or ValueError with a sentence."""
_KEPT_OPEN = """(event) => {
    if (event.target.querySelector('[aria-busy="true"]')) event.target.showModal();
}"""
"""Escape can be held back once only, by the rules of browsers."""


class Dialog:
    """What it holds is made in its `body`; `offer` gives it its buttons. It stays open until what was asked for is done
    or has failed, so that the outcome is seen where it was asked for."""

    def __init__(self, send: Send, title: str = "", *, wide: bool = False) -> None:
        self._send = send
        with el("dialog", "dialog", aria_label=title or None) as self._box, parts.form(self._submit):
            self._title = el("h2", "card-title", title)
            self.body = el("div", "dialog-body")
            self._trouble = el("p", "dialog-trouble", "", role="alert")
            self._actions = el("div", "row spread dialog-actions")
        self._box.on("close", js_handler=_KEPT_OPEN)
        if wide:
            self._box.classes("dialog-wide")

    def offer(self, keep: str, do: str, *, kind: Kind = "primary", symbol: str) -> None:
        """One button that closes it, and one that does what was asked for."""
        self._actions.clear()
        with self._actions:
            self._keep = parts.button(keep, self.close, kind="ghost")
            self._button = parts.button(do, kind=kind, symbol=symbol)
            self._button.props["type"] = "submit"

    def allow(self, allowed: bool) -> None:
        """Whether it can be done now."""
        self._button.props.set_bool("disabled", not allowed)

    def open(self, title: str = "") -> None:
        """Asks; under another title, if one is given."""
        if title:
            self._box.props["aria-label"] = title
            parts.set_text(self._title, title)
        self.say("")
        ui.run_javascript(f"getHtmlElement({self._box.id}).showModal()")

    def close(self) -> None:
        """Asks no longer."""
        ui.run_javascript(f"getHtmlElement({self._box.id}).close()")

    def say(self, sentence: str) -> None:
        """What is wrong; empty: nothing."""
        parts.set_text(self._trouble, sentence)

    async def _submit(self) -> None:
        self.say("")
        self._keep.props.set_bool("disabled", True)
        parts.busy(self._button, True)
        try:
            follow = await self._send()
        except client.Trouble as trouble:
            self.say(trouble.sentence)
            return
        except ValueError as error:
            self.say(str(error))
            return
        finally:
            parts.busy(self._button, False)
            self._keep.props.set_bool("disabled", False)
        self.close()
        follow()
