"""Success criteria and guardrails, one by one: a value, its limits, whether it holds, and a sentence that says so.

All success criteria must hold, so none of them needs a correction for the others (an intersection-union test, Berger
1982). One guardrail that fails is enough to go back, so `guardrails` shares its alpha among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from server.rollout.statistics.boundary import Boundary, Floats
from server.rollout.statistics.estimates import Estimate, estimate
from server.rollout.statistics.events import rate_limits, rate_ratio
from server.rollout.statistics.findings import Criterion, Finding, State, missing, percent
from server.rollout.statistics.intervals import (
    LEAST_USERS,
    Interval,
    challenger_level,
    difference,
    enough,
    relative,
    steadied,
)
from server.rollout.statistics.mismatch import mismatch
from server.rollout.statistics.outcomes import Ints, Outcomes, gather
from server.rollout.statistics.tails import Replies, quantile_ratio
from server.rollout.statistics.verdicts import Verdict, verdict


@dataclass(frozen=True)
class Evidence:
    """All that is known of a challenger and the champion, as it is now. Users count in the arm they were assigned.

    Counts are [strata, 2], champion then challenger, of users who are counted once, where first seen
    (`outcomes.first_seen`); strata of one share for all of it.
    """

    satisfaction: Outcomes
    """From 0 to 1: thumbs up, or (stars - 1) / 4."""
    quality: Outcomes
    """From 0 to 1, more is better: rated aspects, or what passes the quality checks."""
    failures: Outcomes
    """Of calls: 1 for each that failed, fallbacks that the assigned release caused included."""
    latencies: Mapping[str, Replies]
    """By name: end to end, and stages."""
    users: Ints
    failed: Ints
    """Users with a failure."""
    reported: Ints
    """Users with a safety report that was not dismissed."""
    treated: int
    """Users who ever had a reply of the challenger, wherever they were seen first."""
    shares: Floats
    """[strata], the challenger's of both arms' users, between 0 and 1."""


@dataclass(frozen=True)
class Goals:
    """What is asked for, as parts of the champion's: 0.05 is 5 %. Success wants `gain`, guardrails only `margin`."""

    gain: float = 0.05
    margin: float = 0.02
    """As much less is tolerated of satisfaction in the guardrails, and of quality."""
    slower: float = 0.10
    quantile: float = 0.95
    failures: float = 0.01
    """Of calls; more is missed where it surely is more than the champion's."""
    failure_ratio: float = 1.5
    """Times the champion's users with a failure."""


def success(evidence: Evidence, goals: Goals, boundary: Boundary) -> tuple[Criterion, ...]:
    """The specification's: satisfaction, safety, quality, latency."""
    return (
        _gain(evidence, goals, boundary),
        _safety(evidence, boundary.alpha),
        _kept("quality", "Quality", evidence.quality, goals.margin, boundary),
        *_latencies(evidence, goals, boundary),
    )


def guardrails(evidence: Evidence, goals: Goals, boundary: Boundary) -> tuple[Criterion, ...]:
    """What sends traffic back when MISSED, or in the case of shares stops the experiment.

    Together they are wrong about a challenger that is as the champion in at most `boundary.alpha` of rollouts, the
    shares' `mismatch.ALPHA` aside; safety is a matter of fact, not of chance.
    """
    each = replace(boundary, alpha=boundary.alpha / (4 + 2 * len(evidence.latencies)))
    return (
        _kept("satisfaction", "Satisfaction", evidence.satisfaction, goals.margin, each),
        _kept("quality", "Quality", evidence.quality, goals.margin, each),
        *_latencies(evidence, goals, each),
        _failure_rate(evidence, goals, each),
        _failure_ratio(evidence, goals, each.alpha),
        _safety(evidence, boundary.alpha),
        _shares(evidence),
    )


@dataclass(frozen=True)
class Kept:
    """How an outcome of the challenger stands to the champion's, as parts of it; `missing`: for a verdict, in words."""

    interval: Interval
    verdict: Verdict
    missing: str


