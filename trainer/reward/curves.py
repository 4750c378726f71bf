"""The curves of a training: one point a step, in metrics.jsonl, a JSON object a line, and for whoever watches."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from triton_models.manifest import write_whole

FILE: Final = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class Point:
    """One optimiser step, counted from 0.

    `values`: loss, mse_loss, ranking_loss, aspect_loss, gradient_norm, learning_rate, epoch (passes over the data so
    far); on an epoch's last step also validation_loss, validation_mse, validation_ranking, validation_aspect and, where
    there are pairs, validation_accuracy.
    """

    step: int
    values: Mapping[str, float]


class Curves:
    """Writes points down and tells of them."""

    def __init__(self, directory: Path, step: int, observe: Callable[[Point], None]) -> None:
        """Goes on at `step`: later points, of a process that was killed, are dropped."""
        self._observe = observe
        path = directory / FILE
        lines = path.read_text().splitlines() if path.exists() else []
        write_whole(path, "".join(f"{line}\n" for line in lines if _step(line) < step).encode())
        self._file = path.open("a")

    def add(self, point: Point) -> None:
        """The next point."""
        self._file.write(json.dumps({"step": point.step, **point.values}) + "\n")
        self._file.flush()
        self._observe(point)

    def close(self) -> None:
        """No more points."""
        self._file.close()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # torn by a kill
