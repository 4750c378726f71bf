"""What replies and feedback add to the live counters."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.analytics import decoding
from server.analytics.contributions import (
    Bucket,
    Increments,
    LoggedReply,
    Revision,
    Said,
    buckets,
    contribution,
    of_feedback,
)
from server.analytics.figures import LATENCY_BOUNDS, Granularity, Histogram, Metrics, Sum, starts_of

AT = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
REPLY = LoggedReply(
    tenant_id="t",
    at=AT,
    policy_release="policy-000001",
    reward_release="reward-000001",
    reward_score=0.72,
    refused=False,
    degraded=True,
    total_seconds=0.25,
    stages=(("context", 0.001), ("candidates", 0.2)),
)
STARS = st.none() | st.integers(1, 5)
DIMENSIONS = st.dictionaries(st.sampled_from(["accuracy", "helpfulness", "clarity", "safety"]), st.integers(1, 5))
SAID = st.builds(
    Said,
    kind=st.just("rating"),
    stars=STARS,
    dimensions=DIMENSIONS,
    commented=st.booleans(),
    reaction=st.none() | st.sampled_from(["thumbs_up", "thumbs_down", "neutral"]),
    withdrawn=st.booleans(),
)


def revisions(sayings: list[Said]) -> list[Revision]:
    first = Revision("t", AT, "policy-000001", "reward-000001", None, sayings[0])
    later = [replace(first, before=a, after=b) for a, b in pairwise(sayings)]
    return [first, *later]


def counted(events: list[LoggedReply | Revision], now: float = 0.0) -> dict[Bucket, dict[str, int]]:
    increments = Increments(now)
    increments.add(events)
    return dict(increments.items())


@settings(max_examples=25)
@given(st.lists(SAID, min_size=1, max_size=8))
def test_submits_edits_withdrawals_and_revivals_add_up_to_what_is_said_in_the_end(sayings: list[Said]) -> None:
    assert counted([*revisions(sayings)]) == counted([*revisions([sayings[-1]])])


@settings(max_examples=20)
@given(st.lists(st.lists(SAID, min_size=1, max_size=4), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_the_order_in_which_revisions_are_counted_does_not_matter(feedback: list[list[Said]], random: object) -> None:
    events: list[LoggedReply | Revision] = [each for sayings in feedback for each in revisions(sayings)]
    expected = counted(events)
    random.shuffle(events)  # type: ignore[attr-defined]
    assert counted(events) == expected


def test_a_withdrawn_feedback_counts_nowhere() -> None:
    said = Said("rating", 5, {"accuracy": 4}, True, "thumbs_up")
    assert counted([*revisions([said, replace(said, withdrawn=True)])]) == {}


def test_an_edit_moves_what_it_changes_in_the_bucket_of_the_first_submission() -> None:
    change = revisions([Said("rating", 1, reaction="thumbs_down"), Said("rating", 4, reaction="thumbs_down")])[1]
    assert contribution(change) == {"star.1": -1, "star.4": 1}
    assert {bucket.start for bucket in counted([change])} == {
        bucket.start for bucket in buckets("t", int(AT.timestamp()))
    }


def test_safety_reports_and_preferences_count_by_themselves() -> None:
    assert of_feedback(Said("safety_report", commented=True)) == {"safety": 1}
    assert of_feedback(Said("preference")) == {"preferences": 1}


def test_a_reply_counts_in_its_minute_hour_and_day_by_both_releases() -> None:
    found = counted([REPLY])
    assert {(bucket.granularity, datetime.fromtimestamp(bucket.start, UTC).isoformat()) for bucket in found} == {
        (Granularity.MINUTE, "2026-03-01T23:59:00+00:00"),
        (Granularity.HOUR, "2026-03-01T23:00:00+00:00"),
        (Granularity.DAY, "2026-03-01T00:00:00+00:00"),
    }
    for fields in found.values():
        metrics = decoding.metrics_of(fields)
        assert metrics.replies == metrics.degraded == 1
        assert metrics.refused == 0
        assert metrics.latency.sum == 0.25
        assert metrics.rewards["reward-000001"].millionths == 720_000
        assert metrics.stages == {"context": Sum(1000, 1), "candidates": Sum(200_000, 1)}
        assert decoding.by_release(fields) == {"policy-000001": metrics, "reward-000001": metrics}
        assert decoding.only("reward-000002", fields) == {}


@pytest.mark.parametrize(("seconds", "place"), [(0.0, 0), (0.05, 0), (0.0500001, 1), (60.0, 15), (61.0, 16)])
def test_a_latency_falls_into_the_bin_whose_bound_it_does_not_exceed(seconds: float, place: int) -> None:
    latency = decoding.metrics_of(next(iter(counted([replace(REPLY, total_seconds=seconds)]).values()))).latency
    assert latency.bins[place] == latency.count == sum(latency.bins) == 1
    assert len(latency.bins) == len(LATENCY_BOUNDS) + 1


def test_a_reply_without_a_score_has_no_reward() -> None:
    metrics = decoding.metrics_of(next(iter(counted([replace(REPLY, reward_score=None)]).values())))
    assert metrics.rewards == {}
    assert metrics.reward_bins == ()


def test_what_would_have_expired_is_left_out() -> None:
    found = counted([REPLY], now=(AT + timedelta(days=3)).timestamp())
    assert {bucket.granularity for bucket in found} == {Granularity.HOUR, Granularity.DAY}
    assert counted([REPLY], now=(AT + timedelta(days=900)).timestamp()) == {}


def test_the_name_of_a_release_can_not_spell_another_field() -> None:
    odd = replace(REPLY, policy_release="p\treward-000009\nn")
    assert set(decoding.by_release(counted([odd])[buckets("t", int(AT.timestamp()))[0]])) == {
        "p reward-000009 n",
        "reward-000001",
    }


@settings(max_examples=20)
@given(st.lists(st.builds(Said, kind=st.just("rating"), stars=STARS, dimensions=DIMENSIONS), max_size=5))
def test_figures_of_two_times_add_up_to_those_of_both(sayings: list[Said]) -> None:
    parts = [counted([*revisions([said]), REPLY])[buckets("t", int(AT.timestamp()))[0]] for said in sayings]
    whole = decoding.metrics_of(decoding.merged(parts))
    assert sum((decoding.metrics_of(part) for part in parts), Metrics()) == whole


def test_bins_of_nothing_add_nothing() -> None:
    some = Histogram(5, 2, (1, 1))
    assert some + Histogram() == Histogram() + some == some


def test_a_window_ends_with_the_bucket_that_is_under_way() -> None:
    until = datetime(2026, 3, 1, 12, 34, 20, tzinfo=UTC)
    starts = starts_of(until, 3600, Granularity.MINUTE)
    assert len(starts) == 60
    assert datetime.fromtimestamp(starts[-1], UTC) == datetime(2026, 3, 1, 12, 34, tzinfo=UTC)
    assert datetime.fromtimestamp(starts[0], UTC) == datetime(2026, 3, 1, 11, 35, tzinfo=UTC)
    assert len(starts_of(until, 1, Granularity.DAY)) == 1
    assert len(starts_of(until, 1e9, Granularity.MINUTE)) == 2 * 24 * 60
