"""Drawing N candidates at once."""

import asyncio

import pytest

from server.errors import (
    BackendBusy,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    DeadlineExceeded,
    Overloaded,
    PolicyUnavailable,
)
from server.stages.candidates import PRESETS, derive_seed, draw, missing, plan
from server.types import DegradationReason, FinishReason, Generation, Sampling


class Scripted:
    """A policy that does for each candidate what its list says: a text, an error, or seconds of silence."""

    def __init__(self, *script: str | BackendError | float) -> None:
        self.script = list(script)
        self.cancelled = 0

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        step = self.script.pop(0)
        if isinstance(step, BackendError):
            raise step
        if isinstance(step, float):
            try:
                await asyncio.sleep(step)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return Generation("late", FinishReason.STOP, 1)
        return Generation(step, FinishReason.STOP, 1)


def test_each_candidate_has_a_sampling_of_its_own() -> None:
    plans = plan(5, seed=3, max_tokens=16)
    assert [p.preset for p in plans] == [*PRESETS, *PRESETS[:2]]
    assert len({p.seed for p in plans}) == 5
    assert plans == plan(5, seed=3, max_tokens=16)
    assert plans[0].seed != plan(5, seed=4, max_tokens=16)[0].seed


def test_seeds_fit_a_signed_64_bit_integer() -> None:
    assert all(0 <= derive_seed(seed, index) < 2**63 for seed in range(50) for index in range(16))


async def test_a_failed_candidate_carries_its_error_and_the_others_count() -> None:
    drawn = await draw("p", plan(3, 1, 8), Scripted("a", BackendUnavailable("Triton is away."), " b "), 1)
    assert [(c.text, c.error) for c in drawn] == [("a", ""), ("", "Triton is away."), ("b", "")]
    assert missing(drawn)[0].reason is DegradationReason.CANDIDATES_MISSING


async def test_a_late_candidate_is_cancelled_and_awaited() -> None:
    policy = Scripted("a", 30.0)
    drawn = await draw("p", plan(2, 1, 8), policy, 0.05)
    assert policy.cancelled == 1
    assert drawn[1].error.startswith("No text within")


async def test_an_empty_text_is_no_candidate() -> None:
    drawn = await draw("p", plan(2, 1, 8), Scripted("  \n", "b"), 1)
    assert [c.drawn for c in drawn] == [False, True]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([BackendTimeout("slow"), BackendTimeout("slow")], DeadlineExceeded),
        ([BackendBusy("full"), BackendTimeout("slow")], Overloaded),
        ([BackendUnavailable("away"), BackendTimeout("slow")], PolicyUnavailable),
    ],
)
async def test_without_any_candidate_the_error_says_whose_turn_it_is(
    script: list[BackendError], expected: type
) -> None:
    with pytest.raises(expected):
        await draw("p", plan(2, 1, 8), Scripted(*script), 1)


async def test_cancelling_the_draw_cancels_every_candidate() -> None:
    policy = Scripted(30.0, 30.0, 30.0)
    task = asyncio.create_task(draw("p", plan(3, 1, 8), policy, 60))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert policy.cancelled == 3
