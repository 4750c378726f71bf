"""The frame around every page: navigation, language, appearance, who is asking, and the states that any page may be in.

A page is a module in console/pages with its words in console/words. Nothing else has to be touched:

    from console import client, parts, shell
    from console.words import t

    @shell.page("/live", nav="live", icon="show_chart", order=20)
    async def live() -> None:
        with shell.frame(t("live.title")) as frame:
            with frame.actions:
                parts.button(t("live.pause"), pause, symbol="pause")
            room = parts.el("div", "stack")             # what is drawn again goes into a room of its own

        async def show() -> None:
            api = client.api()
            try:
                with shell.loading(room):                # a quiet placeholder until the block is left
                    answer = await api.call(api.analytics.GetMetrics, pb.GetMetricsRequest())
            except client.Trouble as trouble:
                shell.trouble(room, trouble, retry=show)  # a sentence, and a way on
                return
            room.clear()
            with room:
                if not answer.points:
                    shell.empty(t("live.empty"), t("live.empty_text"), icon="show_chart")
                ...
        shell.when_ready(show)                           # once the browser is there: a page never waits for the server
        shell.on_return(show)                            # and again when the server was away and is back

Rules: text goes into elements as text (`parts.el(tag, text=...)`); what a model or a user wrote and may hold Markdown
goes through `console.markdown.markdown`. Each control has a name. Layout classes are those of
console/assets/style.css: stack, row, grid, card, stat, chip, table, muted, num.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import isawaitable, signature
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi.responses import RedirectResponse
from nicegui import app, ui
from nicegui.element import Element
from nicegui.language import Language

from console import client, preferences, session
from console.parts import button, el, link
from console.parts import icon as draw_icon
from console.words import t

SIGN_IN = "/sign-in"
_LOOK_SECONDS = 1.0
"""How often a page looks whether its visitor is still the one that it was made for."""
_SHOW_WHERE = """
const here = document.querySelector('.nav-link[aria-current]'), side = here?.closest('.side');
if (side) side.scrollLeft = here.offsetLeft - (side.clientWidth - here.offsetWidth) / 2;
"""
"""On a phone there is not room for all pages side by side: the entry of this one is scrolled to."""
_SCHEMES = {"system": "light dark", "light": "light", "dark": "dark"}
_LANGUAGES: dict[str, Language] = {"en": "en-US", "vi": "vi"}
_DARK = {"system": None, "light": False, "dark": True}

Work = Callable[[], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the navigation. `name` is its key in console/words/shell.py; lower `order` comes first."""

    path: str
    name: str
    icon: str
    order: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What a page can fill besides its content. `actions`: beside the title."""

    actions: Element


_entries: dict[str, Entry] = {}
_badges: dict[str, Callable[[Element], None]] = {}
_rules = {"keys": False}


def page(path: str, *, nav: str = "", icon: str = "", order: int = 0) -> Callable[[Callable[..., Any]], Any]:
    """Makes a function a page, and with `nav` an entry of the navigation."""
    if nav:
        _entries[path] = Entry(path, nav, icon, order)

    def register(build: Callable[..., Any]) -> Any:
        @wraps(build)
        async def built(*given: Any, **named: Any) -> Any:
            if _rules["keys"] and not session.key() and path != SIGN_IN:
                wanted = ui.context.client.request.url
                return RedirectResponse(f"{SIGN_IN}?next={quote(f'{wanted.path}?{wanted.query}', safe='')}")
            made = build(*given, **named)
            return await made if isawaitable(made) else made

        built.__signature__ = signature(build)  # type: ignore[attr-defined]
        return _Page(path)(built)

    return register


def badge(path: str) -> Callable[[Callable[[Element], None]], Callable[[Element], None]]:
    """What the function puts into the element that it is given stands beside that page's entry in the navigation."""

    def register(fill: Callable[[Element], None]) -> Callable[[Element], None]:
        _badges[path] = fill
        return fill

    return register


class _Page(ui.page):
    """A page in its visitor's language and appearance."""

    def resolve_dark(self) -> bool | None:
        return _DARK[session.theme()]

    def resolve_language(self) -> Language | None:
        return _LANGUAGES[session.language()]


@contextmanager
def frame(title: str, *, classes: str = "") -> Iterator[Frame]:
    """The page around its content; content goes inside. `classes` are of the content: "narrow" is for reading."""
    ui.page_title(f"{title} · Ratchet")
    ui.add_head_html(f"<style>:root{{color-scheme:{_SCHEMES[session.theme()]}}}</style>")
    ui.colors(
        primary="#0f6b5c",
        secondary="#46605a",
        accent="#0f6b5c",
        positive="#1b7a43",
        negative="#b3261e",
        warning="#9a6200",
        info="#2b6390",
        dark="#171e1c",
        dark_page="#101514",
    )
    _only_one_main()
    _leave_with_visitor()
    ui.run_javascript(_SHOW_WHERE)
    skip = el("a", "skip-link", t("shell.skip"), href="#main")
    skip.on("click", js_handler="() => document.getElementById('main').focus()")
    with el("div", "shell"):
        _side()
        with el("div", "column-main"):
            with el("header", "bar"):
                el("h1", "bar-title", title)
                actions = el("div", "bar-actions")
                preferences.button()
            _away_banner()
            with el("main", f"content {classes}", id="main", tabindex="-1"):
                yield Frame(actions)


