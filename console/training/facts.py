"""What went into a run: its data, its base model and its settings."""

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Any

from google.protobuf.json_format import MessageToDict

from console import moments, parts
from console.numerals import number
from console.parts import el
from console.training import outcome, telling
from console.training.findings import Findings
from console.words import t
from ratchet.v1 import training_pb2 as pb

_SHORT = 12
"""Digits of a hash that are shown."""


def data(run: pb.Training, found: Findings, zone: tzinfo) -> None:
    """Where it comes from, and what it was made of."""
    with parts.card(aria_label=t("training.data")):
        el("h3", "card-title", t("training.data"))
        with el("dl", "story-facts"):
            for name, value, title in _facts(run, zone):
                if value:
                    el("dt", "", t(f"training.{name}"))
                    el("dd", "num", value, title=title or None)
        if run.not_reproducible:
            with el("p", "story-note run-note"):
                parts.icon("history_toggle_off")
                el("span", "", t("training.not_reproducible_text"))
        if found.excluded:
            with el("details", "story-more"):
                left_out = sum(each.count for each in found.excluded)
                el("summary", "", t("training.excluded", n=number(left_out)))
                with el("div", "scroll-x", tabindex="0", role="region", aria_label=t("training.excluded_reason")):
                    outcome.exclusions(found.excluded)


def settings(run: pb.Training) -> None:
    """All settings, as resolved."""
    rows = list(_flat(MessageToDict(run.config)))
    if not rows:
        return
    with parts.card(aria_label=t("training.config")), el("details", "story-more"):
        el("summary", "", t("training.config"))
        with (
            el("div", "scroll-x", tabindex="0", role="region", aria_label=t("training.config")),
            el("table", "table settings"),
            el("tbody"),
        ):
            for name, value in rows:
                with el("tr"):
                    el("th", "mono", name, scope="row")
                    el("td", "mono", value)


def _facts(run: pb.Training, zone: tzinfo) -> Iterator[tuple[str, str, str]]:
    """Name, value and tooltip."""
    rows = t("training.rows", n=number(run.feedback_count), new=number(run.new_feedback_count))
    yield "feedback", rows if run.feedback_count else "", ""
    yield "snapshot", run.snapshot[:_SHORT], run.snapshot
    yield "base", run.base_model, ""
    yield "compared_with", run.compared_with, ""
    yield "release", run.release, ""
    yield "asked", f"{moments.written(moments.of(run.create_time), zone)}, {telling.who(run)}", ""
    yield "began", moments.written(moments.of(run.start_time), zone) if run.HasField("start_time") else "", ""
    yield "ended", moments.written(moments.of(run.end_time), zone) if run.HasField("end_time") else "", ""
    yield "took", telling.took(run), ""
    yield "attempts", number(run.attempts) if run.attempts > 1 else "", t("training.attempts_note")
    yield "id", run.training_id, ""


def _flat(config: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str]]:
    """Names as `--set` takes them, with values as JSON writes numbers."""
    for name, value in sorted(config.items()):
        if isinstance(value, dict):
            yield from _flat(value, f"{group}{name}.")
        else:
            whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
            yield (
                f"{group}{name}",
                str(int(value)) if whole else str(value).lower() if value in (True, False) else str(value),
            )
