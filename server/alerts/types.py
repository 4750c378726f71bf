"""What an alert is, before and after it is stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from server.alerts.rule import Reading, Rule, Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of a rule and subject now. Fields as in alert.proto."""

    rule: str
    subject: str
    severity: Severity
    reason: str
    value: float
    threshold: float
    sample_count: int
    link: str

    @classmethod
    def of(cls, rule: Rule, reading: Reading) -> "Finding":
        """Of one reading."""
        return cls(
            rule=rule.name,
            subject=reading.subject,
            severity=rule.severity,
            reason=reading.reason,
            value=reading.value,
            threshold=rule.threshold,
            sample_count=reading.sample_count,
            link=rule.link_to(reading.subject),
        )


Describe = Callable[[str, Mapping[str, int]], Finding]
"""What there is to say of a policy release with so many safety reports of each category, or with none any more."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert. It fires until `resolved_at`; `version` grows with each change."""

    tenant_id: str
    alert_id: UUID
    finding: Finding
    fired_at: datetime
    changed_at: datetime
    resolved_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    note: str = ""
    version: int = 1

    @property
    def fires(self) -> bool:
        """Whether its cause is there."""
        return self.resolved_at is None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of alerts ended: firing ones come first, then the newest."""

    fires: bool
    alert_id: UUID


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one webhook is to get. `attempts` counts the one under way."""

    delivery_id: UUID
    url: str
    body: str
    created_at: datetime
    attempts: int
