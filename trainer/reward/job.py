"""What one training run is given, what it tells on its way, and what comes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from trainer.data.records import Exclusion
from trainer.errors import Cancelled
from trainer.reward.config import RewardConfig
from trainer.reward.findings import Outcome, ReviewItem

STOPPED: Final = 3
FAILED: Final = 4
BUSY: Final = 5
"""Exit statuses of the process that trains; any other than 0 is a crash."""


class Stage(StrEnum):
    """What a run does, in order."""

    SNAPSHOT = "snapshot"
    QUALITY = "quality"
    PAIRS = "pairs"
    TRAINING = "training"
    EXPORT = "export"
    EVALUATION = "evaluation"


class Point(Protocol):
    """One step of the optimiser: `loop.Point`, or `trainer.points.Point` in a process without torch."""

    @property
    def step(self) -> int:
        """From 0."""

    @property
    def values(self) -> Mapping[str, float]:
        """Numbers by name."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, 0..1; `point`: the optimiser's step that was just made."""

    stage: Stage
    share: float
    point: Point | None = None


Tell = Callable[[Progress], None]
Stop = Callable[[], bool]
"""Asked at each step; true ends the run with Cancelled, and it can go on from there."""
Heed = Callable[[], None]
"""Called between pieces of long work: raises Cancelled once the run is asked to stop."""


def heeding(stop: Stop) -> Heed:
    """Heeds `stop`."""

    def heed() -> None:
        if stop():
            raise Cancelled("The run was asked to stop.")

    return heed


def unheeding() -> None:
    """A `Heed` where nobody can ask to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run. `directory` is its own: checkpoints, curves, report; `out` the release's. What is there is replaced.

    `training_key` is the same for what is trained alike, whatever it is compared with: `directory` goes by that. "": as
    `key`.
    `in_service` is the release to compare with. `always` exports what the gate would not let pass, too, and marks it.
    """

    config: RewardConfig
    base: Path  # the base model's directory
    base_name: str
    directory: Path
    out: Path
    release_id: str
    key: str  # see identity.py
    snapshot: str  # SHA-256 of the data
    training_key: str = ""
    training_id: str = ""
    in_service: Path | None = None
    always: bool = False
    exclusions: tuple[Exclusion, ...] = ()  # made before the questions came here


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came out. `release` is empty when nothing was exported; `figures` are of the training itself."""

    verdict: Outcome
    summary: str
    run: str = ""  # the job's key
    reasons: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    release: str = ""
    release_path: str = ""
    compared_with: str = ""
    threshold: float | None = None
    model: str = ""  # the trained model's directory, as exporters/reward_model.py has it
    report: Mapping[str, Any] | None = None
    html: str | None = None
    review: tuple[ReviewItem, ...] = ()
