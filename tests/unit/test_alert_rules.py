"""What each rule says of figures."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest

from console.logs.filters import Filters
from server.alerts.machine import Verdict
from server.alerts.reports import describe
from server.alerts.rule import Reading, Rule, Scope, worst
from server.alerts.rules import RULES
from server.analytics.figures import Granularity, Window
from server.analytics.metrics import LATENCY_BOUNDS, REWARD_BOUNDS, Histogram, Metrics

BY_NAME = {rule.name: rule for rule in RULES}
NOW = datetime(2026, 5, 1, tzinfo=UTC)
POLICY, REWARD = "policy-000001", "reward-000001"


def window(total: Metrics | None = None, **releases: Metrics) -> Window:
    """`releases` by name with underscores; `total` is their sum where it is not given."""
    named = {name.replace("_", "-"): metrics for name, metrics in releases.items()}
    whole = total or sum(named.values(), Metrics())
    return Window(NOW, NOW + timedelta(hours=1), Granularity.MINUTE, whole, (), named, 0.0)


def stars(*counts: int) -> Metrics:
    count, total = sum(counts), sum(star * number for star, number in enumerate(counts, 1))
    return Metrics(replies=count, rated_replies=count, rating_count=count, rating_sum=total, stars=counts)


def scores(bins: Mapping[int, int], release: str = REWARD) -> Metrics:
    counts = [0] * (len(REWARD_BOUNDS) + 1)
    for place, count in bins.items():
        counts[place] = count
    size = sum(counts)
    return Metrics(replies=size, rewards={release: Histogram(size * 500_000, size, tuple(counts))})


def only(rule: str, recent: Window, before: Window | None = None) -> Reading | None:
    found = list(BY_NAME[rule].readings(recent, before))
    assert len(found) < 2
    return found[0] if found else None


def test_every_rule_of_the_specification_is_there_with_its_level() -> None:
    levels = {rule.name: rule.threshold for rule in RULES}
    assert levels == {
        "safety_report": 1,
        "error_rate": 0.01,
        "rating_low": 3.5,
        "negative_spike": 1.5,
        "latency_high": 2.0,
        "feedback_rate_drop": 0.8,
        "reward_shift": 0.1,
    }
    for rule in RULES:
        assert rule.verdict(rule.threshold) is not Verdict.BEYOND, "the level itself is not beyond it"
        assert rule.verdict(rule.clear_threshold) is Verdict.BACK
        assert rule.verdict((rule.threshold + rule.clear_threshold) / 2) is Verdict.BETWEEN
        if rule.judge:
            assert rule.patience.clear > rule.patience.fire > 0


def test_a_low_average_is_beyond_and_says_so_with_figures() -> None:
    found = only("rating_low", window(policy_000001=stars(30, 10, 5, 3, 2)))
    assert found is not None
    assert (found.subject, found.sample_count, found.verdict) == (POLICY, 50, Verdict.BEYOND)
    assert found.value == pytest.approx(1.74)
    assert found.reason == (
        "The average rating of policy-000001 is 1.74 stars over the last hour (50 ratings); it should be 3.5 or more."
    )


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((0, 0, 10, 10, 0), Verdict.BETWEEN),  # 3.5 exactly
        ((0, 0, 11, 9, 0), Verdict.BEYOND),
        ((0, 0, 6, 14, 0), Verdict.BACK),  # 3.7 exactly
    ],
)
def test_between_firing_and_clearing_lies_a_gap(counts: tuple[int, ...], verdict: Verdict) -> None:
    found = only("rating_low", window(policy_000001=stars(*counts)))
    assert found is not None
    assert found.verdict is verdict


def test_too_few_samples_are_no_verdict() -> None:
    assert only("rating_low", window(policy_000001=stars(19, 0, 0, 0, 0))) is None
    assert only("error_rate", window(Metrics(calls=199, errors=199))) is None
    assert only("latency_high", window(policy_000001=latencies({15: 49}))) is None
    assert only("negative_spike", window(policy_000001=stars(19, 0, 0, 0, 0)), window(policy_000001=GOOD)) is None
    assert only("negative_spike", window(policy_000001=stars(50, 0, 0, 0, 0)), window()) is None
    assert (
        only("feedback_rate_drop", window(Metrics(replies=199)), window(Metrics(replies=9999, rated_replies=999)))
        is None
    )
    assert (
        only("feedback_rate_drop", window(Metrics(replies=999)), window(Metrics(replies=9999, rated_replies=9))) is None
    )
    assert only("reward_shift", window(reward_000001=scores({1: 199})), window(reward_000001=scores({9: 9999}))) is None
    for rule in RULES:
        assert only(rule.name, window(), window()) is None


GOOD = stars(2, 3, 10, 40, 45)


def test_releases_are_judged_one_by_one_and_no_reward_release_for_its_ratings() -> None:
    bad, good = stars(20, 0, 0, 0, 0), GOOD
    recent = window(policy_000001=good, policy_000002=bad, reward_000001=bad, odd=replace(bad, rewards={}))
    found = {each.subject: each.verdict for each in BY_NAME["rating_low"].readings(recent, None)}
    assert found == {POLICY: Verdict.BACK, "policy-000002": Verdict.BEYOND, "odd": Verdict.BEYOND}
    lowest = worst(BY_NAME["rating_low"], list(BY_NAME["rating_low"].readings(recent, None)))
    assert lowest is not None
    assert lowest.value == 1.0
    assert worst(BY_NAME["rating_low"], []) is None


def test_a_reward_release_of_any_name_is_known_by_its_scores() -> None:
    recent = window(mine=scores({3: 500}, "mine"), policy_000001=replace(scores({3: 500}, "mine"), rating_count=0))
    assert [each.subject for each in BY_NAME["reward_shift"].readings(recent, recent)] == ["mine"]


def test_more_negative_feedback_than_before_is_a_spike_when_it_is_no_chance() -> None:
    found = only("negative_spike", window(policy_000001=stars(25, 5, 5, 10, 5)), window(policy_000001=GOOD))
    assert found is not None
    assert found.verdict is Verdict.BEYOND
    assert found.value == pytest.approx((30 / 50) / (5.5 / 101))
    assert "60% of the feedback on policy-000001 is negative" in found.reason
    assert "(30 of 50), against 5% in 6 hours before" in found.reason


def test_a_large_share_that_may_be_chance_neither_fires_nor_clears() -> None:
    found = only("negative_spike", window(policy_000001=stars(2, 1, 5, 6, 6)), window(policy_000001=GOOD))
    assert found is not None
    assert found.value > 1.5
    assert found.verdict is Verdict.BETWEEN


def test_a_change_that_is_sure_but_small_is_no_spike() -> None:
    found = only(
        "negative_spike",
        window(policy_000001=stars(13_000, 0, 0, 0, 87_000)),
        window(policy_000001=stars(10_000, 0, 0, 0, 90_000)),
    )
    assert found is not None
    assert found.verdict is Verdict.BETWEEN


def test_a_release_without_a_past_is_held_to_that_of_all() -> None:
    recent = window(policy_000002=stars(15, 5, 5, 0, 0))
    found = only("negative_spike", recent, window(policy_000001=GOOD))
    assert found is not None
    assert found.verdict is Verdict.BEYOND


def test_a_feedback_with_stars_and_a_thumb_is_one_voice() -> None:
    """20 people who gave both one star and a thumb down are 20, not 40."""
    both = replace(stars(20, 0, 0, 0, 0), thumbs_down=20)
    found = only("negative_spike", window(policy_000001=both), window(policy_000001=GOOD))
    assert found is not None
    assert found.sample_count == 20


def latencies(bins: Mapping[int, int]) -> Metrics:
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    for place, count in bins.items():
        counts[place] = count
    return Metrics(replies=sum(counts), latency=Histogram(0, sum(counts), tuple(counts)))


def test_latency_is_judged_by_its_95th_percentile() -> None:
    slow = LATENCY_BOUNDS.index(3.0)
    found = only("latency_high", window(policy_000001=latencies({3: 900, slow: 100})))
    assert found is not None
    assert found.verdict is Verdict.BEYOND
    assert found.value == pytest.approx(2.5)
    found = only("latency_high", window(policy_000001=latencies({3: 960, slow: 40})))
    assert found is not None
    assert found.verdict is Verdict.BACK


def test_two_seconds_are_a_bound_of_the_bins() -> None:
    """Else the rule could not tell what lies beyond its level."""
    assert BY_NAME["latency_high"].threshold in LATENCY_BOUNDS


def test_errors_are_a_share_of_all_calls() -> None:
    found = only("error_rate", window(Metrics(calls=1000, errors=11)))
    assert found is not None
    assert (found.subject, found.verdict) == ("all", Verdict.BEYOND)
    assert "1.10% of the calls failed" in found.reason
    found = only("error_rate", window(Metrics(calls=1000, errors=10)))
    assert found is not None
    assert found.verdict is Verdict.BETWEEN


def test_less_feedback_than_before_is_a_drop_when_it_is_no_chance() -> None:
    before = window(Metrics(replies=6000, rated_replies=1200))
    verdicts = {}
    for rated in (200, 170, 150, 100, 0):
        found = only("feedback_rate_drop", window(Metrics(replies=1000, rated_replies=rated)), before)
        assert found is not None
        verdicts[rated] = found.verdict
    assert verdicts == {
        200: Verdict.BACK,
        170: Verdict.BETWEEN,
        150: Verdict.BETWEEN,  # 25 % less, and yet one time in a thousand by chance
        100: Verdict.BEYOND,
        0: Verdict.BEYOND,
    }


def test_feedback_may_outnumber_replies() -> None:
    """It counts when it was given, and comes later than its reply."""
    before = window(Metrics(replies=6000, rated_replies=1200))
    found = only("feedback_rate_drop", window(Metrics(replies=200, rated_replies=900)), before)
    assert found is not None
    assert found.verdict is Verdict.BACK


def test_scores_of_a_reward_release_are_compared_with_its_own_before_only() -> None:
    own = window(reward_000001=scores({10: 5000, 12: 5000}))
    other = window(reward_000002=scores({10: 5000, 12: 5000}, "reward-000002"))
    recent = window(reward_000001=scores({4: 300, 6: 300}))
    found = only("reward_shift", recent, own)
    assert found is not None
    assert found.verdict is Verdict.BEYOND
    assert found.value == 1.0
    assert only("reward_shift", recent, other) is None, "a swap is no shift"
    mixed = scores({10: 300, 12: 300}) + scores({1: 900}, "reward-000002")
    found = only("reward_shift", window(reward_000001=mixed), own)
    assert found is not None
    assert (found.value, found.sample_count) == (0.0, 600), "another release's scores do not count"


def test_equal_distributions_of_few_scores_clear_although_they_lie_apart() -> None:
    own = window(reward_000001=scores({10: 5000, 12: 5000}))
    found = only("reward_shift", window(reward_000001=scores({10: 115, 12: 85})), own)
    assert found is not None
    assert found.value > BY_NAME["reward_shift"].clear_threshold
    assert found.verdict is Verdict.BACK


def test_links_lead_to_what_an_alert_is_about() -> None:
    links = {rule.name: rule.link_to("all" if rule.scope is Scope.ALL else "policy-1 &x") for rule in RULES}
    assert links["rating_low"] == "/conversations?release=policy-1+%26x&rating=1-2"
    assert links["safety_report"] == "/conversations?release=policy-1+%26x&flag=safety_reported"
    assert links["error_rate"] == "/live"


def test_safety_reports_are_counted_by_category() -> None:
    assert describe(POLICY, {"toxic": 1}).reason == ("There is 1 safety report on replies of policy-000001 (toxic 1).")
    found = describe(POLICY, {"toxic": 2, "privacy": 1})
    assert (found.value, found.sample_count, found.rule) == (3, 3, "safety_report")
    assert "are 3 safety reports on replies of policy-000001 (privacy 1, toxic 2)" in found.reason
    none = describe(POLICY, {})
    assert (none.reason, none.value) == ("All safety reports on replies of policy-000001 were withdrawn.", 0)


def test_a_rule_is_one_entry() -> None:
    """What is added to the list is evaluated like the others: rules are data."""

    def judge(rule: Rule, seen: object) -> Reading:
        return Reading("all", 7.0, 1, rule.verdict(7.0), "seven")

    added = replace(BY_NAME["error_rate"], name="seven", judge=judge)
    assert [each.verdict for each in added.readings(window(), None)] == [Verdict.BEYOND]


def test_the_console_understands_the_links() -> None:
    """An address of the page Conversations that it would read otherwise leads elsewhere."""
    links = [rule.link_to("policy-1") for rule in RULES if rule.page == "/conversations"]
    assert len(links) == 4
    for link in links:
        given = dict(parse_qsl(urlsplit(link).query))
        assert {name: value for name, value in asdict(Filters.of(given)).items() if value} == given
