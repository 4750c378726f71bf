"""`ratchet rollout watch` without a terminal: what it prints, and that it ends when it is interrupted."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from cli import output, rollout_watch
from ratchet.v1 import rollout_pb2 as pb
from server.rollout.guards import span


class Call:
    """A call that gives its messages, then nothing until it is cancelled."""

    def __init__(self, *messages: pb.WatchRolloutResponse) -> None:
        self._messages, self.cancelled, self.readers = messages, threading.Event(), set[threading.Thread]()

    def __iter__(self) -> Iterator[pb.WatchRolloutResponse]:
        self.readers.add(threading.current_thread())
        yield from self._messages
        self.cancelled.wait(30)
        raise grpc.RpcError

    def cancel(self) -> None:
        self.cancelled.set()


class Stub:
    def __init__(self, call: Any) -> None:
        self._call = call

    def WatchRollout(self, _: Any, **__: Any) -> Any:
        return self._call


def waiting(reason: str) -> pb.WatchRolloutResponse:
    found = pb.WatchRolloutResponse(rollout=pb.Rollout(rollout_id="0193", state=pb.ROLLOUT_STATE_SHADOW))
    found.look.reason = reason
    return found


def printed(*reasons: str) -> list[str]:
    lines = rollout_watch._Lines()
    with output.console.capture() as capture:
        for reason in reasons:
            lines.take(waiting(reason), [])
    return [each.strip() for each in capture.get().splitlines()[1:]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> type[rollout_watch._Lines]:
    monkeypatch.setattr(type(output.console), "is_terminal", False)
    return rollout_watch._Lines


def test_interrupted_it_ends_its_call_and_never_waits_in_grpc_itself(
    lines: type[rollout_watch._Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lines, "take", interrupted)
    call = Call(waiting("It waits."))
    with pytest.raises(KeyboardInterrupt) as held:
        rollout_watch.follow(Stub(call), "0193", as_json=False)  # type: ignore[arg-type]
    assert held.value.__traceback__, "it holds all frames, so that only a finally can have cancelled"
    assert call.cancelled.is_set()
    assert threading.main_thread() not in call.readers


def test_time_and_samples_that_grow_are_no_change() -> None:
    passing = [f"{span(seconds)} of at least 10 min have passed." for seconds in (1, 2, 119, 301, 420)]
    samples = [f"There are {each} of at least 1,200 samples: no verdict yet." for each in (1, 2, 1100)]
    assert printed(*passing, *samples, passing[-1]) == [passing[0], samples[0], passing[-1]]


def test_a_replica_more_is_a_change() -> None:
    said = [f"reward-000002 is ready on {ready} of 12 replicas." for ready in (1, 1, 2, 11)]
    assert printed(*said) == [said[0], said[2], said[3]]


def test_that_the_server_is_away_is_said_once_each_time_that_it_goes() -> None:
    shown = rollout_watch._Lines()
    with output.stderr.capture() as capture:
        for _ in range(3):
            shown.away()
        with output.console.capture():
            shown.take(waiting("Back."), [])
        shown.away()
    assert capture.get().splitlines() == [rollout_watch.AWAY] * 2
