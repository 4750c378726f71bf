"""Drawing N candidates at once."""

import asyncio
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import (
    BackendBusy,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    DeadlineExceeded,
    Overloaded,
    PolicyUnavailable,
)
from server.stages import candidates as drawing
from server.stages.candidates import Patience, derive_seed, mark_duplicates, missing, plan
from server.types import DegradationReason, Generation, Sampling
from tests.draws import PRESETS, Scripted, drawn
from tests.turns import a_candidate


def test_each_candidate_has_a_sampling_of_its_own() -> None:
    plans = plan(5, 3, 16, PRESETS)
    assert [p.preset for p in plans] == [*PRESETS, *PRESETS[:2]]
    assert len({p.seed for p in plans}) == 5
    assert plans == plan(5, 3, 16, PRESETS)
    assert plans[0].seed != plan(5, 4, 16, PRESETS)[0].seed


@given(st.integers(0, 2**63 - 1), st.integers(1, 16), st.integers(0, 16))
def test_a_candidate_is_sampled_the_same_in_whatever_wave_it_comes(seed: int, count: int, cut: int) -> None:
    cut = min(cut, count)
    whole = plan(count, seed, 8, PRESETS)
    assert whole == plan(cut, seed, 8, PRESETS) + plan(count - cut, seed, 8, PRESETS, first=cut)


def test_seeds_fit_a_signed_64_bit_integer() -> None:
    assert all(0 <= derive_seed(seed, index) < 2**63 for seed in range(50) for index in range(16))


async def test_a_failed_candidate_carries_its_error_and_the_others_count() -> None:
    found = await drawn(Scripted("a", BackendUnavailable("Triton is away."), " b "), 3)
    assert [(c.text, c.error) for c in found] == [("a", ""), ("", "Triton is away."), ("b", "")]
    assert missing(found)[0].reason is DegradationReason.CANDIDATES_MISSING


async def test_each_candidate_is_told_once_when_it_is_there() -> None:
    found = await drawn(Scripted(0.05, "a", BackendError("no")), 3)
    assert {c.index for c in found.told[:2]} == {1, 2}, "the quick ones first"
    assert sorted(found.told, key=lambda c: c.index) == list(found)


async def test_a_late_candidate_is_cancelled_and_awaited() -> None:
    policy = Scripted("a", 30.0)
    found = await drawn(policy, 2, Patience(0.05))
    assert policy.cancelled == 1
    assert found[1].error.startswith("No text within")
    assert found.told[-1] == found[1]


async def test_once_the_quorum_is_there_stragglers_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "GRACE_SECONDS", 0.05)
    policy = Scripted("a", "b", "c", 30.0, 30.0)
    async with asyncio.timeout(10):
        found = await drawn(policy, 5, Patience(60.0, quorum=0.6))
    assert [c.drawn for c in found] == [True, True, True, False, False]
    assert policy.cancelled == 2
    assert "most of the others" in found[3].error


@pytest.mark.parametrize(
    ("count", "quorum", "needed"),
    [(1, 0.6, 1), (2, 0.6, 1), (3, 0.6, 2), (4, 0.6, 3), (5, 0.6, 3), (16, 0.6, 10), (5, 0.99, 4), (5, 0.0, 1)]
    + [(count, 1.0, count) for count in (1, 2, 5)],
)
def test_a_quorum_leaves_out_one_at_least_unless_all_are_asked_for(count: int, quorum: float, needed: int) -> None:
    assert Patience(1.0, quorum).needed(count) == needed


async def test_one_of_two_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "GRACE_SECONDS", 0.05)
    async with asyncio.timeout(10):
        found = await drawn(Scripted("a", 30.0), 2, Patience(60.0, quorum=0.6))
    assert [c.drawn for c in found] == [True, False]


async def test_without_any_text_the_first_one_is_awaited_for_longer_and_then_nobody_else() -> None:
    policy = Scripted(0.2, 30.0, 30.0)
    async with asyncio.timeout(10):
        found = await drawn(policy, 3, Patience(0.05, last=20.0))
    assert [c.drawn for c in found] == [True, False, False]
    assert policy.cancelled == 2


