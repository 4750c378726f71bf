"""What `ratchet train` shows of a run while it goes on, and at its end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from cli import output

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from trainer.reward.job import Progress, Result, Tell

SHOWN = (("loss", "loss {:.3f}"), ("learning_rate", "lr {:.1e}"))
"""Values of a point that go beside the bar."""
FIRST = ("pairwise_accuracy", "pairwise_accuracy_similar_length")
"""Figures that are shown first, also when they are unknown: a handful of pairs tells nothing."""
FIGURES = 12
"""Lines of figures at the end, at most."""


@contextmanager
def shown() -> "Iterator[tuple[Tell, Callable[[str], None]]]":
    """A bar with loss, learning rate and time left, and a way to print events; quiet where there is no terminal."""
    if not output.stderr.is_terminal:
        yield (lambda _: None), event
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[values]}"))
    with Progress(*columns, TimeRemainingColumn(), console=output.stderr, transient=True) as bar:
        yield _Shown(bar, bar.add_task("snapshot", total=1.0, values="")), event


def event(line: str) -> None:
    """Prints one thing that happened."""
    output.stderr.print(Text(output.visible(line), style="dim"), soft_wrap=True)


class _Shown:
    """Moves the bar."""

    def __init__(self, bar: "Bar", task: "TaskID") -> None:
        self._bar, self._task = bar, task

    def __call__(self, progress: "Progress") -> None:
        """How far the run is."""
        fields: dict[str, Any] = {}
        if progress.point is not None:
            values = progress.point.values
            fields["values"] = ", ".join(form.format(values[name]) for name, form in SHOWN if name in values)
        self._bar.update(self._task, completed=progress.share, description=str(progress.stage), **fields)


def conclude(result: "Result", report: str, *, as_json: bool, training_id: str = "") -> None:
    """The verdict, its reasons, the figures, and where everything lies."""
    if as_json:
        output.as_json(_document(result, report, training_id))
        return
    style = "bold green" if result.verdict == "BETTER" else "bold yellow"
    output.console.print(Text.assemble((f"{result.verdict} ", style), output.visible(result.summary)), soft_wrap=True)
    for reason in result.reasons:
        if reason != result.summary:
            output.console.print(Text(f"  {output.visible(reason)}"), soft_wrap=True)
    if result.release and result.verdict != "BETTER":
        output.console.print("There is a release all the same, since you asked for it; its metrics say so, too.")
    if result.metrics:
        output.console.print(_figures(result))
    for name, value in (("release", result.release_path), ("report", report)):
        if value:
            output.named(name, value, 8)


def _document(result: "Result", report: str, training_id: str) -> dict[str, Any]:
    return {
        **({"training_id": training_id} if training_id else {}),
        "verdict": str(result.verdict),
        "summary": result.summary,
        "reasons": list(result.reasons),
        "release": result.release,
        "release_path": result.release_path,
        "compared_with": result.compared_with,
        "threshold": result.threshold,
        "metrics": dict(result.metrics),
        "figures": dict(result.figures),
        "report": report,
    }


def _figures(result: "Result") -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    found: dict[str, float | None] = {**dict.fromkeys(FIRST), **result.metrics}
    for name, value in list(found.items())[:FIGURES]:
        table.add_row(name.replace("_", " "), "–" if value is None else f"{value:.3f}")
    return table
