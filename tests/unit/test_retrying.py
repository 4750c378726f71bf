"""What goes on for ever is tried again however often it failed, and waits for no longer than it should."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from server import app
from server.app import App
from server.errors import StoreUnavailable
from server.patience import doubled
from server.rollout import leading
from server.rollout.leading import Leader
from server.storage import notices
from server.trouble import Trouble

MANY = 1100
"""More than a float has doublings."""
TROUBLE = Trouble(logging.getLogger(__name__), "failing")


class Enough(BaseException):
    """Ends what would go on for ever."""


async def fail(*_: Any, **__: Any) -> None:
    raise StoreUnavailable("Postgres is away")


async def refuse(*_: Any, **__: Any) -> None:
    raise OSError("connection refused")


LOOPS: dict[str, tuple[Callable[[], Coroutine[Any, Any, None]], float]] = {
    "a job of who leads": (lambda: leading._again((fail, 1.0, "failing"), TROUBLE), leading.LONGEST_RETRY),
    "a slow job of who leads": (lambda: leading._again((fail, 60.0, "failing"), TROUBLE), 60.0),
    "who leads": (Leader("", lambda _: []).run, leading.LONGEST_RETRY),
    "a background task": (lambda: app._repeat(fail, 1.0, "failing"), app.LONGEST_RETRY),
    "listening": (lambda: notices.listen("", "changes", lambda: None), notices.LONGEST_RETRY),
}


@pytest.mark.parametrize("name", LOOPS)
async def test_what_failed_a_thousand_times_is_tried_again_as_soon_as_ever(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == MANY:
            raise Enough

    monkeypatch.setattr(asyncpg, "connect", refuse)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    loop, longest = LOOPS[name]
    with pytest.raises(Enough):
        await loop()
    assert waits == sorted(waits)
    assert waits[-1] == longest


def test_what_is_unsafe_waits_for_seconds_only_once_postgres_is_back() -> None:
    assert leading.LONGEST_RETRY <= 5.0


def test_a_wait_doubles_with_each_failure_up_to_the_longest() -> None:
    assert [doubled(0.5, failures, 3.0) for failures in (0, 1, 2, 3, 100_000)] == [0.5, 1.0, 2.0, 3.0, 3.0]


async def test_a_start_needs_nothing_of_what_is_rolled_out(caplog: pytest.LogCaptureFixture) -> None:
    class Away:
        active = staticmethod(fail)

    await App._load_challengers(object(), object(), Away())  # type: ignore[arg-type]
    assert "Postgres is away" in caplog.text
