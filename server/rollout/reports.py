"""Safety reports on a challenger's replies, as people decide on them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from server.rollout.trial import Trial
from server.rollout.types import Safety


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyReport:
    """A report of a user of some tenant. `confirmed`: what a person made of it, None while it waits; `decided_by`: who,
    "" while it waits. `comment`: what the user wrote with it, or else of the reply; "" for nothing, and once the user
    was erased."""

    tenant_id: str
    feedback_id: UUID
    response_id: UUID
    category: str
    comment: str
    at: datetime
    confirmed: bool | None = None
    decided_by: str = ""


class SafetyReports(Protocol):
    """The store of them. Every method raises StoreUnavailable. What was withdrawn is not there."""

    async def counted(self, trial: Trial) -> Safety:
        """How many wait, were confirmed, were dismissed."""

    async def newest(self, trial: Trial, size: int) -> list[SafetyReport]:
        """Those that wait first, then the newest."""

    async def one(self, trial: Trial, tenant_id: str, feedback_id: UUID) -> SafetyReport:
        """Raises FeedbackNotFound."""
