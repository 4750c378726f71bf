"""The dialog in which somebody retires a release."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from console import client, parts
from console.parts import el
from console.words import t
from ratchet.v1 import release_pb2 as pb


class Retiring:
    """A native dialog. `done` looks at the release again."""

    def __init__(self, release: str, done: Callable[[], Awaitable[None]]) -> None:
        self._release, self._done = release, done
        with el("dialog", "dialog", aria_label=t("releases.retire_dialog")) as self._box, parts.form(self._send):
            el("h2", "card-title", t("releases.retire_dialog"))
            el("p", "dialog-what", release)
            el("p", "muted", t("releases.retire_text"))
            self._trouble = el("p", "dialog-trouble", "", role="alert")
            with el("div", "row spread dialog-actions"):
                parts.button(t("releases.keep"), self._close, kind="ghost")
                self._button = parts.button(t("releases.retire"), kind="danger", symbol="archive")
                self._button.props["type"] = "submit"

    def open(self) -> None:
        """Asks."""
        parts.set_text(self._trouble, "")
        ui.run_javascript(f"getHtmlElement({self._box.id}).showModal()")

    async def _send(self) -> None:
        api = client.api()
        parts.busy(self._button, True)
        try:
            await api.call(api.releases.RetireRelease, pb.RetireReleaseRequest(release=self._release))
        except client.Trouble as trouble:
            parts.set_text(self._trouble, trouble.sentence)
            return
        finally:
            parts.busy(self._button, False)
        self._close()
        await self._done()

    def _close(self) -> None:
        ui.run_javascript(f"getHtmlElement({self._box.id}).close()")
