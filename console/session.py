"""What the console keeps of a visitor: language, theme, name and key. It stays on the console's side; the browser holds
a signed cookie that names the session, and nothing else."""

import hashlib
from typing import Literal

from nicegui import app
from nicegui.storage import request_contextvar

Language = Literal["en", "vi"]
Theme = Literal["system", "light", "dark"]
LANGUAGES: tuple[Language, ...] = ("en", "vi")
THEMES: tuple[Theme, ...] = ("system", "light", "dark")


def language() -> Language:
    """What was chosen, else what the browser prefers of what there is."""
    chosen = _kept("language")
    return chosen if chosen in LANGUAGES else _preferred()


def choose_language(value: Language) -> None:
    """From the next page on."""
    app.storage.user["language"] = value


def theme() -> Theme:
    """Light or dark, or as the system is."""
    chosen = _kept("theme")
    return chosen if chosen in THEMES else "system"


def choose_theme(value: Theme) -> None:
    """Remembers it."""
    app.storage.user["theme"] = value


def user() -> str:
    """In whose name the visitor asks; "" for an anonymous one."""
    return _kept("user")


def choose_user(value: str) -> None:
    """Remembers it."""
    app.storage.user["user"] = value.strip()


def key() -> str:
    """The API key that the visitor signed in with; "" for none."""
    return _kept("key")


def sign_in(value: str, name: str) -> None:
    """Keeps the key, and in whose name it is used."""
    app.storage.user["key"] = value.strip()
    choose_user(name)


def sign_out() -> None:
    """Forgets the key and the name."""
    app.storage.user.pop("key", None)
    app.storage.user.pop("user", None)


def visitor() -> str:
    """Stands for who is there, by key and name, and gives neither away: 64 hexadecimal digits."""
    return hashlib.sha256(f"{key()}\0{user()}".encode(errors="surrogatepass")).hexdigest()


def _kept(name: str) -> str:
    try:
        return str(app.storage.user.get(name, ""))
    except RuntimeError:
        return ""  # outside of a page there is no visitor


def _preferred() -> Language:
    request = request_contextvar.get()  # there while a page is built, while it is sent, and in its handlers
    accepted = request.headers.get("accept-language", "") if request else ""
    for each in accepted.lower().split(","):
        for known in LANGUAGES:
            if each.strip().startswith(known):
                return known
    return "en"
