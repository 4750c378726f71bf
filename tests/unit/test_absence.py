"""Waiting for a policy that is away."""

import asyncio
import time

import pytest

from server import absence
from server.errors import BackendBusy, BackendError, BackendUnavailable, PolicyUnavailable
from server.stages.candidates import Patience
from server.types import FinishReason, Generation, Sampling
from tests.draws import Scripted, drawn

GONE = BackendUnavailable("starts again")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "ASK_AGAIN_SECONDS", 0.01)


async def test_one_that_is_away_for_a_moment_costs_time_and_no_candidate() -> None:
    found = await drawn(Scripted(*[GONE] * 6, "a", "b"), 2, Patience(30.0, away=20.0))
    assert sorted(c.text for c in found) == ["a", "b"]
    assert len(found.told) == 2
    assert found[0].seconds >= 0.03, "the time that it took is told"


async def test_one_that_is_away_for_long_is_not_waited_for() -> None:
    policy = Scripted(*[GONE] * 99)
    with pytest.raises(PolicyUnavailable, match="starts again"):
        await drawn(policy, 1, Patience(30.0, away=0.5))
    assert 3 < 99 - len(policy.script) < 16, "it was asked again, ever more seldom"


class Back(Scripted):
    """Away until `at`, in seconds from now."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = time.perf_counter() + at

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        if time.perf_counter() < self.at:
            raise GONE
        return Generation("here", FinishReason.STOP, 1)


async def test_it_is_asked_a_last_time_when_the_wait_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "ASK_AGAIN_SECONDS", 60.0)
    monkeypatch.setattr(absence, "ASK_AGAIN_LONGEST", 60.0)
    async with asyncio.timeout(10):
        (found,) = await drawn(Back(0.2), 1, Patience(30.0, away=0.3))
    assert found.text == "here"


async def test_only_one_that_is_away_is_asked_again() -> None:
    for error, away in ((BackendBusy("full"), 20.0), (BackendError("no"), 20.0), (GONE, 0.0)):
        policy = Scripted(error, "a")
        assert [c.drawn for c in await drawn(policy, 2, Patience(30.0, away=away))] == [False, True]


async def test_a_queue_that_is_full_of_those_who_waited_is_waited_for_as_well() -> None:
    (found,) = await drawn(Scripted(GONE, BackendBusy("full"), "a"), 1, Patience(30.0, away=20.0))
    assert found.text == "a"


async def test_with_a_text_in_hand_the_others_ask_once_more() -> None:
    policy = Scripted("a", *[GONE] * 9)
    async with asyncio.timeout(10):
        found = await drawn(policy, 3, Patience(30.0, away=20.0))
    assert [c.drawn for c in found] == [True, False, False]
    assert len(policy.script) == 9 - 4


async def test_more_than_so_many_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "MOST", 2)
    waiting = [asyncio.create_task(drawn(Back(0.3), 2, Patience(30.0, away=20.0))) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(PolicyUnavailable):
        await drawn(Back(0.3), 1, Patience(30.0, away=20.0))
    assert all(candidate.drawn for found in await asyncio.gather(*waiting) for candidate in found)
    assert not absence._waiting
    (found,) = await drawn(Back(0.05), 1, Patience(30.0, away=20.0))
    assert found.drawn


async def test_who_leaves_waits_no_longer() -> None:
    task = asyncio.create_task(drawn(Back(30.0), 2, Patience(60.0, away=50.0)))
    await asyncio.sleep(0.05)
    assert len(absence._waiting) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not absence._waiting
