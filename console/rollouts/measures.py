"""What is read from a measure of the comparison: its name, its figures in words, and what it is held against. Pure but
for the visitor's language."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from console.intervals import Looks, Reading
from console.numerals import number
from console.parts import Tone
from console.releases.telling import share
from console.words import has, t
from ratchet.v1 import rollout_pb2 as pb

_CRITERIA: dict[int, tuple[str, Tone, str]] = {
    pb.MEASURE_STATE_MET: ("met", "good", "check_circle"),
    pb.MEASURE_STATE_MISSED: ("missed", "bad", "cancel"),
}
_GUARDRAILS: dict[int, tuple[str, Tone, str]] = {
    pb.MEASURE_STATE_MET: ("holds", "good", "check_circle"),
    pb.MEASURE_STATE_MISSED: ("broken", "bad", "cancel"),
}
_UNDECIDED: tuple[str, Tone, str] = ("undecided", "plain", "hourglass_empty")
_LOOKS: dict[str, Looks] = {"good": "good", "bad": "bad"}
_SUBJECTS = {
    "Failed calls": "failed_calls",
    "Users with a failure": "failed_users",
    "Rank correlation in shadow": "shadow_ranks",
    "Best candidate in shadow": "shadow_best",
    "Mean time in shadow": "shadow_time",
    "Failed answers in shadow": "shadow_failed",
}
"""What measures are of, as the server names it."""
_LATENCY = re.compile(r"(?P<mean>Mean latency)?(?:Latency of the (?P<quantile>[\d.]+ %) quantile)? \((?P<stage>.+)\)")
_SHARES = frozenset({"failed_calls", "shadow_failed", "shadow_ranks"})
"""Of these a value is a share by itself; of others a part of the champion's, more or less."""
_LEAST_CORRELATION = 0.1
"""Of ranks in shadow (docs/rollouts.md)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a measure is held against, as a part; whether it must be more; whether 0 is "the same"."""

    goal: float
    more: bool
    difference: bool = True


def name(measure: pb.RolloutMeasure) -> str:
    """What it measures; one that is new to us by its own name."""
    key = f"rollouts.measure_{measure.name}"
    return t(key) if has(key) else measure.name.replace("_", " ").capitalize()


def what(measure: pb.RolloutMeasure) -> str:
    """What it is of, where there are several of its name; what is new to us as the server says it."""
    if word := _SUBJECTS.get(measure.subject):
        return t(f"rollouts.subject_{word}")
    if found := _LATENCY.fullmatch(measure.subject):
        where = t("rollouts.end_to_end") if found["stage"] == "end to end" else found["stage"]
        if found["mean"]:
            return t("rollouts.subject_mean", where=where)
        if found["quantile"]:
            return t("rollouts.subject_quantile", quantile=found["quantile"], where=where)
    return measure.subject


def state(measure: pb.RolloutMeasure) -> tuple[str, Tone, str]:
    """Words, tone and symbol of what it says so far."""
    known = _GUARDRAILS if measure.guardrail else _CRITERIA
    word, tone, symbol = known.get(measure.state, _UNDECIDED)
    return t(f"rollouts.{word}"), tone, symbol


def guardrails(found: Sequence[pb.RolloutMeasure]) -> tuple[str, Tone, str]:
    """Words, tone and symbol of all guardrails together. That they hold is said once each of them can be judged."""
    if broken := [name(each) for each in found if each.state == pb.MEASURE_STATE_MISSED]:
        return t("experiments.guardrails_broken", names=", ".join(dict.fromkeys(broken))), "bad", "cancel"
    held, all_ = sum(each.state == pb.MEASURE_STATE_MET for each in found), len(found)
    if held == all_:
        return t("experiments.guardrails_hold"), "good", "check_circle"
    if held:
        return t("experiments.guardrails_so_far", n=number(held), m=number(all_)), "plain", "hourglass_empty"
    return t("experiments.guardrails_open"), "plain", "hourglass_empty"


