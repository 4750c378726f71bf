"""The release that a trained model would be, made before anybody knows whether it may be one.

What is judged is what would be served: its own graph, in the precision that it would have. Of a release for GPUs it is
the graph in fp32, which its fp16 graph ranks like: here is a CPU.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters import encoder, plan
from exporters.errors import ExportError
from exporters.reward import export_reward
from exporters.staging import discard
from exporters.variants import Accept
from trainer.data.inputs import Rows
from trainer.data.records import Place
from trainer.errors import TrainerError
from trainer.reward import metrics
from trainer.reward.config import ExportConfig
from trainer.reward.findings import Served
from trainer.reward.job import Heed, Job
from trainer.reward.prediction import Predictions
from trainer.reward.scoring import Graph, Scorer
from triton_models.manifest import Release, ReleaseError

NAME: Final = "candidate"
"""In the run's directory; gone once the run has ended."""
MOST_LOST: Final = 0.01
"""Of the validation pairs' accuracy, that int8 may cost."""
LEAST_PAIRS: Final = 100
"""Of them, below which so small a loss can't be told."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release's directory, and the logits that it gives validation responses: [1] each, or [5] with aspects."""

    path: Path
    logits: dict[Place, Floats]
    served: Served


def make(job: Job, model: Path, rows: Rows, trained: Predictions, heed: Heed) -> Candidate:
    """Exports `model`, at temperature 1, and has it score the validation `rows`, of which it said `trained` before.

    An int8 graph that orders them less well is refused. Raises TrainerError.
    """
    path = job.directory / NAME
    discard(path)  # of a process that was killed
    accuracy = _accuracy(rows, trained.logits)
    try:
        release = export_reward(
            model,
            path,
            report=lambda _: heed(),
            release_id=job.release_id,
            max_length=job.config.train.max_length,
            **_wanted(job.config.export),
            base_model=job.base_name,
            data_snapshot=job.snapshot or None,
            accept=accepting(rows, trained.logits, job.config.train.threads, heed),
        )
        scorer = Scorer.open(path, job.config.train.threads)
    except (ExportError, ReleaseError) as error:
        heed()  # what it raises comes out of an export as any error does
        raise TrainerError(str(error)) from error
    logits = scorer.logits(rows.dataset, rows.places, heed)
    return Candidate(path, logits, _served(release, accuracy))


def require(config: ExportConfig) -> None:
    """Raises TrainerError where what is to be exported can't be made on this machine."""
    if config.target == encoder.PLAN:
        try:
            plan.require()
        except ExportError as error:
            raise TrainerError(str(error)) from error


def _wanted(config: ExportConfig) -> dict[str, Any]:
    """What is exported before the temperature is known, which a plan has built in."""
    if config.target == encoder.CPU:
        return {}
    return {"targets": (encoder.CPU, encoder.HALF), "precision": "fp32"}


def accepting(rows: Rows, trained: Floats, threads: int, heed: Heed) -> Accept:
    """Whether a graph puts nearly as many of the pairs of `rows` in the right order as the logits `trained` [N] do."""
    before = _accuracy(rows, trained)

    def accept(path: Path) -> tuple[dict[str, float], bool]:
        if before is None:
            return {}, True
        tokens = [rows.ids(row).tolist() for row in range(len(rows))]
        found = _accuracy(rows, Graph.open(path, rows.serializer, threads).logits(tokens, heed)[:, 0])
        assert found is not None
        enough = len(rows.chosen) >= LEAST_PAIRS
        return {"pairwise_accuracy": found}, not enough or found >= before - MOST_LOST

    return accept


def _accuracy(rows: Rows, logits: Floats) -> float | None:
    """The weighted share of pairs in the right order; None: there are no pairs."""
    total = rows.pair_weights.sum()
    right = metrics.ordered(logits[rows.chosen], logits[rows.rejected])
    return float(rows.pair_weights @ right / total) if total > 0 else None


def _served(release: Release, accuracy: float | None) -> Served:
    precision = str(release.variants[-1]["precision"])
    # Where int8 with all but its embeddings will do, it is no news that with them it would not.
    refused = release.parity.get("refused_int8_pairwise_accuracy") if precision == "fp32" else None
    return Served(precision=precision, trained_accuracy=accuracy, refused_int8_accuracy=refused)