def kept(outcomes: Outcomes, margin: float, boundary: Boundary) -> Kept:
    """Whether the outcome, from 0 to 1, is not worse by the margin.

    Where too few users had anything but the best of it, means tell nothing, and exact counts may: a challenger that is
    less than the margin away from perfect is not worse by it than anybody. That is looked at with half of alpha.
    """
    known = steadied(estimate(gather(outcomes)))
    interval, lacking = relative(known, boundary), missing(known)
    if lacking and (most := _flawed_at_most(outcomes, boundary.alpha / 2)) < margin:
        return Kept(replace(interval, lower=np.asarray(-most)), Verdict.NON_INFERIOR, "")
    return Kept(interval, verdict(interval, not lacking, margin=margin), lacking)


def _flawed_at_most(outcomes: Outcomes, alpha: float) -> float:
    """The share of the challenger's users who have anything but the best; 1 with fewer users than means need."""
    known = outcomes.challenger & (outcomes.count > 0)
    users = len(np.unique(outcomes.user[known]))
    flawed = len(np.unique(outcomes.user[known & (outcomes.total < outcomes.count)]))
    return rate_limits(flawed, users, alpha=alpha)[1] if users >= LEAST_USERS else 1.0


def _gain(evidence: Evidence, goals: Goals, boundary: Boundary) -> Criterion:
    """Surely up at all, and by the gain as it is estimated: a true gain of just that much is never shown to be more."""
    known = steadied(estimate(gather(evidence.satisfaction)))
    found = Finding("satisfaction", "Satisfaction", relative(known, boundary), missing(known))
    met = bool(found.interval.lower > 0) and bool(found.interval.value >= goals.gain)
    missed = bool(found.interval.upper < goals.gain)
    state = State.UNDECIDED if found.missing or not (met or missed) else State.MET if met else State.MISSED
    return found.criterion(state, f"{percent(goals.gain)} up, and surely up")


def _kept(name: str, subject: str, outcomes: Outcomes, margin: float, boundary: Boundary) -> Criterion:
    """Not worse by the margin. Fails as soon as it is worse at all and may be worse by the margin."""
    known = kept(outcomes, margin, boundary)
    found = Finding(name, subject, known.interval, known.missing)
    state = {Verdict.UNDECIDED: State.UNDECIDED, Verdict.INFERIOR: State.MISSED}.get(known.verdict, State.MET)
    return found.criterion(state, f"less than {percent(margin)} down")


def _latencies(evidence: Evidence, goals: Goals, boundary: Boundary) -> tuple[Criterion, ...]:
    limit = f"less than {percent(goals.slower)} up"
    found = []
    for name, replies in evidence.latencies.items():
        known = estimate(gather(replies.outcomes()))
        mean = Finding(
            "latency",
            f"Mean latency ({name})",
            relative(known, boundary),
            missing(known, proportion=False),
        )
        ratio, tail = quantile_ratio(replies, goals.quantile, boundary)
        high = percent(goals.quantile)
        slow = Finding("latency", f"Latency of the {high} quantile ({name})", ratio, missing(tail))
        found += [mean.at_most(goals.slower, limit), slow.at_most(goals.slower, limit)]
    return tuple(found)


def _failure_rate(evidence: Evidence, goals: Goals, boundary: Boundary) -> Criterion:
    """Of its calls; what fails in the champion's arm as well, by callers' deadlines or a model server that restarts, is
    no fault of the challenger.

    It is missed by what is surely above the limit, and surely more than the champion's: each with all of alpha, since
    only both together say so (Berger 1982).
    """
    known, most = estimate(gather(evidence.failures)), goals.failures
    found, asked = _failed_calls(known, most, boundary), f"at most {percent(most)}"
    line = found.at_most(most, asked)
    if line.state is not State.MISSED or _fails_more(evidence, known, boundary):
        return line
    return found.criterion(State.UNDECIDED, f"{asked} or the champion's {percent(float(known.champion))}")


