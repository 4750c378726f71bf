"""Releases as they were published, and what the replicas have of them, as Postgres has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from server.errors import QueryTooLong
from server.rollout.types import Kind, Variation

HASTY = "TOO_LITTLE_TIME"
"""Why a call of a caller in haste gave no reply."""
NOT_TO_BLAME = (HASTY, QueryTooLong.reason)
"""Reasons of calls without a reply that are no release's failure, and tell no more than that their user came."""


class ReplicaState(StrEnum):
    """How a release stands on a Triton replica; the values of `replica_models.state`.

    LOADING: being loaded, warmed up and probed. READY: right on its golden inputs. REFUSED: the replica won't have it,
    or it answered wrongly. UNLOADING: it serves nobody any more.
    """

    LOADING = "loading"
    READY = "ready"
    REFUSED = "refused"
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaModel:
    """A release on one replica. `refusal`: why it won't have it, a sentence; "" unless REFUSED."""

    replica: str
    release: str
    state: ReplicaState
    since: datetime
    checked_at: datetime
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A release in the registry.

    `manifest`: release.json as it was published. `digest`: SHA-256 of that file. `threshold` (0 to 1): in place of the
    manifest's own, None: that one. `continuity`: how it was found (`continuity.Continuity` as JSON). `retired_at`:
    since when nobody is to be served by it, None: it is not retired.
    """

    release: str
    kind: Kind
    manifest: Mapping[str, Any]
    digest: bytes
    published_at: datetime
    published_by: str
    training_id: UUID | None = None
    threshold: float | None = None
    continuity: Mapping[str, Any] | None = None
    retired_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Retired:
    """A release that nobody is to be served by. `digest`: SHA-256 of its release.json."""

    release: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Champion:
    """Who answers of a kind when no rollout says otherwise, and since when."""

    kind: Kind
    release: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One experiment's part in a reply: an object of `conversation_logs.assignments`, with these names.

    `experiment`: the id of the rollout or experiment; of the latter, `release` is the variant's name, or "control".
    `stage`: counts from 0. `share`, `propensity`: see `assignment.Assigned`. `failed`: the assigned release did not do
    its work, so that another one did, or none: its error, whatever the reply was. `timed`: how long the reply took says
    something of the arm (`timing`).
    """

    experiment: str
    kind: Kind | Variation
    stage: int
    challenger: bool
    release: str
    share: float
    propensity: float
    sticky: bool
    held_back: bool
    timed: bool
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Looked:
    """What the controller saw last of a rollout, and why it waits; `evidence` is `types.Evidence` as JSON."""

    version: int
    at: datetime
    reason: str
    evidence: Mapping[str, Any]
