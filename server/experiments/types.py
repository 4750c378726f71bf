"""The values of experiments. All are frozen; nothing here does I/O or looks at a clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from server.rollout.assignment import BUCKETS, Lane, Split
from server.rollout.plan import Goals, Stage
from server.rollout.types import Actor, Evidence, Variation

CONTROL = "control"
"""What those have who have what is in force."""
RESERVED = frozenset({CONTROL, "champion", "shadow"})
"""Names that the log has for other things."""
_DAY = 86_400.0


class State(StrEnum):
    """RUNNING: the variant has its share of users. HELD: nobody has it, a safety report waits for a person. STOPPED:
    nobody has it, for good."""

    RUNNING = "running"
    HELD = "held"
    STOPPED = "stopped"


class Trigger(StrEnum):
    """What moves an experiment. People START and STOP; the controller HOLDs, RELEASEs and STOPs."""

    START = "start"
    HOLD = "hold"
    RELEASE = "release"
    STOP = "stop"


class Plan(BaseModel):
    """How users are split, and what the variant must show. `salt`: another salt is another, independent draw."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    share: float = Field(default=0.1, ge=0.001, le=0.9)
    longest_seconds: float = Field(default=28 * _DAY, ge=60, le=90 * _DAY)
    salt: str = Field(default="", max_length=200)
    goals: Goals = Goals()

    @property
    def stages(self) -> tuple[Stage]:
        """The one there is; it ends with the experiment."""
        return (Stage(share=self.share, minimum_seconds=0, longest_seconds=self.longest_seconds),)

    @property
    def held_back(self) -> int:
        """None: an experiment ends with as many in both arms as it began."""
        return 0

    @property
    def compares(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """An experiment as it is stored. Who gets what follows from it alone.

    `variant`: the name of what some users get. `overrides`: settings in place of those in force, by name. `reason`: why
    it is held or stopped, "" while it runs. `version` grows by one with each event.
    """

    experiment_id: str
    name: str
    kind: Variation
    variant: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    plan: Plan
    started_at: datetime
    started_by: str
    state: State = State.RUNNING
    version: int = 1
    reason: str = ""
    stopped_at: datetime | None = None

    @property
    def stage(self) -> int:
        """The only one."""
        return 0

    @property
    def is_last_stage(self) -> bool:
        """Always."""
        return True

    @property
    def release(self) -> None:
        """Experiments try settings."""
        return

    @property
    def experiment(self) -> str:
        """What assignments name it by."""
        return self.experiment_id

    @property
    def waiting(self) -> Stage:
        """How long it lasts."""
        return self.plan.stages[0]

    @property
    def split(self) -> Split:
        """Who gets which arm; nobody the variant's unless it runs."""
        buckets = round(self.plan.share * BUCKETS)
        lane = Lane(self.variant, buckets if self.state is State.RUNNING else 0, buckets)
        return Split(self.plan.salt, (lane,))

    def elapsed(self, now: datetime) -> float:
        """Seconds since it began. A clock before that counts for nothing."""
        return max(0.0, (now - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of an experiment's audit, which only grows: the event with `version` made that version of it.

    `evidence` is what was known when it was decided; None where nothing was looked at.
    """

    experiment_id: str
    version: int
    at: datetime
    actor: Actor
    trigger: Trigger
    reason: str
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A decision that changes the experiment: what it becomes, and the event that says so. Both are stored or
    neither."""

    experiment: Experiment
    event: Event