async def test_with_a_text_nobody_is_awaited_for_longer() -> None:
    async with asyncio.timeout(10):
        found = await drawn(Scripted("a", 30.0), 2, Patience(0.05, last=20.0))
    assert [c.drawn for c in found] == [True, False]


async def test_a_later_wave_has_texts_to_fall_back_on_and_waits_no_longer() -> None:
    async with asyncio.timeout(10):
        assert not any(c.drawn for c in await drawn(Scripted(30.0), 1, Patience(0.05, last=20.0), wave=1))


async def test_the_backend_is_given_the_time_that_the_first_text_has() -> None:
    given: list[float] = []

    class Noting(Scripted):
        async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
            given.append(timeout)
            return await super().generate(prompt, sampling, timeout)

    await drawn(Noting("a"), 1, Patience(1.0, last=2.0))
    await drawn(Noting("a"), 1, Patience(1.0, last=2.0), wave=1)
    assert given == [2.0, 1.0]


async def test_below_the_quorum_the_others_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "GRACE_SECONDS", 0.0)
    found = await drawn(Scripted("a", "b", 0.2, 0.2, 0.2), 5, Patience(30.0, quorum=0.6))
    assert all(c.drawn for c in found)


async def test_candidates_that_failed_do_not_count_for_the_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of five failed: of the three that can come the quorum is two, and one text is none."""
    monkeypatch.setattr(drawing, "GRACE_SECONDS", 0.0)
    errors = [BackendError("no")] * 2
    found = await drawn(Scripted("a", *errors, 0.2, 0.2), 5, Patience(30.0, quorum=0.6))
    assert [c.drawn for c in found] == [True, False, False, True, True]


@given(st.floats(0.01, 100), st.floats(0, 1), st.floats(0.01, 10), st.floats(0, 100))
def test_patience_never_passes_the_budget_and_grows_with_the_quorums_time(
    budget: float, quorum: float, patience: float, took: float
) -> None:
    given_time = Patience(budget, quorum, patience).end(took)
    assert given_time <= budget
    assert given_time <= Patience(budget, quorum, patience).end(took + 1)


async def test_a_backend_that_ignores_cancellation_does_not_hang_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "CANCEL_SECONDS", 0.05)
    policy = Scripted("a", 0.5, deaf=True)
    found = await drawn(policy, 2, Patience(0.05))
    (left,) = drawing._unheeding
    assert [c.drawn for c in found] == [True, False]
    assert not left.done(), "the reply did not wait for it"
    await left
    await asyncio.sleep(0)
    assert not drawing._unheeding
    assert len(found.told) == 2, "what comes after the reply is told to nobody"


@pytest.mark.parametrize(("budget", "seconds"), [(0.02, 0.01), (1.0, 0.1), (60.0, 1.0)])
def test_what_ignores_its_cancellation_gets_a_tenth_of_the_time_at_most(budget: float, seconds: float) -> None:
    assert Patience(budget).grace == pytest.approx(seconds)


async def test_a_backend_that_cancels_itself_is_an_error_and_no_cancelled_caller() -> None:
    found = await drawn(Scripted("a", asyncio.CancelledError()), 2)
    assert [c.drawn for c in found] == [True, False]


async def test_a_defect_of_one_draw_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    found = await drawn(Scripted("a", ValueError("boom")), 2)
    assert found[1].error == "A defect in drawing this candidate; the server's log has it."
    assert "boom" in caplog.text


async def test_an_empty_text_is_no_candidate() -> None:
    assert [c.drawn for c in await drawn(Scripted("  \n", "b"), 2)] == [False, True]


async def test_a_later_wave_goes_on_with_the_numbers() -> None:
    found = await drawn(Scripted("c", "d"), 2, wave=1, first=2)
    assert [(c.index, c.wave, c.sampling.preset.name) for c in found] == [(2, 1, "top"), (3, 1, "calm")]


async def test_a_later_wave_without_any_text_is_no_failure_of_the_request() -> None:
    assert not any(c.drawn for c in await drawn(Scripted(BackendBusy("full")), 1, wave=1, first=2))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([BackendTimeout("slow"), BackendTimeout("slow")], DeadlineExceeded),
        ([BackendBusy("full"), BackendTimeout("slow")], Overloaded),
        ([BackendUnavailable("away"), BackendTimeout("slow")], PolicyUnavailable),
        ([30.0, 30.0], DeadlineExceeded),
    ],
)
async def test_without_any_candidate_the_error_says_whose_turn_it_is(
    script: list[BackendError | float], expected: type
) -> None:
    with pytest.raises(expected):
        await drawn(Scripted(*script), 2, Patience(0.05))


async def test_cancelling_the_draw_cancels_every_candidate() -> None:
    policy = Scripted(30.0, 30.0, 30.0)
    task = asyncio.create_task(drawn(policy, 3, Patience(60)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert policy.cancelled == 3


@pytest.mark.parametrize(
    "same",
    ["we open at 9.", "  We open\nat 9! ", "**We open at 9**", "“We open, at 9.”", "WE OPEN AT 9…"],
)
def test_the_same_text_in_another_dress_is_a_duplicate(same: str) -> None:
    marked = mark_duplicates([a_candidate(0, "Other."), a_candidate(1, "We open at 9."), a_candidate(2, same)])
    assert [c.duplicate_of for c in marked] == [None, None, 1]


@pytest.mark.parametrize(
    "other",
    ["We open at 1.5 m.", "We open at -15 m.", "We open at 1-5 m.", "We open at 15 m?!%", "We open at 1 5 m."],
)
def test_marks_that_make_another_number_make_another_text(other: str) -> None:
    marked = mark_duplicates([a_candidate(0, "We open at 15 m."), a_candidate(1, other)])
    assert marked[1].duplicate_of is None


def test_composed_and_decomposed_vietnamese_are_the_same_text() -> None:
    text = "Đơn của bạn đã được gửi đi."
    twice = [a_candidate(0, text), a_candidate(1, unicodedata.normalize("NFD", text))]
    assert mark_duplicates(twice)[1].duplicate_of == 0


def test_a_candidate_without_a_text_duplicates_nothing() -> None:
    failed = [a_candidate(index, error="late") for index in range(3)]
    assert [c.duplicate_of for c in mark_duplicates(failed)] == [None] * 3


@given(st.lists(st.text("aAß.é\u0301 -1…", max_size=6), max_size=8))
def test_only_equal_folded_texts_are_duplicates(texts: list[str]) -> None:
    """What is not folded, because its letters can't be those of another, would have been another text."""
    folded = [drawing._folded(text) for text in texts]
    marked = mark_duplicates([a_candidate(index, text) for index, text in enumerate(texts)])
    originals = [index if c.duplicate_of is None else c.duplicate_of for index, c in enumerate(marked)]
    assert originals == [folded.index(text) for text in folded]


