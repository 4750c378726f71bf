"""Sign in: where a visitor leaves an API key. It goes into the session on the console's side, never into a page."""

import unicodedata

from nicegui import ui

from console import client, session, shell
from console.parts import Field, button, el, form, set_text
from console.words import t
from ratchet.v1 import feedback_pb2 as pb

_HOME = "/"


@shell.page(shell.SIGN_IN)
async def sign_in(next: str = _HOME) -> None:  # noqa: A002
    """The page; `next` is where to go on."""
    with shell.frame(t("sign_in.title"), classes="narrow"), el("section", "card sign-in stack"):
        el("p", "muted", t("sign_in.text"))

        async def enter() -> None:
            given, called = key.value.strip(), name.value.strip()
            refusal = await _refusal(given, called) if given else t("sign_in.empty")
            set_text(said, refusal)
            if not refusal:
                session.sign_in(given, called)
                key.value = ""
                ui.navigate.to(next if _is_here(next) else _HOME)

        with form(enter):
            key = Field(
                t("sign_in.key"),
                hint=t("sign_in.hint"),
                type="password",
                autocomplete="current-password",
                maxlength=512,
            )
            name = Field(t("sign_in.user"), session.user(), autocomplete="username", maxlength=128)
            said = el("p", "sign-in-said", "", role="alert")
            button(t("sign_in.go"), kind="primary").props["type"] = "submit"


async def _refusal(key: str, name: str) -> str:
    """Tries the key; "" when it is good, and good for this name. Keys of every role may list feedback, so that what a
    known key is refused is the name."""
    request = pb.ListFeedbackRequest(user_id=name, page_size=1)
    try:
        await client.api().call(client.api().feedback.ListFeedback, request, key=key)
    except client.Trouble as trouble:
        if trouble.reason == "UNAUTHENTICATED":
            return t("sign_in.refused")
        if trouble.reason == "PERMISSION_DENIED":
            return t("sign_in.another") if name else t("sign_in.nameless")
        return "" if trouble.unknown_method else trouble.sentence
    return ""


def _is_here(path: str) -> bool:
    """Whether it is a page of ours: `//elsewhere` and `/\\elsewhere` are not."""
    plain = not any(unicodedata.category(each).startswith("C") for each in path)
    return plain and path.startswith("/") and not path.startswith(("//", "/\\"))
