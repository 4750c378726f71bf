"""What webhooks get: the message about an alert, signed as Standard Webhooks says (standardwebhooks.com). Pure."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

from server.alerts.types import Alert

SECRET_PREFIX = "whsec_"  # noqa: S105


def message_of(alert: Alert) -> str:
    """The JSON that tells how an alert stands: see docs/alerts.md."""
    finding = alert.finding
    what = "resolved" if alert.resolved_at else "firing"
    return json.dumps(
        {
            "type": f"alert.{what}",
            "timestamp": _time(alert.resolved_at or alert.fired_at),
            "data": {
                "alert_id": str(alert.alert_id),
                "tenant_id": alert.tenant_id,
                "rule": finding.rule,
                "subject": finding.subject,
                "severity": finding.severity,
                "state": what,
                "reason": finding.reason,
                "value": finding.value,
                "threshold": finding.threshold,
                "sample_count": finding.sample_count,
                "link": finding.link,
                "fire_time": _time(alert.fired_at),
                "resolve_time": _time(alert.resolved_at) if alert.resolved_at else None,
                "acknowledged_by": alert.acknowledged_by,
                "version": alert.version,
            },
        },
        ensure_ascii=False,
    )


def headers(message_id: str, body: str, secret: str, now: datetime) -> dict[str, str]:
    """The headers of one attempt. The id stays the same in each; time and signature are of this one."""
    sent = str(int(now.timestamp()))
    return {
        "content-type": "application/json",
        "user-agent": "ratchet",
        "webhook-id": message_id,
        "webhook-timestamp": sent,
        "webhook-signature": signature(message_id, sent, body, secret),
    }


def signature(message_id: str, sent: str, body: str, secret: str) -> str:
    """HMAC-SHA256 of id, time and body, by the bytes that the secret has in base64."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.digest(key, f"{message_id}.{sent}.{body}".encode(), hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
