"""How the sidecar trainer works. Reads no environment: `ratchet trainer` does."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from trainer.service import STARTER

POLL: Final = 2.0
"""Seconds between two looks for a run that waits."""
WATCH: Final = 30.0
"""Seconds between two looks at whether a run is due, and at who was erased."""
BEAT: Final = 2.0
"""Seconds between two words of a run's progress."""
LEASE: Final = 60.0
"""Seconds after which a trainer that says nothing has lost its run."""
PATIENCE: Final = 30.0
"""Seconds that training gets to write a checkpoint when it is told to stop."""


class Schedule(StrEnum):
    """When the trainer begins runs by itself."""

    COUNT = "count"
    """Once there is enough new feedback."""
    DAILY = "daily"
    WEEKLY = "weekly"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSettings:
    """All that one trainer needs. `home` is RATCHET_HOME: what the trainer makes lies in its folder `training`."""

    home: Path
    database_url: str = field(repr=False)  # URLs carry passwords
    tenant: str = "default"  # whose feedback starts runs by itself
    schedule: Schedule = Schedule.COUNT
    minimum: int = 1000  # new feedback that starts a run; 0: none does
    hour: int = 3  # UTC, of a daily or weekly run (on Mondays)
    reward: Path | None = None  # the release that the server was told to serve
    keep: int = 10  # newest runs of which all is kept, and newest models; see upkeep.py
    defaults: dict[str, Any] = field(default_factory=dict)  # of runs, below what a request names
    bases: Path | None = None  # the folder of models that runs may begin from which are asked for through the API
    lease: float = LEASE

    @property
    def training(self) -> Path:
        """Snapshots, runs and releases."""
        return self.home / "training"

    @property
    def releases(self) -> Path:
        """Where new releases appear."""
        return self.training / "releases"

    @property
    def runs(self) -> Path:
        """A directory for each run."""
        return self.training / "runs"

    @property
    def models(self) -> Path:
        """The models that releases were made of, to go on training from."""
        return self.training / "models"

    @property
    def known_releases(self) -> tuple[Path, ...]:
        """Where a release that serves may lie."""
        return (self.releases, self.home / "releases", STARTER)