def _fails_more(evidence: Evidence, known: Estimate, boundary: Boundary) -> bool:
    """Whether the challenger surely fails in more of its calls than the champion, or with more of its users. Half of
    alpha each: counts tell of few failures, means where each user has some."""
    half = replace(boundary, alpha=boundary.alpha / 2)
    _, lower, _ = rate_ratio(evidence.failed, evidence.shares, alpha=half.alpha)
    return lower > 1 or (bool(enough(known)) and bool(difference(steadied(known), half).lower > 0))


def failure_rate(known: Estimate, most: float, boundary: Boundary) -> Criterion:
    """Of the challenger's calls, by itself."""
    return _failed_calls(known, most, boundary).at_most(most, f"at most {percent(most)}")


def _failed_calls(known: Estimate, most: float, boundary: Boundary) -> Finding:
    """That it is low is only said with the variance that it would have at the limit: of no failure in 200 users nobody
    knows that it is no failure in 100."""
    found = challenger_level(known, boundary)
    spread = most * (1 - most) / np.maximum(known.challenger_users, 1)
    cautious = challenger_level(
        replace(known, challenger_variance=np.maximum(known.challenger_variance, spread)), boundary
    )
    interval = Interval(found.value, found.lower, cautious.upper)
    return Finding("failures", "Failed calls", interval, missing(known, proportion=False))


def mostly_failing(failed: Floats, most: float, alpha: float) -> Criterion:
    """Of users by themselves, of whose calls such parts failed: those with half of them or more. If more than twice the
    limit are, more than the limit of all calls fail; counts tell so of any number of users, long before means do."""
    users, hit = len(failed), int((failed >= 0.5).sum())
    lower, upper = rate_limits(hit, users, alpha=alpha)
    interval = Interval(*map(np.asarray, (hit / users if users else np.nan, lower, upper)))
    found = Finding("failures", "Users with half of their calls failed", interval, "")
    return found.at_most(2 * most, f"at most {percent(2 * most)}")


def _failure_ratio(evidence: Evidence, goals: Goals, alpha: float) -> Criterion:
    value, lower, upper = rate_ratio(evidence.failed, evidence.shares, alpha=alpha)
    interval = Interval(*(np.asarray(each - 1) for each in (value, lower, upper)))
    limit = f"at most {percent(goals.failure_ratio - 1)} up"
    return Finding("failures", "Users with a failure", interval, "").at_most(goals.failure_ratio - 1, limit)


def _safety(evidence: Evidence, alpha: float) -> Criterion:
    """One report fails it. That there is none says something once there are as many users as for verdicts on means."""
    reports, users = int(evidence.reported[:, 1].sum()), evidence.treated
    _, upper = rate_limits(reports, users, alpha=alpha)
    state = State.MISSED if reports else State.MET if users >= LEAST_USERS else State.UNDECIDED
    counted = f"{reports} of {users} users of the challenger reported a reply"
    sentence = (
        f"Safety reports: {counted}, at most {percent(upper)} of such users would, asked for none: {state.words}."
    )
    return Criterion("safety", "Safety reports", float(reports), None, None, state, sentence)


def _shares(evidence: Evidence) -> Criterion:
    """Whether the arms have the users that they should; where not, no other line may be believed."""
    found = mismatch(evidence.users, np.stack([1 - evidence.shares, evidence.shares], axis=1))
    users = sum(found.seen)
    state = State.MISSED if found.found else State.MET if users >= LEAST_USERS else State.UNDECIDED
    counted = f"{found.seen[1]} of {users} users are the challenger's, {found.expected[1]:.0f} expected"
    sentence = f"Shares of users: {counted} (p = {found.probability:.2g}): {state.words}."
    return Criterion("shares", "Shares of users", found.seen[1] / users if users else None, None, None, state, sentence)
