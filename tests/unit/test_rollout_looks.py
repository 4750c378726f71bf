"""What is seen each second is written when it says something new, and now and then."""

from dataclasses import replace
from datetime import timedelta

import pytest

from server.rollout.looks import AGAIN, Looks
from server.rollout.registry import Looked
from tests.rollouts import BEGAN

FIRST = Looked(3, BEGAN, "It waits.", {"samples": 7, "figures": {"replies": 9}})


class Written:
    def __init__(self) -> None:
        self.looks: list[tuple[str, Looked]] = []
        self.fails = False

    async def __call__(self, name: str, looked: Looked) -> None:
        if self.fails:
            raise OSError("away")
        self.looks.append((name, looked))


def after(seconds: float) -> Looked:
    return replace(FIRST, at=BEGAN + timedelta(seconds=seconds))


async def test_what_says_nothing_new_is_written_now_and_then() -> None:
    written = Written()
    looks = Looks(written)
    for second in range(30):
        await looks.keep("a", after(second))
    assert [each.at - BEGAN for _, each in written.looks] == [timedelta(seconds=each) for each in (0, AGAIN, 2 * AGAIN)]


@pytest.mark.parametrize(
    "change",
    [
        replace(after(1), version=4),
        replace(after(1), reason="It waits for more."),
        replace(after(1), evidence={"samples": 7, "figures": {"replies": 10}}),
        after(-1),
    ],
)
async def test_what_says_something_new_is_written_at_once(change: Looked) -> None:
    written = Written()
    looks = Looks(written)
    await looks.keep("a", FIRST)
    await looks.keep("b", FIRST)
    await looks.keep("a", change)
    assert written.looks == [("a", FIRST), ("b", FIRST), ("a", change)]


async def test_what_could_not_be_written_and_what_was_forgotten_is_written_at_the_next_look() -> None:
    written = Written()
    looks = Looks(written)
    written.fails = True
    with pytest.raises(OSError, match="away"):
        await looks.keep("a", FIRST)
    written.fails = False
    await looks.keep("a", after(1))
    looks.only(["b"])
    await looks.keep("a", after(2))
    assert [each for _, each in written.looks] == [after(1), after(2)]
