"""How long until a stage of a trial may pass, should effects and pace stay what they are. A guess, for people. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from server.rollout.statistics import criteria, findings
from server.rollout.statistics.boundary import Boundary
from server.rollout.statistics.estimates import estimate
from server.rollout.statistics.findings import State
from server.rollout.statistics.intervals import steadied
from server.rollout.statistics.outcomes import Outcomes, gather
from server.rollout.statistics.verdicts import Pace, Verdict, horizon
from server.rollout.trial import Trial

DAY = 86_400.0
_PASSES = (Verdict.NON_INFERIOR, Verdict.SUPERIOR)


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """What is still to be shown of one outcome: that it is on the good side of `target`, a part of the champion's. Of
    a quantile, `line` has the limits, and the mean's users tell how they narrow."""

    outcomes: Outcomes
    target: float
    proportion: bool = True
    line: findings.Criterion | None = None


def days_left(
    trial: Trial,
    evidence: criteria.Evidence,
    asked: Sequence[findings.Criterion],
    rated: tuple[int, int],
    elapsed: float,
    boundary: Boundary,
) -> float | None:
    """Days until its time, its samples and all that it must show are there. `asked`: the success criteria as they
    stand, `rated`: users of the stage by arm, `elapsed`: seconds of the stage.

    None where that can't be told, or where it never comes as things are.
    """
    if elapsed <= 0 or not min(rated):
        return None
    shown = _until_shown(trial, evidence, asked, elapsed, boundary)
    if shown is None:
        return None
    samples = (trial.waiting.minimum_samples / min(rated) - 1) * elapsed
    return max(shown, samples / DAY, (trial.waiting.minimum_seconds - elapsed) / DAY, 0.0)


def _until_shown(
    trial: Trial,
    evidence: criteria.Evidence,
    asked: Sequence[findings.Criterion],
    elapsed: float,
    boundary: Boundary,
) -> float | None:
    wanted = _of_criteria(trial, evidence, asked) if trial.is_last_stage else _of_stage(trial, evidence, boundary)
    if wanted is None:
        return None
    days = [_days(each, trial.stage, elapsed, boundary) for each in wanted]
    known = [each for each in days if each]  # of what is open, 0 is no answer
    return max(known, default=0.0) if len(known) == len(days) else None


def _of_stage(trial: Trial, evidence: criteria.Evidence, boundary: Boundary) -> list[_Wanted]:
    margin = trial.plan.goals.margin
    both = evidence.satisfaction, evidence.quality
    return [_Wanted(each, -margin) for each in both if criteria.kept(each, margin, boundary).verdict not in _PASSES]


def _of_criteria(
    trial: Trial, evidence: criteria.Evidence, asked: Sequence[findings.Criterion]
) -> list[_Wanted] | None:
    """None where one is missed, or would be as it is estimated. That there are no reports is said once means are."""
    goals, wanted = trial.plan.goals, []
    for line in asked:
        if line.state is State.MISSED or (line.name == "satisfaction" and (line.value or 0.0) < goals.gain):
            return None
        if line.state is State.MET or line.name == "safety":
            continue
        if line.name == "latency":
            wanted.append(_latency(line, evidence, goals.slower))
        else:
            ours = line.name == "satisfaction"
            wanted.append(_Wanted(evidence.satisfaction, 0.0) if ours else _Wanted(evidence.quality, -goals.margin))
    return wanted


def _latency(line: findings.Criterion, evidence: criteria.Evidence, most: float) -> _Wanted:
    name = next(name for name in evidence.latencies if line.subject.endswith(f"({name})"))
    outcomes, mean = evidence.latencies[name].outcomes(), line.subject.startswith("Mean")
    return _Wanted(outcomes, most, proportion=False, line=None if mean else line)


def _days(wanted: _Wanted, stage: int, elapsed: float, boundary: Boundary) -> float | None:
    outcomes = wanted.outcomes
    here = (outcomes.stratum == stage) & (outcomes.count > 0)
    users, own = (len(np.unique(outcomes.user[rows])) for rows in (here, here & outcomes.challenger))
    if not 0 < own < users:
        return None
    pace, known = Pace(users / elapsed * DAY, own / users), estimate(gather(outcomes))
    if wanted.line:
        return _narrowed(
            wanted.line, wanted.target, float(known.effective) / (pace.users * pace.share * (1 - pace.share))
        )
    known = steadied(known) if wanted.proportion else known
    found = horizon(known, boundary, pace, target=wanted.target, proportion=wanted.proportion)
    return found.days if found else None


def _narrowed(line: findings.Criterion, most: float, days: float) -> float | None:
    """Days until the upper limit is below, where the data are of so many: it narrows by the root of them."""
    if line.value is None or line.upper is None or line.value >= most:
        return None
    return max(0.0, ((line.upper - line.value) / (most - line.value)) ** 2 - 1) * days
