"""The figures that came with a release: what its evaluation found, and how near its variants are to the checkpoint."""

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict

from console import parts
from console.numerals import number, tiny
from console.parts import el
from console.training import outcome
from console.words import t
from ratchet.v1 import release_pb2 as pb


def metrics(release: pb.Release) -> None:
    """The main ones as tiles where they are those of a training run, and all of them as a table."""
    found = MessageToDict(release.metrics)
    with parts.card(aria_label=t("releases.metrics")):
        el("h3", "card-title", t("releases.metrics"))
        if not found:
            el("p", "muted", t("releases.no_metrics"))
            return
        outcome.tiles({name: value for name, value in found.items() if isinstance(value, float)})
        rows = list(flat(found))
        with el("details", "story-more"):
            el("summary", "", t("releases.more_metrics", n=number(len(rows))))
            _table(rows, t("releases.metrics"))


def parity(release: pb.Release) -> None:
    """Exporting changes numbers a little: by how much."""
    rows = list(flat(MessageToDict(release.parity)))
    with parts.card(aria_label=t("releases.parity")):
        el("h3", "card-title", t("releases.parity"))
        if not rows:
            el("p", "muted", t("releases.no_metrics"))
            return
        el("p", "muted small", t("releases.parity_text"))
        _table(rows, t("releases.parity"))


def flat(found: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str]]:
    """Names with points between groups, and values; numbers as the visitor's language writes them."""
    for name, value in sorted(found.items()):
        if isinstance(value, dict):
            yield from flat(value, f"{group}{name}.")
        else:
            yield f"{group}{name}", _written(value)


def _written(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_written, value))
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return number(value)
    if abs(value) < 1e-3:
        return tiny(value)
    return number(value, 4)


def _table(rows: list[tuple[str, str]], name: str) -> None:
    with (
        el("div", "scroll-x", tabindex="0", role="region", aria_label=name),
        el("table", "table settings"),
        el("tbody"),
    ):
        for key, value in rows:
            with el("tr"):
                el("th", "mono", key, scope="row")
                el("td", "num", value)
