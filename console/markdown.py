"""What a model or a user wrote, as elements: Markdown without HTML, without images, with links that give nothing away.

Its HTML is made by markdown-it with raw HTML off: what looks like a tag is shown as text, and links to other schemes
than http, https and mailto are none. Images would be fetched from elsewhere, so they are left as their text.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from nicegui import ui
from nicegui.element import Element

_LIMIT = 200_000
"""Characters that are rendered; the rest of a longer text is left out, and said to be."""
_SCHEMES = ("http://", "https://", "mailto:")


def markdown(text: str, classes: str = "") -> Element:
    """An element that shows `text`."""
    return ui.html(to_html(text), sanitize=False).classes(f"prose {classes}")


def to_html(text: str) -> str:
    """Safe HTML, whatever `text` is."""
    shown = text if len(text) <= _LIMIT else f"{text[:_LIMIT]}…"
    return str(_renderer().render(shown))


@cache
def _renderer() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 20})
    made.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    made.validateLink = lambda url: url.strip().lower().startswith(_SCHEMES)  # type: ignore[method-assign]
    made.add_render_rule("link_open", _link)
    return made


def _link(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow ugc")
    tokens[index].attrSet("target", "_blank")
    return self.renderToken(tokens, index, options, env)
