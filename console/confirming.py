"""A question before what can't be taken back: what it does, and two buttons."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from console import client, parts
from console.parts import el
from console.words import t

Act = Callable[[], Awaitable[Callable[[], None]]]
"""Does it, and gives what is to follow once the dialog is shut. Raises Trouble."""


class Confirming:
    """A native dialog. `name`: of the deed among the words of `page`, as in training.cancel; `about`: what it is done
    to; `keep`: the other button's words."""

    def __init__(self, page: str, name: str, act: Act, *, keep: str, symbol: str, about: str = "") -> None:
        self._act = act
        title = t(f"{page}.{name}_dialog")
        with el("dialog", "dialog", aria_label=title) as self._box, parts.form(self._send):
            el("h2", "card-title", title)
            if about:
                el("p", "dialog-what", about)
            el("p", "muted", t(f"{page}.{name}_text"))
            self._trouble = el("p", "dialog-trouble", "", role="alert")
            with el("div", "row spread dialog-actions"):
                parts.button(keep, self._close, kind="ghost")
                self._button = parts.button(t(f"{page}.{name}"), kind="danger", symbol=symbol)
                self._button.props["type"] = "submit"

    def open(self) -> None:
        """Asks."""
        parts.set_text(self._trouble, "")
        ui.run_javascript(f"getHtmlElement({self._box.id}).showModal()")

    async def _send(self) -> None:
        parts.busy(self._button, True)
        try:
            follow = await self._act()
        except client.Trouble as trouble:
            parts.set_text(self._trouble, trouble.sentence)
            return
        finally:
            parts.busy(self._button, False)
        self._close()
        follow()

    def _close(self) -> None:
        ui.run_javascript(f"getHtmlElement({self._box.id}).close()")
