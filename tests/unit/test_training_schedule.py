"""When a run is due, what it and its release are called, which points stay, and how settings are named."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import TrainerError
from trainer.numbering import next_name
from trainer.points import MOST, stride
from trainer.reward import configuring, identity
from trainer.reward.config import RewardConfig
from trainer.reward.scales import calibrated, matched
from trainer.scheduler import Situation, due, last_moment
from trainer.settings import Schedule

NOW = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)  # a Wednesday
ENOUGH = Situation(unseen=1000)


@pytest.mark.parametrize(
    ("minimum", "found", "asker"),
    [
        (1000, ENOUGH, "count"),
        (1001, ENOUGH, ""),
        (0, ENOUGH, ""),
        (1000, replace(ENOUGH, busy=True), ""),
        (1000, replace(ENOUGH, stopped=True, ended=NOW - timedelta(hours=23)), ""),
        (1000, replace(ENOUGH, stopped=True, ended=NOW - timedelta(hours=25)), "count"),
    ],
)
def test_a_run_is_due_at_enough_new_feedback_unless_one_goes_on_or_was_just_stopped(
    minimum: int, found: Situation, asker: str
) -> None:
    assert due(Schedule.COUNT, minimum, 3, found, NOW) == asker
    assert due(Schedule.OFF, minimum, 3, found, NOW) == ""


@pytest.mark.parametrize(
    ("schedule", "hour", "moment"),
    [
        (Schedule.DAILY, 3, datetime(2026, 11, 25, 3, tzinfo=UTC)),
        (Schedule.DAILY, 12, datetime(2026, 11, 25, 12, tzinfo=UTC)),
        (Schedule.DAILY, 13, datetime(2026, 11, 24, 13, tzinfo=UTC)),
        (Schedule.WEEKLY, 3, datetime(2026, 11, 23, 3, tzinfo=UTC)),
    ],
)
def test_a_daily_or_weekly_run_is_due_once_after_its_moment_and_made_up_for(
    schedule: Schedule, hour: int, moment: datetime
) -> None:
    assert last_moment(schedule, hour, NOW) == moment
    before, after = moment - timedelta(minutes=1), moment + timedelta(minutes=1)
    assert due(schedule, 1000, hour, Situation(unseen=1, began=before), NOW) == "schedule"
    assert due(schedule, 1000, hour, Situation(unseen=1, began=after), NOW) == ""
    assert due(schedule, 1000, hour, Situation(unseen=0, began=before), NOW) == "", "there is nothing new"


def test_on_a_monday_before_its_hour_the_weekly_run_was_a_week_ago() -> None:
    monday = datetime(2026, 11, 23, 2, 59, tzinfo=UTC)
    assert last_moment(Schedule.WEEKLY, 3, monday) == datetime(2026, 11, 16, 3, tzinfo=UTC)


def test_a_release_is_numbered_after_the_greatest_that_is_known() -> None:
    assert next_name(["reward-000009", "reward-000010", "mine", "policy-000099", "reward-abc"]) == "reward-000011"
    assert next_name([]) == "reward-000001"


@given(last=st.integers(0, 10**9))
def test_a_curve_of_any_length_keeps_some_points_and_not_too_many(last: int) -> None:
    kept = last // stride(last) + 1
    assert kept <= MOST
    assert kept >= min(last + 1, MOST // 2)


def test_a_threshold_is_matched_by_how_many_pass() -> None:
    old, new = [0.9, 0.7, 0.5, 0.1], [0.2, 0.4, 0.6, 0.3]
    assert matched(new, old, 0.6) == pytest.approx((0.4 + 0.3) / 2), "two of four passed"
    assert matched(new, old, 0.95) == pytest.approx((1.0 + 0.6) / 2), "none did"
    assert matched(new, old, 0.0) == pytest.approx((0.2 + 0.0) / 2), "all did"
    assert matched([], [], 0.6) is None


@given(
    new=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=50, unique=True),
    threshold=st.floats(0, 1),
    data=st.data(),
)
def test_as_many_different_scores_pass_as_before(new: list[float], threshold: float, data: st.DataObject) -> None:
    old = data.draw(st.lists(st.floats(0, 1), min_size=len(new), max_size=len(new)))
    found = matched(new, old, threshold)
    assert found is not None
    assert sum(score > found for score in new) <= sum(score >= threshold for score in old)
    assert sum(score >= found for score in new) >= sum(score >= threshold for score in old)


def test_a_logit_of_any_size_has_a_score() -> None:
    assert calibrated(0.0) == 0.5
    assert calibrated(2.0, 2.0) == pytest.approx(0.7310585786)  # the logistic function at 1
    assert (calibrated(-5000.0), calibrated(5000.0)) == (0.0, 1.0)


def test_settings_are_named_whole_in_groups_or_by_their_last_part_and_the_last_word_wins() -> None:
    found = configuring.configured(
        {"train": {"learning_rate": 1e-3, "alpha": 0.5}}, {"learning_rate": 1e-4}, {"gate.most_ece": 0.2, "seed": 7}
    )
    assert (found.train.learning_rate, found.train.alpha, found.gate.most_ece, found.seed) == (1e-4, 0.5, 0.2, 7)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"train.lerning_rate": 1}, "did you mean train.learning_rate"),
        ({"train": {"learning_rate": -1}}, "train.learning_rate can't be used"),
        ({"colour": "red"}, "colour is no setting of a run"),
    ],
)
def test_settings_that_can_t_be_used_are_refused_by_name(asked: dict[str, object], said: str) -> None:
    with pytest.raises(TrainerError, match=said):
        configuring.configured(asked)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("train.learning_rate=1e-4", ("train.learning_rate", 1e-4)),
        ("bucket = false", ("bucket", False)),
        ("base=roberta-base", ("base", "roberta-base")),
        ("base=./models/a=b", ("base", "./models/a=b")),
    ],
)
def test_an_assignment_is_a_number_a_truth_or_a_word(text: str, found: tuple[str, object]) -> None:
    assert configuring.assignment(text) == found


def test_an_assignment_without_a_name_is_refused() -> None:
    with pytest.raises(TrainerError, match="sets nothing"):
        configuring.assignment("=3")


def test_a_run_is_known_by_the_release_that_it_is_compared_with_but_not_what_it_trains(tmp_path: Path) -> None:
    key = "1" * 64
    (tmp_path / "release.json").write_text('{"id": "reward-1", "threshold": 0.6}')
    one = identity.judged(key, tmp_path)
    (tmp_path / "release.json").write_text('{"id": "reward-1", "threshold": 0.7}')
    assert identity.judged(key, None) == key
    assert len({key, one, identity.judged(key, tmp_path), identity.judged("2" * 64, tmp_path)}) == 4


def test_a_run_is_known_by_data_settings_and_base_whatever_the_base_s_path() -> None:
    config = RewardConfig()
    key = identity.key("1" * 64, config, "2" * 64)
    assert key == identity.key("1" * 64, config.model_copy(update={"base": str(Path("/elsewhere"))}), "2" * 64)
    others = [
        identity.key("3" * 64, config, "2" * 64),
        identity.key("1" * 64, config.model_copy(update={"seed": 2}), "2" * 64),
        identity.key("1" * 64, config, "4" * 64),
    ]
    assert len({key, *others}) == 4
