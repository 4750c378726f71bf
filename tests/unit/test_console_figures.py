"""Live figures and alerts as the console tells them: quantiles, charts, tables, units, times."""

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import alert_words, charts, figures, moments, session
from console.charts import Figure, Series
from console.histogram import quantile
from console.numerals import number, share
from ratchet.v1 import alert_pb2, analytics_pb2

NOW = datetime(2026, 11, 22, 14, 5, tzinfo=UTC)


@pytest.fixture
def vietnamese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "language", lambda: "vi")


def test_a_quantile_lies_straight_between_the_edges_of_its_bin() -> None:
    assert quantile((1.0, 2.0, 4.0), (10, 20, 10, 0), 0.5) == pytest.approx(1.5)
    assert quantile((1.0, 2.0, 4.0), (10, 20, 10, 0), 0.25) == pytest.approx(1.0)
    assert quantile((1.0, 2.0, 4.0), (10, 20, 10, 0), 1.0) == pytest.approx(4.0)
    assert quantile((1.0, 2.0, 4.0), (0, 0, 0, 5), 0.5) == 4.0, "of the open bin only its lower edge is known"


def test_nothing_has_no_quantile() -> None:
    assert quantile((), (), 0.5) is None
    assert quantile((1.0, 2.0), (0, 0, 0), 0.5) is None


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_with_their_share_and_stay_within_the_bounds(
    counts: list[int], one: float, other: float
) -> None:
    found = [quantile((0.5, 1.0, 3.0), counts, part) for part in sorted((one, other))]
    if not sum(counts):
        assert found == [None, None]
        return
    low, high = (math.nan if value is None else value for value in found)
    assert 0 <= low <= high <= 3.0


def test_numbers_are_written_as_the_language_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert number(1234.5, 1, "ms") == "1,234.5 ms"
    assert number(3.456, 2, " ★") == "3.46 ★"
    monkeypatch.setattr(session, "language", lambda: "vi")
    assert number(1234.5, 1, "%") == "1.234,5%"


def test_a_share_of_nothing_is_none() -> None:
    assert share(1, 4) == 25.0
    assert share(0, 0) is None


def test_times_are_those_of_the_visitors_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ZoneInfo("Asia/Ho_Chi_Minh")
    assert moments.written(NOW, there) == "22 Nov 2026, 21:05"
    monkeypatch.setattr(session, "language", lambda: "vi")
    assert moments.written(NOW, there) == "22/11/2026 21:05"
    assert moments.ago(NOW - timedelta(hours=3, minutes=59), NOW) == "3 giờ trước"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-5, "just now"), (59, "just now"), (60, "1 min ago"), (7200, "2 h ago"), (200_000, "2 d ago")],
)
def test_how_long_ago_names_the_largest_unit(seconds: float, told: str) -> None:
    assert moments.ago(NOW - timedelta(seconds=seconds), NOW) == told


@pytest.mark.parametrize(("seconds", "told"), [(30, "30 s"), (90, "90 s"), (600, "10 min"), (86_400, "1 d")])
def test_a_length_of_time_is_told_without_loss(seconds: float, told: str) -> None:
    assert moments.span(seconds) == told


def test_a_table_holds_every_value_and_no_markup_of_others() -> None:
    figure = Figure(("<b>", "two"), (Series("a & b", (1.5, None)),), "bar", "ms", digits=1)
    found = charts.table(figure, "Caption", "First", lambda moment: "")
    assert "<b>" not in found
    assert '<th scope="row">&lt;b&gt;</th><td>1.5 ms</td>' in found
    assert '<th scope="row">two</th><td>–</td>' in found
    assert '<th scope="col">a &amp; b</th>' in found


def test_a_chart_says_its_bars_or_its_newest_values() -> None:
    bars = Figure(("1 ★", "2 ★"), (Series("Ratings", (3, 4)),), "bar")
    assert charts.summary(bars) == "1 ★ 3, 2 ★ 4"
    lines = Figure((NOW, NOW, NOW), (Series("p50", (10, 0, None)), Series("p95", (None, None, None))), unit="ms")
    assert charts.summary(lines) == "p50 0 ms, p95 –"


def test_a_flat_line_of_zeros_is_drawn_and_bars_of_zero_are_not() -> None:
    assert not Figure((NOW,), (Series("errors", (0.0,)),)).empty
    assert Figure((NOW,), (Series("errors", (None,)),)).empty
    assert Figure(("1 ★",), (Series("ratings", (0,)),), "bar").empty
    assert Figure((), ()).empty


def test_options_of_a_chart_hold_moments_and_never_move() -> None:
    found = charts.options(Figure((NOW,), (Series("p50", (12.0,)),), unit="ms"))
    assert found["animation"] is False
    assert found["series"][0]["data"] == [[NOW.timestamp() * 1000, 12.0]]


def answer(*replies: int, last: float = 60.0) -> analytics_pb2.GetMetricsResponse:
    """Points of a minute; the newest has lasted `last` seconds."""
    found = analytics_pb2.GetMetricsResponse()
    found.start_time.FromDatetime(NOW)
    for n, count in enumerate(replies):
        point = found.points.add(metrics=analytics_pb2.Metrics(replies=count))
        point.start_time.FromDatetime(NOW + timedelta(minutes=n))
    found.end_time.FromDatetime(NOW + timedelta(minutes=len(replies) - 1, seconds=last))
    found.total.replies = sum(replies)
    return found