def test_texts_of_other_letters_are_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    folded: list[str] = []
    monkeypatch.setattr(drawing, "_folded", lambda text: folded.append(text) or text.casefold())
    texts = ["We open at nine.", "We close at nine.", "we open at Nine.", "we open at Nine.", "It is closed."]
    marked = mark_duplicates([a_candidate(index, text) for index, text in enumerate(texts)])
    assert [c.duplicate_of for c in marked] == [None, None, 0, 0, None]
    assert sorted(folded) == sorted({texts[0], texts[2]})


@given(st.lists(st.text("aA.é\u0301 -1", max_size=6), max_size=8))
def test_a_duplicate_names_an_earlier_original_and_marking_again_changes_nothing(texts: list[str]) -> None:
    marked = mark_duplicates([a_candidate(index, text) for index, text in enumerate(texts)])
    for candidate in marked:
        if candidate.duplicate_of is not None:
            assert candidate.duplicate_of < candidate.index
            assert marked[candidate.duplicate_of].duplicate_of is None
    assert mark_duplicates(marked) == marked


def test_long_texts_are_told_apart_by_any_letter() -> None:
    long = "word " * 15_000
    pair = [a_candidate(0, long), a_candidate(1, long + "x"), a_candidate(2, long.upper())]
    assert [c.duplicate_of for c in mark_duplicates(pair)] == [None, None, 0]
