"""What each rule says of figures: a reading, or None for too few samples. Pure.

What is compared with the time before must be a large change and one that chance hardly makes.
"""

from server.alerts import statistics
from server.alerts.machine import Verdict
from server.alerts.rule import HOUR, MINUTE, Evidence, Reading, Rule
from server.analytics.metrics import LATENCY_BOUNDS, Histogram, Metrics

ALPHA = 1e-4
"""Probability by chance below which a change counts: each rule looks thousands of times a day, at windows that
overlap."""
LIKELY = 0.05
"""Probability by chance above which two distributions count as alike again."""
FEW = 10
"""Events below which a rate says nothing."""


def rating(rule: Rule, seen: Evidence) -> Reading | None:
    """The mean of the stars."""
    recent = seen.recent
    if recent.rating_count < rule.minimum_samples:
        return None
    mean = recent.rating_mean
    reason = (
        f"The average rating of {seen.subject} is {mean:.2f} stars over {_span(rule.window_seconds)}"
        f" ({recent.rating_count:,} ratings); it should be {rule.threshold:g} or more."
    )
    return Reading(seen.subject, mean, recent.rating_count, rule.verdict(mean), reason)


def negative(rule: Rule, seen: Evidence) -> Reading | None:
    """Fisher's exact test on the share of negative voices. A release without a past is held to that of all."""
    bad, voices = _voices(seen.recent)
    bad_before, voices_before = _voices(seen.before)
    if voices_before < rule.minimum_samples:
        bad_before, voices_before = _voices(seen.before_all)
    if min(voices, voices_before) < rule.minimum_samples:
        return None
    share, usual = bad / voices, (bad_before + 0.5) / (voices_before + 1)  # never a share of 0 to divide by
    chance = statistics.hypergeometric_upper(bad, voices, bad + bad_before, voices + voices_before)
    reason = (
        f"{share:.0%} of the feedback on {seen.subject} is negative over {_span(rule.window_seconds)} ({bad:,} of"
        f" {voices:,}), against {bad_before / voices_before:.0%} in {_span(rule.baseline_seconds)} before;"
        f" the probability by chance is {chance:.1g}."
    )
    return Reading(seen.subject, share / usual, voices, _if_unlikely(rule.verdict(share / usual), chance), reason)


def _voices(metrics: Metrics) -> tuple[int, int]:
    """Negative feedback (1 and 2 stars, thumbs down), and all that says good or bad.

    Feedback with stars and a thumb is one voice: counts are brought down to the number of ratings.
    """
    bad = metrics.stars[0] + metrics.stars[1] + metrics.thumbs_down
    votes = metrics.rating_count + metrics.thumbs_up + metrics.thumbs_down + metrics.thumbs_neutral
    part = min(1.0, metrics.rated_replies / votes) if votes else 0.0
    return round(bad * part), round(votes * part)


def latency(rule: Rule, seen: Evidence) -> Reading | None:
    """The 95th percentile of the time from request to reply."""
    latency = seen.recent.latency
    if latency.count < rule.minimum_samples:
        return None
    slow = statistics.quantile(0.95, LATENCY_BOUNDS, latency.bins)
    reason = (
        f"95 % of the replies of {seen.subject} take up to {slow:.2f} s over {_span(rule.window_seconds)}"
        f" ({latency.count:,} replies); it should be {rule.threshold:g} s or less."
    )
    return Reading(seen.subject, slow, latency.count, rule.verdict(slow), reason)


def feedback_rate(rule: Rule, seen: Evidence) -> Reading | None:
    """Compares two Poisson rates, feedback by reply: feedback comes later than its reply, so it may outnumber those."""
    recent, before = seen.recent, seen.before
    if min(recent.replies, before.replies) < rule.minimum_samples or before.rated_replies < FEW:
        return None
    rate, usual = recent.rated_replies / recent.replies, before.rated_replies / before.replies
    chance = statistics.poisson_rate_lower(recent.rated_replies, recent.replies, before.rated_replies, before.replies)
    reason = (
        f"{rate:.1%} of the replies got feedback over {_span(rule.window_seconds)} ({recent.rated_replies:,} of"
        f" {recent.replies:,}), against {usual:.1%} in {_span(rule.baseline_seconds)} before;"
        f" the probability by chance is {chance:.1g}."
    )
    value = rate / usual
    return Reading(seen.subject, value, recent.replies, _if_unlikely(rule.verdict(value), chance), reason)


def reward(rule: Rule, seen: Evidence) -> Reading | None:
    """Kolmogorov and Smirnov's test on the scores of one reward release now and before: never of two releases."""
    nothing = Histogram()
    recent, before = (each.rewards.get(seen.subject, nothing) for each in (seen.recent, seen.before))
    if min(recent.count, before.count) < rule.minimum_samples:
        return None
    distance, chance = statistics.kolmogorov_smirnov(recent.bins, before.bins)
    reason = (
        f"The scores of {seen.subject} average {recent.mean:.3f} over {_span(rule.window_seconds)} ({recent.count:,}"
        f" scores), against {before.mean:.3f} in {_span(rule.baseline_seconds)} before: the distributions are"
        f" {distance:.3f} apart, and the probability by chance is {chance:.1g}."
    )
    verdict = _if_unlikely(rule.verdict(distance), chance)
    if chance > LIKELY:  # of few scores, even equal distributions are some way apart
        verdict = Verdict.BACK
    return Reading(seen.subject, distance, recent.count, verdict, reason)


def errors(rule: Rule, seen: Evidence) -> Reading | None:
    """The share of calls that failed by an error of ours."""
    calls, errors = seen.recent.calls, seen.recent.errors
    if calls < rule.minimum_samples:
        return None
    rate = errors / calls
    reason = (
        f"{rate:.2%} of the calls failed by an error of the server over {_span(rule.window_seconds)} ({errors:,} of"
        f" {calls:,}); it should be {rule.threshold:.0%} or less."
    )
    return Reading(seen.subject, rate, calls, rule.verdict(rate), reason)


def _if_unlikely(verdict: Verdict, chance: float) -> Verdict:
    """A large change that may well be chance is no reason to fire, nor to clear."""
    return Verdict.BETWEEN if verdict is Verdict.BEYOND and chance >= ALPHA else verdict


def _span(seconds: float) -> str:
    for unit, size in (("hour", HOUR), ("minute", MINUTE)):
        if seconds >= size and seconds % size == 0:
            count = round(seconds / size)
            return f"the last {unit}" if count == 1 else f"{count} {unit}s"
    return f"{seconds:g} s"
