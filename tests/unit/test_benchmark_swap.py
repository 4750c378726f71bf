"""What the benchmarks of rollouts say of requests, on planted ones."""

import pytest

from benchmarks import crowds, rollouts, swap
from benchmarks.crowds import Seen
from benchmarks.operating import Watched


def test_a_swap_is_held_against_before_and_after_and_counts_what_was_under_way() -> None:
    steps = swap.Steps(published=100.0, swapped=110.0, verified=150.0, unloaded=170.0)
    seen = [
        *(Seen(60.0 + n / 10, 0.1, swap.OLD) for n in range(300)),
        Seen(99.9, 0.5, swap.OLD),  # under way when it began
        *(Seen(111.0 + n / 10, 0.3, swap.NEW) for n in range(100)),
        Seen(165.0, 0.2),  # without a reply
        *(Seen(190.0 + n / 10, 0.2, swap.NEW) for n in range(100)),
    ]
    found = swap._figures(seen, steps)
    assert found["failed"] == 1
    assert found["spans"]["the whole swap"]["requests"] == 102
    assert found["spans"]["the whole swap"]["failed"] == 1
    assert found["spans"]["loading"]["answered"] == {swap.OLD: 1, swap.NEW: 0}
    assert found["p99_to_before"] == pytest.approx(3.0)
    assert found["p99_to_after"] == pytest.approx(1.5)
    assert found["seconds"] == {"to all users": 10.0, "to champion": 50.0, "to unloaded": 70.0}


def test_a_report_is_measured_by_the_last_request_that_the_challenger_answered() -> None:
    watched = Watched("id", "reward-new", reported=50.0, given_back=50.6)
    seen = [Seen(49.0, 1.0, "reward-new"), Seen(50.4, 1.0, "reward-new"), Seen(51.0, 1.0, "reward-old")]
    found = rollouts._given_back(watched, seen)
    assert found["traffic_back_seconds"] == pytest.approx(0.4)
    assert found["seen_after_seconds"] == pytest.approx(0.6)
    assert found["requests_after_report"] == 1


def test_requests_are_told_by_the_release_that_judged_and_those_without_a_reply_by_themselves() -> None:
    seen = [Seen(0, 0.1, "a", satisfied=1.0), Seen(0, 0.3, "a"), Seen(0, 2.0)]
    assert crowds.by_release(seen) == {
        "a": {"requests": 2, "mean_ms": pytest.approx(200.0), "satisfaction": 1.0},
        "no reply": {"requests": 1, "mean_ms": pytest.approx(2000.0), "satisfaction": None},
    }


def test_each_of_the_people_is_somebody_else_and_the_same_again() -> None:
    people = [crowds._person("x", number) for number in range(50)]
    assert people == [crowds._person("x", number) for number in range(50)]
    assert len({person.id for person in people}) == 50
    assert {person.language for person in people} == {"en", "vi"}
