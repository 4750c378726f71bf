"""Where a release is ready, by what was noted of the replicas."""

from datetime import timedelta

import pytest

from server.rollout.readiness import UNSEEN, awaited
from server.rollout.registry import ReplicaModel, ReplicaState
from tests.rollouts import BEGAN, NEW, OLD

READY, LOADING, REFUSED = ReplicaState.READY, ReplicaState.LOADING, ReplicaState.REFUSED


def noted(replica: str, release: str, state: ReplicaState, age: float = 0.0) -> ReplicaModel:
    at = BEGAN - timedelta(seconds=age)
    return ReplicaModel(replica=replica, release=release, state=state, since=at, checked_at=at)


@pytest.mark.parametrize("state", [LOADING, REFUSED, ReplicaState.UNLOADING])
def test_a_replica_that_answers_with_another_release_is_waited_for(state: ReplicaState) -> None:
    others = [noted("a", OLD, READY), noted("a", NEW, READY), noted("b", OLD, READY)]
    assert awaited(others, NEW, BEGAN) == ["b"], "nobody has noted it there yet"
    assert awaited([*others, noted("b", NEW, state)], NEW, BEGAN) == ["b"]
    assert awaited([*others, noted("b", NEW, READY)], NEW, BEGAN) == []


def test_a_replica_that_is_away_or_begins_anew_is_not() -> None:
    away = [noted("b", OLD, LOADING), noted("b", NEW, LOADING)]
    assert awaited([noted("a", NEW, READY), *away], NEW, BEGAN) == []
    assert awaited([noted("a", NEW, LOADING), *away], NEW, BEGAN) == []
    assert awaited([], NEW, BEGAN) == []


def test_what_was_noted_long_ago_says_nothing_of_now() -> None:
    assert awaited([noted("b", OLD, READY, UNSEEN + 1)], NEW, BEGAN) == []
    assert awaited([noted("b", OLD, READY, UNSEEN - 1)], NEW, BEGAN) == ["b"]
    assert awaited([noted("b", OLD, READY), noted("b", NEW, READY, UNSEEN + 1)], NEW, BEGAN) == ["b"]
