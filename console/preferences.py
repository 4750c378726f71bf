"""Language, appearance and name of the visitor, behind one button at the top of each page."""

from typing import cast

from nicegui import ui

from console import session
from console.parts import Field, choice, el, form, icon, icon_button
from console.parts import button as a_button
from console.words import t

_SCHEMES = {"system": "light dark", "light": "light", "dark": "dark"}


def button() -> None:
    """The button and what it opens. Its own Escape, its own focus: a native popover."""
    with el(
        "button", "icon-btn who", type="button", aria_label=t("shell.preferences"), title=t("shell.preferences")
    ) as opener:
        icon("tune")
        el("span", "who-name", session.user() or t("shell.anonymous"))
    with el("div", "popover", popover="auto", role="dialog", aria_label=t("shell.preferences")) as box:
        _identity()
        choice(
            t("shell.language"),
            {each: t(f"shell.{each}") for each in session.LANGUAGES},
            session.language(),
            _choose_language,
        )
        choice(t("shell.theme"), {each: t(f"shell.{each}") for each in session.THEMES}, session.theme(), _choose_theme)
    opener.props["popovertarget"] = box.html_id


def _identity() -> None:
    def save() -> None:
        session.choose_user(name.value)
        if ui.context.client.page.path == "/":
            ui.navigate.to("/")  # the conversation was the other one's
        else:
            ui.navigate.reload()

    with form(save):
        name = Field(
            t("shell.user"),
            session.user(),
            hint=t("shell.user_hint"),
            name="user",
            autocomplete="username",
            maxlength=128,
        )
        a_button(t("shell.save"), kind="primary").props["type"] = "submit"
    if session.key():
        with el("div", "row spread"):
            el("span", "muted", t("shell.signed_in"))
            icon_button(t("shell.sign_out"), "logout", _sign_out)


def _sign_out() -> None:
    session.sign_out()
    ui.navigate.to("/sign-in")


def _choose_language(value: str) -> None:
    session.choose_language(cast("session.Language", value))
    ui.navigate.reload()


def _choose_theme(value: str) -> None:
    session.choose_theme(cast("session.Theme", value))
    ui.run_javascript(
        f"document.documentElement.style.colorScheme = {_SCHEMES[value]!r};"
        f"setDark({ {'system': 'null', 'light': 'false', 'dark': 'true'}[value] })"
    )
