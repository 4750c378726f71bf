"""The report as one HTML page. The template is `page.html`, its look `page.css`; both are put into the page itself."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from trainer.data.records import ASPECTS
from trainer.reward import plots, wording
from trainer.reward.findings import Estimate, Outcome, Raters, Report, Served

HOME: Final = Path(__file__).parent
TITLES: Final[Mapping[Outcome, str]] = {
    Outcome.BETTER: "Better",
    Outcome.NOT_BETTER: "Not better",
    Outcome.TOO_LITTLE_DATA: "Too little data",
}
CLAUSES: Final[Mapping[str, str]] = {
    "data": "Enough data",
    "chance": "Better than chance",
    "not_inferior": "Not inferior",
    "better": "Better",
    "longest": "Ahead of length",
    "tfidf": "Ahead of TF-IDF",
    "groups": "No group worse",
    "calibrated": "Calibrated",
}
LABELS: Final[Mapping[str, str]] = {
    "worse_longer": "the worse is longer",
    "worse_shorter": "the worse is shorter",
    "worse_refuses": "the worse refuses",
    "better_refuses": "the better refuses",
    "numbers": "numbers without evidence",
    "language": "another language",
    "unsafe": "reported as unsafe",
    "raters_disagree": "raters disagree",
    "both_good": "both good",
    "both_bad": "both bad",
    "near": "nearly equal",
    **{f"aspect_{name}": f"{name} says otherwise" for name in ASPECTS},
}
"""Categories of mistakes, in a word or two."""
WIDTH: Final = 120
"""Of an interval drawn in a table, in pixels."""


def render(report: Report) -> str:
    """The page. Every text is escaped; only drawings of our own and the style are put in as they are."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Callable[..., str]] = {
        "share": _share,
        "signed": _signed,
        "number": _number,
        "residual": _residual,
        "setting": _setting,
        "figure": _figure,
        "words": _words,
    }
    environment.filters |= filters
    page = environment.from_string((HOME / "page.html").read_text("utf-8"))
    return page.render(
        report=report,
        style=Markup((HOME / "page.css").read_text("utf-8")),  # noqa: S704 - our own file
        plots=_plots(report),
        titles=TITLES,
        clauses=CLAUSES,
        labels=LABELS,
        settings=_settings(report.about.config),
        served=_served(report.served),
        raters=_raters(report.data.raters),
        drawn=_drawn,
        floor=_floor(report),
    )


def _plots(report: Report) -> dict[str, Markup]:
    drawn = {
        "losses": plots.losses(report.points),
        "parts": plots.parts(report.points),
        "rates": plots.rates(report.points),
        "gradients": plots.gradients(report.points),
        "reliability": plots.reliability(report.calibration),
        "histogram": plots.histogram(report.calibration),
        "comparison": plots.comparison(report.ranking, report.baselines),
    }
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704 - matplotlib escapes texts


def _drawn(estimate: Estimate | None, lowest: float, highest: float, middle: float) -> Markup:
    """An interval as a small drawing: a line from low to high, a dot at the value, a mark at `middle`."""
    if estimate is None or estimate.value is None:
        return Markup("")

    def at(value: float) -> float:
        return round(4 + (WIDTH - 8) * min(1.0, max(0.0, (value - lowest) / (highest - lowest))), 1)

    low = at(estimate.low if estimate.low is not None else estimate.value)
    high = at(estimate.high if estimate.high is not None else estimate.value)
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="whisker" viewBox="0 0 {WIDTH} 16" width="{WIDTH}" height="16" aria-hidden="true">'
        f'<line class="axis" x1="4" x2="{WIDTH - 4}" y1="8" y2="8"/>'
        f'<line class="middle" x1="{at(middle)}" x2="{at(middle)}" y1="2" y2="14"/>'
        f'<line class="range" x1="{low}" x2="{high}" y1="8" y2="8"/>'
        f'<circle class="value" cx="{at(estimate.value)}" cy="8" r="3.5"/></svg>'
    )


def _floor(report: Report) -> float:
    """Where the axis of accuracies begins: below every group, at most at a half."""
    found = [0.5]
    for group in report.groups:
        found += [each for each in (group.accuracy.low, group.accuracy.value) if each is not None and not group.small]
    return max(0.0, min(found) - 0.05)


def _share(value: float | None) -> str:
    return "–" if value is None else wording.share(value)


def _signed(value: float | None) -> str:
    return "–" if value is None else wording.signed(value)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _residual(value: float | None) -> str:
    if value is None:
        return "–"
    rounded = round(value, 3)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.3f}"


def _figure(value: float, name: str) -> str:
    """A figure of the training: bytes in GiB."""
    return f"{value / 2**30:.2f} GiB" if name.endswith("_bytes") else f"{value:,.6g}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _served(served: Served | None) -> str:
    if served is None:
        return ""
    refused, trained = served.refused_int8_accuracy, wording.share(served.trained_accuracy)
    why = "" if refused is None else f" (int8 had only {wording.share(refused)} of the pairs right)"
    judged = f"the release as it would be served, in {served.precision}{why}"
    if served.precision == "fp16":
        judged = "the release's graph in fp32 (GPUs serve the one in fp16, which ranks alike)"
    return f"What was judged is {judged}: as it was trained, the model has {trained}. "


def _raters(raters: Raters | None) -> list[tuple[str, str]]:
    """What is known of them, in words and figures; empty where nobody is known."""
    if raters is None or not raters.count:
        return []
    found = [("raters who are somebody", f"{raters.count:,}"), ("their judgements", f"{raters.judgements:,}")]
    found += [(f"left out: {_words(reason)}", f"{count:,}") for reason, count in raters.left_out.items()]
    found += [("trusted by less than a half", f"{raters.distrusted:,}"), ("mean trust", _number(raters.trust, 2))]
    found += [("how far their scales differ (stars)", _number(raters.scales and 4 * raters.scales, 2))]
    if raters.attentive is not None:
        found += [("attentive, as far as agreement tells", wording.share(raters.attentive))]
        found += [("their agreement (Fisher’s z)", _number(raters.agreement, 2))]
    return found


def _settings(config: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """The settings in one list: ("train.learning_rate", 2e-05)."""
    found: list[tuple[str, object]] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            found += _settings(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value in ("", None) else str(value)
