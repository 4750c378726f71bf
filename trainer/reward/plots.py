"""The report's plots as inline SVG: curves of training, reliability, comparisons.

Colours are the page's CSS variables, so that one drawing serves light and dark; texts stay texts. The SVG holds nothing
that is fetched: no document type, no metadata, no links but to its own parts.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trainer.reward.findings import Calibration, Compared, Estimate, Ranking, Reliability

INK: Final = "#0a0a01"
MUTED: Final = "#0a0a02"
LINE: Final = "#0a0a03"
FIRST: Final = "#0a0a04"
SECOND: Final = "#0a0a05"
THIRD: Final = "#0a0a06"
FOURTH: Final = "#0a0a07"
VARIABLES: Final[Mapping[str, str]] = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    FIRST: "first",
    SECOND: "second",
    THIRD: "third",
    FOURTH: "fourth",
}
"""Colours that stand for variables of the page."""
SIZE: Final = (3.6, 2.35)
"""Inches, at 100 px each: a phone shows a plot as large as a desktop does."""
_COLOUR: Final = re.compile("|".join(VARIABLES))
_OWN_ID: Final = re.compile(r'(\bid="|href="#|url\(#)')
_NAMESPACE: Final = re.compile(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"')
_TYPEFACE: Final = re.compile(r"font-family: [^;\"]*;? ?")
_STYLE: Final = re.compile(r"<defs>\s*<style.*?</defs>", re.DOTALL)
_LABELS: Final[Mapping[str, str]] = {
    "loss": "loss",
    "validation_loss": "validation loss",
    "mse_loss": "MSE",
    "ranking_loss": "ranking",
    "aspect_loss": "aspects",
}
Points = Sequence[Mapping[str, float]]


def losses(points: Points) -> str:
    """The training loss, smoothed, and the validation loss at the end of each epoch. "" without points."""
    return _curves("losses", points, ("loss", "validation_loss"), "The loss of training and of validation by step")


def parts(points: Points) -> str:
    """What the loss is made of."""
    return _curves("parts", points, ("mse_loss", "ranking_loss", "aspect_loss"), "The parts of the loss by step")


def rates(points: Points) -> str:
    """The learning rate."""
    return _curves("rates", points, ("learning_rate",), "The learning rate by step", smooth=False)


def gradients(points: Points) -> str:
    """The gradient's norm before clipping."""
    return _curves("gradients", points, ("gradient_norm",), "The norm of the gradient by step")


def reliability(calibration: Calibration) -> str:
    """Mean rating by mean score, before and after; the straight line is where scores mean what they say."""
    if not calibration.after.bins:
        return ""
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="perfect")
    _bins(axes, calibration.before, SECOND, "temperature 1", marker="s")
    _bins(axes, calibration.after, FIRST, f"temperature {calibration.temperature:.2f}")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="rating")
    _legend(axes, loc="upper left")
    return _svg(figure, "reliability", "Mean rating by mean score, before and after calibration")


def histogram(calibration: Calibration) -> str:
    """How many responses have which score."""
    bins = calibration.after.bins
    if len(bins) < 2:
        return ""
    figure, axes = _figure()
    total = sum(each.count for each in bins)
    cumulated, shares = 0, []
    for each in bins:
        shares.append((cumulated + each.count / 2) / total)
        cumulated += each.count
    axes.plot([each.score for each in bins], shares, color=FIRST, linewidth=2, marker="o", markersize=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="share of responses below")
    return _svg(figure, "histogram", "The share of responses below each score")


