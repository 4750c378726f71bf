"""The rules of alerts as a table: how each stands by now."""

from collections.abc import Iterable
from html import escape

from nicegui import ui

from console import alert_words, client, moments, shell
from console.numerals import number
from console.parts import el
from console.words import t
from ratchet.v1 import alert_pb2 as pb

EVERY = 5.0
"""Seconds between two looks."""
_COLUMNS = ("rule", "severity", "value", "fires", "clears", "window", "patience")


class Rules:
    """Every rule with its level and its present value."""

    def __init__(self) -> None:
        el("h2", "section-title", t("alerts.rules"))
        self._room = el("div", "card scroll-x", tabindex="0", role="region", aria_label=t("alerts.rules"))
        self._table: ui.html | None = None
        ui.timer(EVERY, self.load)

    async def load(self) -> None:
        """Shows how they stand."""
        api = client.api()
        try:
            answer = await api.call(api.alerts.ListAlertRules, pb.ListAlertRulesRequest())
        except client.Trouble as trouble:
            if not trouble.away:  # the page says that already
                self._table = None
                shell.trouble(self._room, trouble)
            return
        if self._table is None:
            self._room.clear()
            with self._room:
                self._table = ui.html("", sanitize=False)
        self._table.set_content(_table(answer.rules))


def _table(rules: Iterable[pb.AlertRule]) -> str:
    heads = "".join(f'<th scope="col">{escape(t(f"alerts.{name}"))}</th>' for name in _COLUMNS)
    return (
        f'<table class="table rules"><thead><tr>{heads}</tr></thead><tbody>{"".join(map(_row, rules))}</tbody></table>'
    )


def _row(rule: pb.AlertRule) -> str:
    now = _present(rule)
    cells = (
        alert_words.severity(rule.severity),
        now,
        alert_words.value(rule.rule, rule.threshold),
        alert_words.value(rule.rule, rule.clear_threshold),
        moments.span(rule.window_seconds) if rule.window_seconds else t("alerts.every"),
        alert_words.patience(rule.fire_seconds),
    )
    name, about = alert_words.name(rule.rule), alert_words.about(rule.rule, rule.description)
    named = f"<strong>{escape(name)}</strong><br>{escape(about)}"
    return f'<tr><th scope="row">{named}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'


def _present(rule: pb.AlertRule) -> str:
    if not rule.HasField("value"):
        return t("alerts.too_few", n=number(rule.sample_count))
    return f"{alert_words.value(rule.rule, rule.value)} ({alert_words.samples(rule.sample_count)})"
