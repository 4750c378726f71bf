"""What speaks against a transition: each guard gives a sentence, or "" when nothing does. Pure.

Only what gives traffic is guarded. What takes it away never waits for anything.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from server.rollout.types import Criterion, CriterionName, Evidence, Outcome, Rollout, State, Verdict

CLOCK_TOLERANCE = 60.0
"""Seconds by which a clock may be behind the one before; two machines' clocks are."""
NONE = 0
"""The version of evidence that rests on no statistics, or on old ones."""


@dataclass(frozen=True, slots=True)
class Look:
    """A rollout, what is known of it, and the time: all that a decision rests on."""

    rollout: Rollout
    evidence: Evidence
    now: datetime

    def __post_init__(self) -> None:
        if self.evidence.rollout_id != self.rollout.rollout_id:
            raise ValueError("The evidence is of another rollout.")

    @property
    def elapsed(self) -> float:
        """Seconds of the present state without its pauses."""
        return self.rollout.elapsed(self.now)


Guard = Callable[[Look], str]


def current(look: Look) -> str:
    """The evidence must be of the rollout as it stands: that of the stage before would promote twice."""
    if look.evidence.version == look.rollout.version:
        return ""
    if look.evidence.version == NONE:
        return look.evidence.unread or "What users did is not known yet, or not newly enough; the next looks read on."
    return "The evidence was gathered before the last change of the rollout; the next look has newer."


def published(look: Look) -> str:
    """The release must be registered and whole."""
    return "" if look.evidence.published else f"{look.rollout.challenger} is not published: publish it first."


def safe(look: Look) -> str:
    """No safety report may wait for a person, and none be confirmed."""
    safety = look.evidence.safety
    if safety.confirmed:
        return f"{_count(safety.confirmed, 'safety report')} on {look.rollout.challenger} confirmed: roll it back."
    if safety.pending:
        return (
            f"{_count(safety.pending, 'safety report')} on {look.rollout.challenger}"
            " waiting for a person to confirm or dismiss."
        )
    return ""


def unbroken(look: Look) -> str:
    """No guardrail may be broken, but for a return's: see `calm`."""
    return _broken(look) if look.rollout.plan.compares else ""


def calm(look: Look) -> str:
    """A return does not end by itself while its calls fail. Nor does it go back for that: what fails whoever answers,
    as in an emergency, would give all users back to the release that somebody took them from."""
    found = "" if look.rollout.plan.compares else _broken(look)
    return f"{found} {_KEEPS}" if found else ""


_KEEPS = (
    "It keeps its users, for nobody knows whether what it replaces fails less: a person can promote it or roll it back."
)


def _broken(look: Look) -> str:
    return " ".join(finding.sentence for finding in look.evidence.findings)


def ready(look: Look) -> str:
    """Each replica must have the release."""
    readiness = look.evidence.readiness
    if readiness.everywhere:
        return ""
    where = f"{look.rollout.challenger} is ready on {readiness.ready} of {_count(readiness.replicas, 'replica')}"
    why = readiness.refusal or readiness.unseen
    return f"{where}: {why}" if why else f"{where}."


def split_as_planned(look: Look) -> str:
    """Users must be split as planned, or comparisons mean nothing; so they do while nobody can read what users did. A
    return compares nothing."""
    return (look.evidence.mismatch or look.evidence.unread) if look.rollout.plan.compares else ""


def long_enough(look: Look) -> str:
    """The minimum time must have passed."""
    needed = look.rollout.waiting.minimum_seconds
    return "" if look.elapsed >= needed else f"{span(look.elapsed)} of at least {span(needed)} have passed."


def enough(look: Look) -> str:
    """There must be enough samples."""
    samples, needed = look.evidence.samples, look.rollout.waiting.minimum_samples
    if samples >= needed or not look.rollout.plan.compares:
        return ""
    return f"There are {samples} of at least {_count(needed, 'sample')}: no verdict yet."


def not_inferior(look: Look) -> str:
    """Nothing may be shown to be worse."""
    return _verdicts(look, lambda verdict: verdict is not Verdict.INFERIOR)


def not_worse(look: Look) -> str:
    """Satisfaction and quality must be shown not to be worse: too little data is no pass."""
    return _verdicts(look, lambda verdict: verdict.passes) if look.rollout.plan.compares else ""


def criteria_met(look: Look) -> str:
    """All success criteria must be met; one that nobody reports is not."""
    if not look.rollout.plan.compares:
        return ""
    return " ".join(filter(None, (_unmet(name, look.evidence.criteria) for name in CriterionName)))


def drained(look: Look) -> str:
    """The longest call that may still be under way must have ended."""
    needed = look.rollout.drain_seconds
    if look.elapsed >= needed:
        return ""
    return f"Calls that began before may still be under way: {span(look.elapsed)} of {span(needed)} have passed."


def clock_behind(look: Look) -> str:
    """For its waiting to begin anew, the clock must be well behind the time at which the present state began."""
    behind = (look.rollout.since - look.now).total_seconds()
    return "" if behind > CLOCK_TOLERANCE else "The clock is right."


def expired(look: Look) -> bool:
    """Whether the shadow or the stage had its longest time. Time in which the challenger was unready counts. A return
    has none: that nobody decided is no reason to give users back."""
    bounded = look.rollout.plan.compares and look.rollout.state in (State.SHADOW, State.CANARY)
    return bounded and look.elapsed + look.rollout.lost >= look.rollout.waiting.longest_seconds


def span(seconds: float) -> str:
    """A time for people: 90 s, 45 min, 2.5 h, 3 days."""
    for least, size, unit in ((2 * 86_400, 86_400, "days"), (2 * 3600, 3600, "h"), (5 * 60, 60, "min")):
        if seconds >= least:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def _verdicts(look: Look, passes: Callable[[Verdict], bool]) -> str:
    of = (("Satisfaction", look.evidence.satisfaction), ("Quality", look.evidence.quality))
    return " ".join(f"{name} {_SAYS[verdict]}." for name, verdict in of if not passes(verdict))


_SAYS = {
    Verdict.UNDECIDED: "has no verdict yet",
    Verdict.INFERIOR: "is worse than the champion's",
}


def _unmet(name: CriterionName, criteria: Iterable[Criterion]) -> str:
    of = [criterion for criterion in criteria if criterion.name is name]
    if not of:
        return f"The criterion {name} was not looked at."
    return " ".join(criterion.sentence for criterion in of if criterion.outcome is not Outcome.MET)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
