"""What the log is told of work that fails again and again."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from server import app, trouble
from server.errors import StoreUnavailable
from server.rollout import leading
from server.trouble import Trouble

AWAY = StoreUnavailable("Postgres is away.")
DEFECT = RuntimeError("a defect")


class Clock:
    """Seconds, which pass by being told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def looking(clock: Clock, caplog: pytest.LogCaptureFixture) -> Trouble:
    caplog.set_level(logging.INFO)
    return Trouble(logging.getLogger("test"), "looking", clock)


def test_it_is_told_when_it_begins_once_a_minute_and_when_it_is_over(
    looking: Trouble, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    looking.works()
    for _ in range(26):
        looking.failed(AWAY)
        clock.seconds += 5
    looking.works()
    looking.works()
    assert caplog.messages == [
        "looking failed and is tried again: Postgres is away",
        "looking failed 12 times in 60 s and is tried again: Postgres is away",
        "looking failed 12 times in 60 s and is tried again: Postgres is away",
        "looking works again",
    ]


def test_what_fails_every_other_time_is_told_no_more_often(
    looking: Trouble, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(7):
        looking.failed(AWAY)
        clock.seconds += 5
        looking.works()
        clock.seconds += 5
    assert caplog.messages == [
        "looking failed and is tried again: Postgres is away",
        "looking works again",
        "looking failed 6 times in 60 s and is tried again: Postgres is away",
        "looking works again",
    ]


def test_what_failed_long_ago_is_not_counted(looking: Trouble, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        looking.failed(AWAY)
    looking.works()
    clock.seconds += 3600
    looking.works()
    looking.failed(AWAY)
    assert caplog.messages[-1] == "looking failed and is tried again: Postgres is away"


def test_a_defect_is_told_at_once_with_where_it_is_and_then_as_rarely(
    looking: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (AWAY, DEFECT, AWAY, DEFECT):
        looking.failed(error, defect=error is DEFECT)
    assert [(each.levelname, bool(each.exc_info)) for each in caplog.records] == [("WARNING", False), ("ERROR", True)]
    assert caplog.messages[1] == "looking failed and is tried again: a defect"


class Enough(BaseException):
    """Ends what would go on for ever."""


LOOPS: dict[str, Callable[[Any], Coroutine[Any, Any, None]]] = {
    "a job of who leads": lambda work: leading._again((work, 1.0, "looking"), Trouble(leading.log, "looking")),
    "a background task": lambda work: app._repeat(work, 1.0, "looking"),
}


@pytest.mark.parametrize("name", LOOPS)
async def test_what_goes_on_in_the_background_tells_no_more(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outcomes = iter([AWAY, AWAY, AWAY, None, Enough()])

    async def work() -> None:
        if error := next(outcomes):
            raise error

    async def sleep(_: float) -> None: ...

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(Enough):
        await LOOPS[name](work)
    assert caplog.messages == ["looking failed and is tried again: Postgres is away", "looking works again"]
    assert trouble.EVERY >= 60