def comparison(ranking: Ranking, baselines: Sequence[Compared]) -> str:
    """Pairwise accuracy of the new model and of each baseline, of all pairs and of those of similar length."""
    rows = [("this model", ranking), *((each.label, each.ranking) for each in baselines)]
    if ranking.accuracy.value is None:
        return ""
    figure, axes = _figure(height=0.75 + 0.48 * len(rows))
    for index, (_, each) in enumerate(rows):
        _whisker(axes, each.accuracy, index - 0.12, FIRST, "all pairs" if not index else None)
        _whisker(axes, each.similar, index + 0.2, SECOND, "similar length" if not index else None, marker="s")
    axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [_short(name) for name, _ in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(axis="y", visible=False)
    _legend(axes, loc="upper center", bbox_to_anchor=(0.4, -0.3 / (0.4 * len(rows))), ncols=2)
    return _svg(figure, "comparison", "Pairwise accuracy of this model and of the baselines")


def _bins(axes: Any, found: Reliability, colour: str, label: str, marker: str = "o") -> None:
    scores, ratings = [each.score for each in found.bins], [each.rating for each in found.bins]
    low = [each.rating - each.low if each.low is not None else 0.0 for each in found.bins]
    axes.errorbar(
        scores, ratings, yerr=low, color=colour, marker=marker, markersize=4, linewidth=1.6, elinewidth=1, label=label
    )


def _whisker(axes: Any, estimate: Estimate, at: float, colour: str, label: str | None, marker: str = "o") -> None:
    if estimate.value is None:
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [at, at], color=colour, linewidth=2.2, alpha=0.45)
    axes.plot([estimate.value], [at], color=colour, marker=marker, markersize=5, linestyle="none", label=label)


def _curves(name: str, points: Points, keys: Sequence[str], title: str, *, smooth: bool = True) -> str:
    found = {key: [(point["step"], point[key]) for point in points if key in point and "step" in point] for key in keys}
    found = {key: each for key, each in found.items() if len(each) > 1 and any(value for _, value in each)}
    if not found:
        return ""
    figure, axes = _figure()
    for (key, each), colour in zip(found.items(), (FIRST, SECOND, THIRD, FOURTH), strict=False):
        steps, values = [step for step, _ in each], [value for _, value in each]
        sparse = key.startswith("validation")
        if smooth and not sparse:
            axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.25)
            values = _smoothed(values)
        axes.plot(
            steps,
            values,
            color=colour,
            linewidth=1.8,
            marker="o" if sparse else "",
            markersize=4,
            label=_LABELS.get(key),
        )
    axes.set(xlabel="step")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useMathText=True)
    if len(found) > 1:
        _legend(axes, loc="best")
    return _svg(figure, name, title)


def _smoothed(values: Sequence[float], keep: float = 0.9) -> list[float]:
    """The exponential mean, as TensorBoard draws it: corrected for its beginning."""
    mean, weight, found = 0.0, 0.0, []
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        found.append(mean / weight)
    return found


def _figure(height: float = SIZE[1]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0], height), dpi=100, layout="constrained")
    axes = figure.subplots()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.tick_params(colors=MUTED, labelsize=8, length=0, pad=4)
    axes.xaxis.label.set(color=MUTED, size=8.5)
    axes.yaxis.label.set(color=MUTED, size=8.5)
    axes.yaxis.get_offset_text().set(color=MUTED, size=8)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)
    return figure, axes


def _legend(axes: Any, **options: Any) -> None:
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4, **options)


def _short(name: str) -> str:
    """A name that fits beside a plot; "$" would begin a formula."""
    short = {"TF-IDF and logistic regression": "TF-IDF", "the release in service": "in service"}.get(name, name[:18])
    return short.replace("$", r"\$")


def _svg(figure: Any, name: str, title: str) -> str:
    """The drawing as an <svg> element with a name for those who can't see it."""
    from matplotlib import rc_context

    drawn = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = drawn.getvalue()
    text = _STYLE.sub("", re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL), count=1)
    text = _OWN_ID.sub(rf"\g<1>{name}-", _NAMESPACE.sub("", text)).replace("xlink:href", "href")
    text = _COLOUR.sub(lambda found: f"var(--{VARIABLES[found[0]]})", _TYPEFACE.sub("", text))
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1).strip()
