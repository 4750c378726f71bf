"""Training runs, the points of their curves, and replies that people are asked to judge, as Postgres has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class State(StrEnum):
    """How a run stands; the values of `training_runs.state`."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DUPLICATE = "DUPLICATE"

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self not in (State.QUEUED, State.RUNNING)


class Verdict(StrEnum):
    """What the gate said of the model that came out."""

    BETTER = "BETTER"
    NOT_BETTER = "NOT_BETTER"
    TOO_LITTLE_DATA = "TOO_LITTLE_DATA"


class ReviewReason(StrEnum):
    """Why people are asked to judge an item."""

    HIGHEST = "HIGHEST"
    LOWEST = "LOWEST"
    DISPUTED = "DISPUTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A run that somebody asks for. `fingerprint` is the SHA-256 of what is asked; `request_id` "" does not make the
    request idempotent."""

    kind: str
    config: Mapping[str, Any]
    requested_by: str
    request_id: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. `feedback_count` and `new_count` are of its snapshot, 0 before there is one. `version` grows with each
    change."""

    training_id: UUID
    kind: str
    state: State
    stage: str
    progress: float  # 0 to 1
    verdict: Verdict | None
    reasons: tuple[str, ...]
    release: str
    compared_with: str
    base_model: str
    snapshot: str
    feedback_count: int
    new_count: int
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    requested_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: str
    duplicate_of: UUID | None
    not_reproducible: bool
    cancel_requested: bool
    attempts: int
    version: int


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a run's curves: numbers by name at an optimiser's step."""

    step: int
    values: Mapping[str, float]
    written_at: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """What was found out, as a JSON text and as one HTML page."""

    json: str
    html: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """One reply to judge. `rating` is the mean of its ratings, 0 to 1; `label` is in stars, 0 while nobody judged."""

    item_id: UUID
    training_id: UUID
    response_id: UUID | None
    query: str
    context: str
    response: str
    score: float  # 0 to 1
    rating: float | None
    reason: ReviewReason
    label: int
    labelled_by: str
    labelled_at: datetime | None
    note: str


@dataclass(frozen=True, slots=True)
class ReviewPlace:
    """Where a page of review items ended."""

    is_open: bool
    item_id: UUID
