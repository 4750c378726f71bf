"""Small pieces that pages are made of. Native HTML elements throughout: the browser gives focus, keys and roles."""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

Handler = Callable[[], Awaitable[None] | None]
Kind = Literal["plain", "primary", "ghost", "danger"]
Tone = Literal["plain", "accent", "good", "warn", "bad"]


def el(tag: str, classes: str = "", text: str | None = None, **attributes: Any) -> Element:
    """An HTML element, a context for its children. `aria_label="x"` is the attribute aria-label; None leaves it out.

    `text` is text: nothing in it acts as HTML.
    """
    made = Element(tag) if text is None else TextElement(tag=tag, text=text)
    for name, value in attributes.items():
        if value is not None:
            made.props[name.strip("_").replace("_", "-")] = value
    return made.classes(classes)


def icon(name: str, classes: str = "") -> Element:
    """A Material icon, hidden from screen readers."""
    return ui.icon(name).classes(f"icon {classes}")


def button(
    label: str,
    on_click: Handler | None = None,
    *,
    symbol: str | None = None,
    kind: Kind = "plain",
    classes: str = "",
    **attributes: Any,
) -> Element:
    """A button with words, and an icon before them."""
    with el("button", f"btn btn-{kind} {classes}", type="button", **attributes) as made:
        if symbol:
            icon(symbol)
        el("span", text=label)
    return _on_click(made, on_click)


def icon_button(
    name: str, symbol: str, on_click: Handler | None = None, classes: str = "", **attributes: Any
) -> Element:
    """A button that shows an icon only; `name` is what it is called for screen readers and in its tooltip."""
    with el("button", f"icon-btn {classes}", type="button", aria_label=name, title=name, **attributes) as made:
        icon(symbol)
    return _on_click(made, on_click)


def link(label: str, href: str, *, symbol: str | None = None, classes: str = "link") -> Element:
    """A link to another page of the console."""
    with el("a", classes, href=href) as made:
        if symbol:
            icon(symbol)
        el("span", text=label)
    return made


def chip(text: str, tone: Tone = "plain", *, symbol: str | None = None, title: str | None = None) -> Element:
    """A short fact. Its tone never says anything that its words don't."""
    with el("span", f"chip chip-{tone}", title=title) as made:
        if symbol:
            icon(symbol)
        el("span", text=text)
    return made


def card(classes: str = "", **attributes: Any) -> Element:
    """A surface for what belongs together; a context."""
    return el("section", f"card {classes}", **attributes)


def stat(label: str, value: str, note: str = "", tone: Tone = "plain") -> tuple[TextElement, TextElement]:
    """A figure with its name; gives the elements of value and note, whose `text` can be set."""
    with el("div", f"stat stat-{tone}"):
        el("div", "stat-label", label)
        figure = el("div", "stat-value", value)
        remark = el("div", "stat-note", note)
    assert isinstance(figure, TextElement)
    assert isinstance(remark, TextElement)
    return figure, remark


def choice(
    legend: str, options: Mapping[str, str], value: str, on_change: Callable[[str], Awaitable[None] | None]
) -> Element:
    """One of few, side by side: `options` from value to label."""
    with el("fieldset", "choice") as made:
        el("legend", "choice-legend", legend)
        with el("div", "choice-options"):
            for each, label in options.items():
                with el("label", "choice-option"):
                    radio = el(
                        "input", type="radio", name=f"choice-{made.id}", value=each, checked=each == value or None
                    )
                    el("span", text=label)
                radio.on("change", lambda each=each: on_change(each))
    return made


@contextmanager
def form(on_submit: Handler, classes: str = "") -> Iterator[Element]:
    """Fields that are sent together, by Enter too."""
    with el("form", f"form {classes}") as made:
        yield made
    made.on("submit.prevent", on_submit)


class Field:
    """A field for a line or, with `rows`, several. `value` is what it holds now; setting it changes the field."""

    def __init__(
        self,
        label: str,
        value: str = "",
        *,
        rows: int = 0,
        hidden_label: bool = False,
        hint: str = "",
        **attributes: Any,
    ) -> None:
        self._value = value
        with el("label", "field") as self.box:
            el("span", "sr-only" if hidden_label else "field-label", label)
            self.input = el("textarea" if rows else "input", "field-input", rows=rows or None, **attributes)
            self.input.props["value"] = value
            if hint:
                el("span", "field-hint", hint)
        self.input.on("input", self._note, js_handler="(event) => emit(event.target.value)")

    @property
    def value(self) -> str:
        """What it holds."""
        return self._value

    @value.setter
    def value(self, text: str) -> None:
        self._value = text
        # The element's own value has changed since it was drawn, so that drawing it again would change nothing.
        self.input.props["value"] = text
        ui.run_javascript(f"const field = getHtmlElement({self.input.id}); if (field) field.value = {json.dumps(text)}")

    def _note(self, event: Any) -> None:
        self._value = str(event.args)
        with self.input.props.suspend_updates():
            self.input.props["value"] = self._value


class Select:
    """One of several, in a list that opens: `options` from value to label. `value` is the chosen one's."""

    def __init__(self, label: str, options: Mapping[str, str], value: str, **attributes: Any) -> None:
        self.value = value
        with el("label", "field") as self.box:
            el("span", "field-label", label)
            with el("select", "select", **attributes) as self.input:
                for each, words in options.items():
                    el("option", "", words, value=each, selected=each == value or None)
        self.input.on("change", self._note, js_handler="(event) => emit(event.target.value)")

    def _note(self, event: Any) -> None:
        self.value = str(event.args)


def set_text(element: Element, text: str) -> None:
    """Changes the text of an element that was made with one."""
    assert isinstance(element, TextElement)
    element.text = text


def busy(element: Element, value: bool) -> None:
    """Shows that something is under way, and takes no clicks meanwhile."""
    element.props.set_bool("disabled", value)
    element.props.set_bool("aria-busy", value)


def _on_click(element: Element, handler: Handler | None) -> Element:
    if handler is not None:
        element.on("click", handler)
    return element
