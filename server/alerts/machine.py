"""How one rule stands for one subject: quiet -> pending -> firing -> clearing -> quiet. Pure.

A look without a verdict (too little data) keeps the state, and its time counts for nothing; what fires, and got no
verdict for very long, ends. A clock that goes backwards counts for nothing either.
"""

from dataclasses import dataclass, replace
from enum import Enum, StrEnum


class Verdict(Enum):
    """What one look says: the value is beyond its level, back where the alert clears, or in between."""

    BEYOND = "beyond"
    BETWEEN = "between"
    BACK = "back"


class Phase(StrEnum):
    """PENDING: beyond, not yet for long enough. CLEARING: firing still, back, not yet for long enough."""

    QUIET = "quiet"
    PENDING = "pending"
    FIRING = "firing"
    CLEARING = "clearing"


@dataclass(frozen=True, slots=True)
class Standing:
    """A phase. In PENDING and CLEARING the cause has been there, or gone, for `held` seconds, as was `seen` last.

    What fires had no verdict for `silent` seconds, as was `missed` last.
    """

    phase: Phase = Phase.QUIET
    held: float = 0.0
    seen: float | None = None
    silent: float = 0.0
    missed: float | None = None

    @property
    def fires(self) -> bool:
        """Whether there is an alert."""
        return self.phase in (Phase.FIRING, Phase.CLEARING)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a cause must be there before it fires, and be gone before that clears; and `silence` after which
    what fires ends because nothing could be said of it."""

    fire: float
    clear: float
    silence: float = 6 * 3600.0


QUIET = Standing()
FIRING = Standing(Phase.FIRING)


def advance(standing: Standing, verdict: Verdict | None, now: float, patience: Patience) -> Standing:
    """How it stands after one more look, at `now` seconds of any clock."""
    if verdict is None:
        return _wait_for_data(standing, now, patience.silence)
    if standing.fires:
        moved = verdict is Verdict.BACK
        return _wait(standing, now, Phase.CLEARING, QUIET, patience.clear) if moved else FIRING
    moved = verdict is Verdict.BEYOND
    return _wait(standing, now, Phase.PENDING, FIRING, patience.fire) if moved else QUIET


def interrupted(standing: Standing) -> Standing:
    """How it stands after a time in which nobody looked: until the next look, none of it counts."""
    return replace(standing, seen=None, missed=None)


def _wait_for_data(standing: Standing, now: float, longest: float) -> Standing:
    if not standing.fires:
        return Standing(standing.phase, standing.held)
    silent = standing.silent
    if standing.missed is not None:
        silent += max(0.0, now - standing.missed)
    return QUIET if silent >= longest else Standing(standing.phase, standing.held, None, silent, now)


def _wait(standing: Standing, now: float, waiting: Phase, then: Standing, needed: float) -> Standing:
    """Waits in a phase until it was `needed` seconds long."""
    began = standing.phase is waiting
    held = standing.held if began else 0.0
    if began and standing.seen is not None:
        held += max(0.0, now - standing.seen)
    return then if held >= needed else Standing(waiting, held, now)