def merged(found: Iterable[pb.RolloutMeasure]) -> list[pb.RolloutMeasure]:
    """One of each name, the one that decides: a missed one, else one without a verdict, else any."""
    worst: dict[str, pb.RolloutMeasure] = {}
    rank = {pb.MEASURE_STATE_MISSED: 2, pb.MEASURE_STATE_MET: 0}
    for measure in found:
        known = worst.get(measure.name)
        if known is None or rank.get(measure.state, 1) > rank.get(known.state, 1):
            worst[measure.name] = measure
    return list(worst.values())


def asked(measure: pb.RolloutMeasure, goals: pb.RolloutGoals) -> Asked | None:
    """What the plan asks of it; None of what has no limit on a scale."""
    margin, slower = Asked(-goals.margin, more=True), Asked(goals.slower, more=False)
    limits = {
        ("quality", ""): margin,
        ("latency", ""): slower,
        ("satisfaction", ""): Asked(goals.gain, more=True) if _is_gain(measure) else margin,
        ("shadow", "shadow_best"): margin,
        ("shadow", "shadow_ranks"): Asked(_LEAST_CORRELATION, more=True, difference=False),
        ("failures", "failed_users"): Asked(goals.failure_ratio - 1, more=False),
        ("failures", "failed_calls"): Asked(goals.failures, more=False, difference=False),
        ("failures", "shadow_failed"): Asked(goals.failures, more=False, difference=False),
    }
    return limits.get((measure.name, _SUBJECTS.get(measure.subject, "")), limits.get((measure.name, "")))


def reading(measure: pb.RolloutMeasure, goals: pb.RolloutGoals) -> Reading | None:
    """What can be drawn of it; None where there is no interval."""
    wanted = asked(measure, goals)
    if wanted is None or not measure.HasField("value"):
        return None
    return Reading(
        value=measure.value,
        lower=measure.lower if measure.HasField("lower") else None,
        upper=measure.upper if measure.HasField("upper") else None,
        goal=wanted.goal,
        more=wanted.more,
        zero=wanted.difference,
        looks=_LOOKS.get(state(measure)[1], "plain"),
    )


def value(measure: pb.RolloutMeasure) -> str:
    """The figure: a difference with its sign, a share, or a count."""
    if not measure.HasField("value"):
        return t("rollouts.no_figure")
    return _written(measure, measure.value)


def interval(measure: pb.RolloutMeasure) -> str:
    """Its interval; "" where it has none."""
    if not (measure.HasField("lower") or measure.HasField("upper")):
        return ""
    low = _written(measure, measure.lower) if measure.HasField("lower") else "?"
    high = _written(measure, measure.upper) if measure.HasField("upper") else "?"
    return t("rollouts.interval", low=low, high=high)


def told(measure: pb.RolloutMeasure, wanted: Asked) -> str:
    """What its picture shows, in a sentence."""
    words = signed(wanted.goal) if wanted.difference else share(wanted.goal)
    sort = "gain" if _is_gain(measure) else "above" if wanted.more else "below"
    goal = t(f"rollouts.asked_{sort}", goal=words)
    subject = what(measure) or name(measure)
    if measure.HasField("lower") and measure.HasField("upper"):
        low, high = _written(measure, measure.lower), _written(measure, measure.upper)
        return t("rollouts.picture", name=subject, value=value(measure), low=low, high=high, asked=goal)
    return t("rollouts.picture_open", name=subject, value=value(measure), asked=goal)


def _is_gain(measure: pb.RolloutMeasure) -> bool:
    """Whether it must be up by so much as it is estimated, and surely up at all."""
    return measure.name == "satisfaction" and not measure.guardrail


def signed(part: float) -> str:
    """0.031 -> `+3.1 %`; no more digits than there are, up to one."""
    percent = 100 * part
    digits = 0 if abs(percent - round(percent)) < 0.005 else 1
    return f"{'+' if part > 0 else ''}{number(percent, digits, ' %')}"


def _written(measure: pb.RolloutMeasure, part: float) -> str:
    if measure.name == "safety":
        return number(part)
    if measure.name == "shares" or _SUBJECTS.get(measure.subject) in _SHARES:
        return number(100 * part, 2, " %")
    return f"{'+' if part > 0 else ''}{number(100 * part, 1, ' %')}"
