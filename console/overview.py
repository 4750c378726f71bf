"""The live page's figures at a glance: a tile each, and a line for each release."""

from html import escape

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from console import figures, firing, parts
from console.figures import Answer
from console.numerals import number, share
from console.parts import el
from console.words import t
from ratchet.v1 import alert_pb2 as pb_alerts
from ratchet.v1 import analytics_pb2 as pb

TILES = ("rate", "latency_tile", "errors", "rating", "feedback", "thumbs_tile", "reports", "alerts")
_COLUMNS = ("release_name", "replies", "rating", "feedback", "thumbs_tile", "p50", "p95", "reward_mean")


class Overview:
    """Built once, shown often."""

    def __init__(self) -> None:
        el("h2", "sr-only", t("live.now"))
        self._tiles: dict[str, tuple[TextElement, TextElement]] = {}
        with el("div", "grid tiles"):
            for name in TILES:
                self._tiles[name] = parts.stat(t(f"live.{name}"), "–")
        self._table: ui.html | None = None
        firing.here().on_change(self._show_alerts)

    def by_release(self) -> None:
        """Makes the table of releases where it is called."""
        with el("section", "card", aria_label=t("live.releases")):
            el("h3", "card-title", t("live.releases"))
            with el("div", "scroll-x", tabindex="0", role="region", aria_label=t("live.releases")):
                self._table = ui.html("", sanitize=False)

    def show(self, answer: Answer) -> None:
        """Puts the newest figures in."""
        total = answer.total
        self._set("rate", figures.rate(answer), 1, note=_replies(total))
        self._set(
            "latency_tile", figures.median(total), unit="ms", note=t("live.latency_note", p95=_ms(figures.slow(total)))
        )
        self._set("errors", share(total.errors, total.calls), 2, "%", _calls(total))
        self._set("rating", figures.mean(total.rating), 2, " ★", t("live.rating_note", n=number(total.rating.count)))
        self._set("feedback", share(total.rated_replies, total.replies), 1, "%", _rated(total))
        self._set("thumbs_tile", figures.thumbs_up(total), unit="%", note=_thumbs(total))
        self._set("reports", total.safety_reports, note=_rest(total))
        if self._table is not None:
            self._table.set_content(_table(answer))

    def _set(self, tile: str, value: float | None, digits: int = 0, unit: str = "", note: str = "") -> None:
        figure, remark = self._tiles[tile]
        figure.text, remark.text = _told(value, digits, unit), note

    def _show_alerts(self) -> None:
        alerts = firing.here().alerts.values()
        critical = sum(alert.severity == pb_alerts.ALERT_SEVERITY_CRITICAL for alert in alerts)
        self._set("alerts", len(alerts), note=t("live.alerts_note", n=number(critical)))


def _told(value: float | None, digits: int = 0, unit: str = "") -> str:
    return "–" if value is None else number(value, digits, unit)


def _ms(value: float | None) -> str:
    return _told(value, unit="ms")


def _replies(total: pb.Metrics) -> str:
    return t("live.rate_note", n=number(total.replies), degraded=number(total.degraded))


def _calls(total: pb.Metrics) -> str:
    if not total.calls:
        return t("live.errors_all")
    return t("live.errors_note", errors=number(total.errors), calls=number(total.calls))


def _rated(total: pb.Metrics) -> str:
    return t("live.feedback_note", rated=number(total.rated_replies), n=number(total.replies))


def _thumbs(total: pb.Metrics) -> str:
    kinds = {"up": total.thumbs_up, "down": total.thumbs_down, "neutral": total.thumbs_neutral}
    return t("live.thumbs_note", **{name: number(count) for name, count in kinds.items()})


def _rest(total: pb.Metrics) -> str:
    return t("live.reports_note", comments=number(total.comments), preferences=number(total.preferences))


def _table(answer: Answer) -> str:
    heads = "".join(f'<th scope="col">{escape(t(f"live.{name}"))}</th>' for name in _COLUMNS)
    rows = "".join(_row(each) for each in answer.releases)
    return f'<table class="table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _row(each: pb.ReleaseMetrics) -> str:
    total = each.total
    cells = (
        number(total.replies),
        _told(figures.mean(total.rating), 2, " ★"),
        _told(share(total.rated_replies, total.replies), 1, "%"),
        _told(figures.thumbs_up(total), 0, "%"),
        _ms(figures.median(total)),
        _ms(figures.slow(total)),
        _told(figures.mean(total.reward), 3),
    )
    written = "".join(f'<td class="num">{escape(cell)}</td>' for cell in cells)
    return f'<tr><th scope="row">{escape(each.release)}</th>{written}</tr>'
