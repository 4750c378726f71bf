"""The rules, each one small object: what it watches, when it fires and when it clears. A new one is one more entry.

Those with a fixed level (ratings, latency, errors) hold it for some time; those that compare with the time before ask a
test whether the change is more than chance, and for a least size. Too few samples give no verdict at all.
"""

from server.alerts import judges
from server.alerts.machine import Patience
from server.alerts.rule import DAY, HOUR, MINUTE, Rule, Scope, Severity

SAFETY_REPORT = Rule(
    name="safety_report",
    description="Somebody reported a reply as unsafe.",
    severity=Severity.CRITICAL,
    scope=Scope.POLICY,
    threshold=1,
    clear_threshold=0,
    minimum_samples=1,
    patience=Patience(fire=0, clear=0),
    window_seconds=0,
    link={"flag": "safety_reported"},
    judge=None,
)
"""Fires at `threshold` reports; an acknowledgement resolves it, and so does the withdrawal of all of them."""

RULES = (
    SAFETY_REPORT,
    Rule(
        name="error_rate",
        description="More than 1 % of the calls fail by an error of the server.",
        severity=Severity.CRITICAL,
        scope=Scope.ALL,
        threshold=0.01,
        clear_threshold=0.005,
        minimum_samples=200,
        patience=Patience(fire=60, clear=300),
        window_seconds=10 * MINUTE,
        link={},
        judge=judges.errors,
        page="/live",
    ),
    Rule(
        name="rating_low",
        description="The average rating of a policy release is below 3.5 stars.",
        severity=Severity.WARNING,
        scope=Scope.POLICY,
        threshold=3.5,
        clear_threshold=3.7,
        minimum_samples=20,
        patience=Patience(fire=60, clear=300),
        window_seconds=HOUR,
        link={"rating": "1-2"},
        judge=judges.rating,
    ),
    Rule(
        name="negative_spike",
        description="Much more of the feedback on a policy release is negative than before.",
        severity=Severity.CRITICAL,
        scope=Scope.POLICY,
        threshold=1.5,
        clear_threshold=1.2,
        minimum_samples=20,
        patience=Patience(fire=30, clear=300),
        window_seconds=15 * MINUTE,
        baseline_seconds=6 * HOUR,
        link={"rating": "1-2"},
        judge=judges.negative,
    ),
    Rule(
        name="latency_high",
        description="More than 5 % of the replies of a policy release take longer than 2 seconds.",
        severity=Severity.WARNING,
        scope=Scope.POLICY,
        threshold=2.0,
        clear_threshold=1.8,
        minimum_samples=50,
        patience=Patience(fire=60, clear=300),
        window_seconds=10 * MINUTE,
        link={},
        judge=judges.latency,
        page="/live",
    ),
    Rule(
        name="feedback_rate_drop",
        description="Users give feedback on over 20 % fewer of the replies than before.",
        severity=Severity.WARNING,
        scope=Scope.ALL,
        threshold=0.8,
        clear_threshold=0.9,
        minimum_samples=200,
        patience=Patience(fire=300, clear=600),
        window_seconds=HOUR,
        baseline_seconds=6 * HOUR,
        link={},
        judge=judges.feedback_rate,
        page="/live",
    ),
    Rule(
        name="reward_shift",
        description="The scores of a reward release are distributed otherwise than on the day before.",
        severity=Severity.WARNING,
        scope=Scope.REWARD,
        threshold=0.1,
        clear_threshold=0.06,
        minimum_samples=200,
        patience=Patience(fire=300, clear=600),
        window_seconds=HOUR,
        baseline_seconds=DAY,
        link={},
        judge=judges.reward,
    ),
)
"""In the order in which they are evaluated."""