def test_the_newest_minute_counts_for_the_time_that_it_has_lasted() -> None:
    assert figures.rates(answer(6, 6, last=30)).series[0].values == (6.0, 12.0)
    assert figures.rates(answer(6, 1, last=1)).series[0].values == (6.0, 3.0), "one call in a second is no 60 a minute"
    assert figures.rate(answer(6, 6)) == 6.0


def test_calls_that_failed_count_as_requests() -> None:
    assert figures.requests(analytics_pb2.Metrics(replies=5, calls=8)) == 8
    assert figures.requests(analytics_pb2.Metrics(replies=5)) == 5, "figures of one release have no calls"


def test_whether_anybody_was_there() -> None:
    assert figures.nothing(analytics_pb2.GetMetricsResponse())
    assert not figures.nothing(answer(1))
    assert not figures.nothing(analytics_pb2.GetMetricsResponse(total=analytics_pb2.Metrics(safety_reports=1)))


def test_scores_are_compared_as_shares_of_each_reward_release() -> None:
    found = analytics_pb2.GetMetricsResponse()
    for release, counts in (("reward-000001", (1, 1)), ("reward-000002", (30, 10)), ("policy-000001", (5, 5))):
        total = analytics_pb2.Metrics(reward_distribution=analytics_pb2.Distribution(bounds=(0.5,), counts=counts))
        found.releases.add(release=release, total=total)
    figure = figures.rewards(found)
    assert figure.labels == ("0.00–0.50", "0.50–1.00")
    assert {each.name: each.values for each in figure.series} == {
        "reward-000001": (50.0, 50.0),
        "reward-000002": (75.0, 25.0),
    }


def test_stages_come_in_the_order_of_the_path_and_new_ones_last() -> None:
    found = analytics_pb2.GetMetricsResponse()
    for name in ("scoring", "afterthought", "context"):
        found.total.stages[name].CopyFrom(analytics_pb2.Average(sum=0.01, count=1, mean=0.01))
    figure = figures.stages(found)
    assert figure.labels == ("Context", "Scoring", "afterthought")
    assert figure.series[0].values == (10.0, 10.0, 10.0)


def test_every_chart_stands_an_answer_without_anything() -> None:
    empty = analytics_pb2.GetMetricsResponse()
    for draw in (figures.rates, figures.latencies, figures.stages, figures.rewards, figures.ratings, figures.stars):
        assert draw(empty).empty
        charts.options(draw(empty))
    for draw in (figures.dimensions, figures.feedback, figures.thumbs, figures.errors):
        assert draw(empty).empty
        charts.options(draw(empty))


@pytest.mark.parametrize(
    ("rule", "value", "told"),
    [
        ("error_rate", 0.0123, "1.23%"),
        ("rating_low", 3.119, "3.12 ★"),
        ("latency_high", 2.5, "2.50 s"),
        ("feedback_rate_drop", 0.74, "74%"),
        ("safety_report", 3, "3"),
        ("of_tomorrow", 1.239, "1.24"),
    ],
)
def test_an_alerts_value_has_the_unit_of_its_rule(rule: str, value: float, told: str) -> None:
    assert alert_words.value(rule, value) == told


def test_a_rule_that_is_new_to_the_console_is_shown_as_the_server_tells_it() -> None:
    assert alert_words.name("of_tomorrow") == "Of tomorrow"
    assert alert_words.about("of_tomorrow", "It watches tomorrow.") == "It watches tomorrow."


def test_every_rule_of_the_server_has_words_and_a_unit() -> None:
    from console.words import has
    from server.alerts.rules import RULES

    for rule in RULES:
        assert has(f"alerts.rule_{rule.name}"), rule.name
        assert has(f"alerts.about_{rule.name}"), rule.name
        assert rule.name in alert_words._UNITS


def test_the_servers_sentence_stands_alone_in_english_only(vietnamese: None) -> None:
    assert alert_words.translated(alert_pb2.Alert(rule="rating_low", reason="Low."))
    assert alert_words.translated(alert_pb2.Alert(rule="of_tomorrow", reason="Late.")) == ""


def test_an_alert_tells_since_when_or_from_when_to_when() -> None:
    alert = alert_pb2.Alert()
    alert.fire_time.FromDatetime(NOW - timedelta(minutes=4))
    assert alert_words.lasting(alert, UTC, NOW) == "since 22 Nov 2026, 14:01 (4 min ago)"
    alert.resolve_time.FromDatetime(NOW)
    assert alert_words.lasting(alert, UTC, NOW) == "22 Nov 2026, 14:01 to 22 Nov 2026, 14:05"


def test_nobody_and_somebody_acknowledged() -> None:
    alert = alert_pb2.Alert()
    assert alert_words.acknowledged(alert, UTC) == ""
    alert.acknowledge_time.FromDatetime(NOW)
    assert alert_words.acknowledged(alert, UTC) == "Acknowledged by somebody, 22 Nov 2026, 14:05"
