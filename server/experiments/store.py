"""Where experiments are kept. The clock is the store's. Every method raises Unavailable when it is away."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from server.experiments.types import Event, Experiment, Step
from server.rollout.registry import Looked
from server.rollout.types import Variation


class Running(Protocol):
    """What the routes need."""

    async def under_way(self) -> list[Experiment]:
        """Those that have not stopped, one a kind at most."""


class Experiments(Running, Protocol):
    """The store. Who writes compares versions: of two, one writes, and the other is told Conflict."""

    async def now(self) -> datetime:
        """The time that all go by."""

    async def create(self, step: Step, *, request_id: str = "", fingerprint: bytes = b"") -> Experiment:
        """Stores an experiment that begins and its first event; a repeated `request_id` of the same fingerprint gives
        the one that the first made, as it is now. Raises RequestIdReused, ExperimentNotPossible (one of its kind runs).
        """

    async def apply(self, step: Step) -> None:
        """Stores an experiment after a step, and its event. Raises ExperimentNotFound, Conflict."""

    async def get(self, experiment_id: str) -> Experiment:
        """Raises ExperimentNotFound."""

    async def page(self, *, size: int, before: str, kind: Variation | None, active_only: bool) -> list[Experiment]:
        """Newest first, those older than the experiment `before` ("": from the newest)."""

    async def events(self, experiment_id: str, size: int) -> list[Event]:
        """The newest."""

    async def look(self, experiment_id: str, looked: Looked) -> None:
        """Keeps what the controller saw last; what is of an older version is dropped."""

    async def looked(self, experiment_id: str) -> Looked | None:
        """What `look` kept."""

    async def decide_report(
        self, experiment_id: str, tenant_id: str, feedback_id: UUID, *, confirmed: bool, by: str, note: str
    ) -> None:
        """Keeps what a person makes of a safety report on a reply of the variant. Raises FeedbackNotFound."""
