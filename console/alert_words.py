"""Alerts and rules in people's words: names, values with units, sentences. Pure but for the visitor's language."""

from collections.abc import Mapping
from datetime import datetime, tzinfo

from console import moments, session
from console.numerals import number
from console.words import has, t
from ratchet.v1 import alert_pb2 as pb

_UNITS: Mapping[str, tuple[float, int, str]] = {
    "safety_report": (1, 0, ""),
    "error_rate": (100, 2, "%"),
    "rating_low": (1, 2, " ★"),
    "negative_spike": (1, 2, "×"),
    "latency_high": (1, 2, "s"),
    "feedback_rate_drop": (100, 0, "%"),
    "reward_shift": (1, 3, ""),
}
"""What a rule's value is multiplied by, its digits and its unit."""


def name(rule: str) -> str:
    """What a rule is called; one that is new to us by its own name."""
    return t(f"alerts.rule_{rule}") if has(f"alerts.rule_{rule}") else rule.replace("_", " ").capitalize()


def about(rule: str, otherwise: str) -> str:
    """What a rule watches; of one that is new to us what the server says."""
    return t(f"alerts.about_{rule}") if has(f"alerts.about_{rule}") else otherwise


def value(rule: str, figure: float) -> str:
    """A rule's value as people read it."""
    factor, digits, unit = _UNITS.get(rule, (1, 2, ""))
    return number(factor * figure, digits, unit)


def subject(alert: pb.Alert) -> str:
    """What an alert is about."""
    return t("alerts.all") if alert.subject == "all" else alert.subject


def severity(given: "pb.AlertSeverity.ValueType") -> str:
    """How bad it is."""
    return t("alerts.critical" if given == pb.ALERT_SEVERITY_CRITICAL else "alerts.warning")


def translated(alert: pb.Alert) -> str:
    """What is wrong, in a language that the server does not speak; "" where its own sentence will do."""
    return "" if session.language() == "en" else about(alert.rule, "")


def facts(alert: pb.Alert, zone: tzinfo, now: datetime) -> str:
    """Value, level, samples and time in a line."""
    level = t("alerts.level", value=value(alert.rule, alert.value), threshold=value(alert.rule, alert.threshold))
    return " · ".join((level, samples(alert.sample_count), lasting(alert, zone, now)))


def samples(count: int) -> str:
    """How many the value rests on."""
    return t("alerts.sample") if count == 1 else t("alerts.samples", n=number(count))


def lasting(alert: pb.Alert, zone: tzinfo, now: datetime) -> str:
    """Since when it fires, or from when to when it did."""
    began = moments.of(alert.fire_time)
    start = moments.written(began, zone)
    if alert.HasField("resolve_time"):
        return t("alerts.until", start=start, end=moments.written(moments.of(alert.resolve_time), zone))
    return t("alerts.since", moment=start, ago=moments.ago(began, now))


def acknowledged(alert: pb.Alert, zone: tzinfo) -> str:
    """Who looks after it, since when; "" for nobody."""
    if not alert.HasField("acknowledge_time"):
        return ""
    moment = moments.written(moments.of(alert.acknowledge_time), zone)
    return t("alerts.acknowledged", who=alert.acknowledged_by or t("alerts.somebody"), moment=moment)


def patience(seconds: float) -> str:
    """How long a value must last."""
    return moments.span(seconds) if seconds else t("alerts.at_once")
