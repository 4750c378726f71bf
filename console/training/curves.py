"""What a run's curves show. Pure but for the visitor's language.

Learning rates are shown in millionths: a scale of 0.00002 is hard to read.
"""

from collections.abc import Iterable, Mapping, Sequence

from console.charts import Figure, Series
from console.words import t
from ratchet.v1 import training_pb2 as pb

MOST = 400
"""Points that a chart draws: more than it has pixels for each would only cost."""
MARK = "validation_loss"
"""What only the points of the validation part have."""
_MICRO = 1e6

Numbers = Mapping[str, float]


class Points:
    """The points of one run so far, by step."""

    def __init__(self) -> None:
        self._values: dict[int, Numbers] = {}

    def take(self, points: Iterable[pb.TrainingPoint], *, restarted: bool) -> None:
        """Adds points, or begins anew with them."""
        if restarted:
            self._values.clear()
        self._values |= {point.step: dict(point.values) for point in points}

    def steps(self) -> list[tuple[int, Numbers]]:
        """Of the optimiser, at most MOST of them, spread evenly; the newest is among them."""
        found = sorted(self._values.items())
        stride = -(-len(found) // MOST) or 1
        return found[::-1][::stride][::-1]

    def validated(self) -> list[tuple[int, Numbers]]:
        """Those that tell of the validation part: one an epoch."""
        return [(step, values) for step, values in sorted(self._values.items()) if MARK in values]


def loss(points: Points) -> Figure:
    """What is made small."""
    return _figure(points.steps(), {"loss": "loss"}, digits=3)


def parts(points: Points) -> Figure:
    """What the loss is made of."""
    names = {"mse_loss": "mse_loss", "ranking_loss": "ranking_loss", "aspect_loss": "aspect_loss"}
    return _figure(points.steps(), names, digits=3)


def validation(points: Points) -> Figure:
    """The losses on what was not trained on, after each epoch."""
    names = {MARK: "validation_loss", "validation_mse": "validation_mse", "validation_ranking": "validation_ranking"}
    return _figure(points.validated(), names, digits=3)


def accuracy(points: Points) -> Figure:
    """Percent of the validation pairs in the right order, after each epoch."""
    names = {"validation_accuracy": "validation_accuracy"}
    return _figure(points.validated(), names, scale=100, unit="%", digits=1)


def rate(points: Points) -> Figure:
    """The learning rate in millionths."""
    return _figure(points.steps(), {"learning_rate": "learning_rate"}, scale=_MICRO, unit="×10⁻⁶", digits=2)


def gradient(points: Points) -> Figure:
    """The gradient's norm, before it is clipped."""
    return _figure(points.steps(), {"gradient_norm": "gradient_norm"}, digits=2)


CHARTS = (
    ("loss", loss),
    ("parts", parts),
    ("validation", validation),
    ("accuracy", accuracy),
    ("rate", rate),
    ("gradient", gradient),
)
"""Title, and what is read from the points."""


def _figure(
    points: Sequence[tuple[int, Numbers]],
    names: Mapping[str, str],
    *,
    scale: float = 1.0,
    unit: str = "",
    digits: int = 0,
) -> Figure:
    """A line for each of the names that has a value anywhere."""
    series = []
    for name, word in names.items():
        values = tuple(scale * each[name] if name in each else None for _, each in points)
        if any(value is not None for value in values):
            series.append(Series(t(f"training.{word}"), values))
    labels = tuple(str(step + 1) for step, _ in points) if series else ()
    return Figure(labels, tuple(series), unit=unit, digits=digits)