def _leave_with_visitor() -> None:
    """A page is left when its visitor signs out, or somebody else signs in, in whichever tab."""
    if not _rules["keys"] or ui.context.client.page.path == SIGN_IN:
        return
    here = session.visitor()

    def look() -> None:
        if session.visitor() != here:
            looking.cancel()
            ui.navigate.reload() if session.key() else ui.navigate.to(SIGN_IN)

    looking = ui.timer(_LOOK_SECONDS, look)


def _only_one_main() -> None:
    """NiceGUI lays every page out in a <main> of its own, navigation and all: it is none to screen readers."""
    slot = ui.context.client.content.parent_slot
    if slot is not None:
        slot.parent.props["role"] = "presentation"


def _side() -> None:
    path = ui.context.client.page.path
    with el("div", "side"):
        with el("a", "brand", href="/"):
            el("img", "brand-mark", src="/assets/icon.svg", alt="", width=28, height=28)
            el("span", "brand-name", "Ratchet")
        with el("nav", "nav", aria_label=t("shell.navigation")), el("ul", "nav-list"):
            for entry in sorted(_entries.values(), key=lambda each: each.order):
                current = "page" if entry.path == path else None
                with el("li"), el("a", "nav-link", href=entry.path, aria_current=current):
                    draw_icon(entry.icon)
                    el("span", "nav-label", t(f"shell.{entry.name}"))
                    if entry.path in _badges:
                        _badges[entry.path](el("span", "nav-badge-room"))


def _away_banner() -> None:
    with el("div", "away", role="status") as banner:
        with el("div", "away-inside") as inside:
            draw_icon("cloud_off")
            el("span", text=t("shell.away"))
        inside.bind_visibility_from(client.health, "away")
    banner.classes("away-room")


def empty(title: str, text: str = "", *, icon: str = "inbox") -> Element:
    """There is nothing to show, and why; gives the room for what can be done about it."""
    with el("div", "state") as made:
        draw_icon(icon, "state-icon")
        el("h2", "state-title", title)
        if text:
            el("p", "state-text", text)
        actions = el("div", "row state-actions")
    made.classes("state-empty")
    return actions


def missing(room: Element, title: str, text: str, back: tuple[str, str]) -> None:
    """Shows in `room` that there is nothing of that name; `back` is where to look instead: words and address."""
    room.clear()
    with room, el("div", "", role="alert"), empty(title, text, icon="search_off"):
        link(*back, classes="btn btn-primary")


def trouble(room: Element, error: client.Trouble, retry: Work | None = None) -> None:
    """Shows in `room` that a call failed, in a sentence, and offers what may help."""
    room.clear()
    with room, el("div", "state state-trouble", role="alert"):
        draw_icon("cloud_off" if error.away else "error_outline", "state-icon")
        el("h2", "state-title", t("trouble.title"))
        el("p", "state-text", error.sentence)
        with el("div", "row state-actions"):
            if error.reason in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
                link(t("trouble.sign_in"), SIGN_IN, classes="btn btn-primary")
            elif retry is not None and not error.unknown_method:
                button(t("trouble.retry"), retry, symbol="refresh")


def placeholder(room: Element, lines: int = 3) -> Element:
    """Shows in `room` that it loads, until it is cleared."""
    room.clear()
    with room, el("div", "loading", role="status") as made:
        el("span", "sr-only", t("shell.loading"))
        for _ in range(lines):
            el("div", "loading-line", aria_hidden="true")
    return made


@contextmanager
def loading(room: Element, lines: int = 3) -> Iterator[None]:
    """Shows a placeholder in `room` while the block runs. What was there before goes; it does not come back."""
    made = placeholder(room, lines)
    try:
        yield
    finally:
        if not made.is_deleted:
            made.delete()


def when_ready(work: Work) -> None:
    """Runs `work` once the page is on the screen."""
    ui.timer(0.01, work, once=True)


def on_return(work: Work) -> None:
    """Runs `work` each time the server was away and answers again."""
    was_away = client.health.away

    async def look() -> None:
        nonlocal was_away
        before, was_away = was_away, client.health.away
        if before and not was_away:
            made = work()
            if made is not None:
                await made

    ui.timer(0.5, look)


async def not_found() -> None:
    """The page for addresses that lead nowhere; registered last."""
    ui.context.client.status_code = 404
    with frame(t("shell.not_found")), empty(t("shell.not_found"), t("shell.not_found_text"), icon="explore_off"):
        link(t("shell.home"), "/", classes="btn btn-primary")


def defect() -> None:
    """The page for our own errors; the log has the trace."""
    with frame(t("shell.defect")):
        empty(t("shell.defect"), t("shell.defect_text"), icon="healing")


def install(*, keys: bool) -> None:
    """What all pages share: style, errors, and with `keys` that their visitor has signed in."""
    _rules["keys"] = keys
    assets = Path(__file__).parent / "assets"
    app.add_static_files("/assets", assets)
    for sheet in sorted(assets.glob("*.css"), key=lambda each: (each.name != "style.css", each.name)):
        stamp = int(sheet.stat().st_mtime)
        ui.add_head_html(f'<link rel="stylesheet" href="/assets/{sheet.name}?{stamp}">', shared=True)
    app.on_page_exception(defect)
