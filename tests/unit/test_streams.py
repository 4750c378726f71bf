"""How the commands read streams: to their end, with what goes wrong, and ended at once by Ctrl-C."""

import threading
from collections.abc import Iterator

import pytest

from cli import streams


class Call:
    """A call that gives some messages; then `fault`, or nothing until it is cancelled."""

    def __init__(self, *messages: str, fault: Exception | None = None, endless: bool = False) -> None:
        self._messages, self._fault, self._endless = messages, fault, endless
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[str]:
        yield from self._messages
        if self._endless:
            self.cancelled.wait(30)
        if self._fault is not None:
            raise self._fault

    def cancel(self) -> None:
        self.cancelled.set()


def test_all_messages_come_in_order_and_then_the_end() -> None:
    with streams.messages(Call("a", "b", "c")) as found:
        assert list(found) == ["a", "b", "c"]


def test_what_the_call_raises_is_raised_after_what_came_before_whatever_it_is() -> None:
    with streams.messages(Call("a", fault=ValueError("closed"))) as found:
        assert next(found) == "a"
        with pytest.raises(ValueError, match="closed"):
            next(found)


def interrupted(call: Call) -> None:
    with streams.messages(call) as found:
        for _ in found:
            raise KeyboardInterrupt


def test_a_block_that_is_interrupted_cancels_its_call() -> None:
    call = Call("a", endless=True)
    with pytest.raises(KeyboardInterrupt) as held:
        interrupted(call)
    assert held.value.__traceback__, "it holds all frames, so that only the block's end can have cancelled"
    assert call.cancelled.is_set()
