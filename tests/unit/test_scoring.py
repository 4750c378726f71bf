"""Scoring as candidates arrive: what is asked of which release, and what a reply may show of it."""

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from server.stages.scoring import Scoring
from server.storage.scores import ScoreCacheUnavailable, Subject
from server.types import Candidate, Score, ScoreSource
from server.types import DegradationReason as Reason
from tests.turns import a_candidate

SUBJECT = Subject("default", "some context", "a question")


class Model:
    """A release that likes long texts. `failures` end the next calls, in order; None: that one succeeds."""

    def __init__(self, name: str = "reward-000002", base: float = 0.0, delay: float = 0.0) -> None:
        self.release: Any = SimpleNamespace(id=name, files={})
        self.base, self.delay = base, delay
        self.calls: list[list[str]] = []
        self.failures: list[Exception | None] = []
        self.truncated = False
        self.cancelled = 0

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        self.calls.append(list(responses))
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        return [Score(self.base + len(text) / 1000, 0.0, truncated=self.truncated) for text in responses]


class Cache:
    """Knows `scores`; takes what it is given."""

    def __init__(self, scores: Mapping[str, Score] | None = None) -> None:
        self.scores, self.kept = dict(scores or {}), dict[tuple[str, str], Score]()
        self.failures: list[ScoreCacheUnavailable] = []
        self.asked = 0

    async def find(self, subject: Subject, release: Any, responses: Sequence[str]) -> dict[str, Score]:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return {text: self.scores[text] for text in responses if text in self.scores}

    def keep(self, subject: Subject, release: Any, scores: Mapping[str, Score]) -> None:
        self.kept |= {(release.id, text): score for text, score in scores.items()}


def scoring(
    *ladder: Model, cache: Cache | None = None, reads: bool = True, watched: list[Candidate] | None = None
) -> Scoring:
    deadline = asyncio.get_running_loop().time() + 10
    watch = (lambda candidate: None) if watched is None else watched.append
    return Scoring(SUBJECT, ladder, deadline=deadline, cache=cache, reads=reads, watch=watch)


def some(*texts: str) -> list[Candidate]:
    return [a_candidate(index, text, score=None) for index, text in enumerate(texts)]


def reasons(degradations: Sequence[Any]) -> list[Reason]:
    return [each.reason for each in degradations]


def scores(candidates: Sequence[Candidate]) -> list[float | None]:
    return [candidate.reward_score for candidate in candidates]


async def test_scoring_starts_when_a_candidate_arrives_and_not_when_all_are_there() -> None:
    model, watched = Model(), list[Candidate]()
    scorer = scoring(model, watched=watched)
    one, two = some("a", "bb")
    scorer.add(one)
    await asyncio.sleep(0.01)
    assert [(c.index, c.reward_score) for c in watched] == [(0, 0.001)]
    scorer.add(two)
    scored, lost = await scorer.finish([one, two], 1)
    assert scores(scored) == [0.001, 0.002]
    assert model.calls == [["a"], ["bb"]]
    assert lost == ()
    assert scorer.release == "reward-000002"


async def test_what_arrives_together_is_sent_together() -> None:
    model = Model()
    candidates = some("a", "bb", "ccc")
    scorer = scoring(model)
    for candidate in candidates:
        scorer.add(candidate)
    await scorer.finish(candidates, 1)
    assert model.calls == [["a", "bb", "ccc"]]


async def test_what_arrives_a_turn_of_the_loop_later_still_goes_along() -> None:
    model = Model()
    one, two = some("a", "bb")
    scorer = scoring(model)

    async def arrive(candidate: Candidate, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        scorer.add(candidate)

    await asyncio.gather(arrive(one, 0), arrive(two, 1))
    await scorer.finish([one, two], 1)
    assert model.calls == [["a", "bb"]]


async def test_equal_texts_are_scored_once_and_each_candidate_is_told() -> None:
    model, watched = Model(), list[Candidate]()
    candidates = some("same", "same", "other")
    scorer = scoring(model, watched=watched)
    scorer.add(candidates[0])
    await asyncio.sleep(0.01)
    scored, _ = await scorer.finish(candidates, 1)
    assert sorted(text for call in model.calls for text in call) == ["other", "same"]
    assert scores(scored) == [0.004, 0.004, 0.005]
    assert sorted(c.index for c in watched) == [0, 1, 2]


async def test_a_text_that_differs_only_in_case_has_a_score_of_its_own() -> None:
    model = Model()
    await scoring(model).finish(some("Same", "same"), 1)
    assert model.calls == [["Same", "same"]]


async def test_a_candidate_without_text_is_not_scored() -> None:
    model = Model()
    candidates = [a_candidate(0, error="late"), a_candidate(1, "text", score=None)]
    scored, lost = await scoring(model).finish(candidates, 1)
    assert model.calls == [["text"]]
    assert scores(scored) == [None, 0.004]
    assert lost == ()


async def test_without_any_text_nothing_is_asked_and_no_release_scored() -> None:
    model = Model()
    scorer = scoring(model)
    scored, lost = await scorer.finish([a_candidate(0, error="late")], 1)
    assert (model.calls, scores(scored), lost, scorer.release) == ([], [None], (), "")


async def test_a_failing_release_gives_way_to_the_next_and_the_reply_says_so() -> None:
    first, second = Model(), Model("reward-000001", base=0.5)
    first.failures = [BackendUnavailable("away")]
    scorer = scoring(first, second)
    scored, lost = await scorer.finish(some("a", "bb"), 1)
    assert scores(scored) == [0.501, 0.502]
    assert reasons(lost) == [Reason.SCORING_FELL_BACK]
    assert "away" in lost[0].detail
    assert scorer.release == "reward-000001"


async def test_when_the_assigned_release_fails_in_the_middle_all_are_scored_again_by_one() -> None:
    first, second, watched = Model(), Model("reward-000001", base=0.5), list[Candidate]()
    first.failures = [None, BackendUnavailable("away")]
    scorer = scoring(first, second, watched=watched)
    candidates = some("a", "bb", "ccc")
    for candidate in candidates:
        scorer.add(candidate)
        await asyncio.sleep(0.01)
    scored, _ = await scorer.finish(candidates, 1)
    assert scores(scored) == [0.501, 0.502, 0.503]
    assert first.calls == [["a"], ["bb"]]
    assert scores(watched)[0] == 0.001, "the first one was told its first score"
    assert {c.index: c.reward_score for c in watched} == {0: 0.501, 1: 0.502, 2: 0.503}, "and then the one that holds"


async def test_a_release_that_hangs_leaves_time_for_the_next() -> None:
    first, second = Model(delay=60), Model("reward-000001", base=0.5)
    scorer = scoring(first, second)
    scored, lost = await scorer.finish(some("a"), 0.2)
    assert scores(scored) == [0.501]
    assert reasons(lost) == [Reason.SCORING_FELL_BACK]
    await scorer.close()
    assert first.cancelled == 1


async def test_without_any_release_left_nothing_is_invented() -> None:
    first, second = Model(), Model("reward-000001")
    first.failures, second.failures = [BackendUnavailable("away")], [BackendTimeout("late")]
    scorer = scoring(first, second)
    scored, lost = await scorer.finish(some("a", "bb"), 1)
    assert scores(scored) == [None, None]
    assert reasons(lost) == [Reason.SCORING_UNAVAILABLE]
    assert scorer.release == ""


async def test_a_defect_is_a_failure_like_others(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    model.failures = [RuntimeError("of ours")]
    scored, lost = await scoring(model).finish(some("a"), 1)
    assert scores(scored) == [None]
    assert reasons(lost) == [Reason.SCORING_UNAVAILABLE]
    assert "of ours" not in lost[0].detail
    assert "of ours" in caplog.text


async def test_what_was_scored_in_time_counts_and_the_rest_is_told() -> None:
    model = Model()
    scorer = scoring(model)
    quick, slow = some("a", "bb")
    scorer.add(quick)
    await asyncio.sleep(0.01)
    model.delay = 60
    scored, lost = await scorer.finish([quick, slow], 0.1)
    assert scores(scored) == [0.001, None]
    assert reasons(lost) == [Reason.SCORING_UNAVAILABLE]
    assert lost[0].detail.startswith("1 of 2")
    await scorer.close()
    assert model.cancelled == 1


async def test_a_fallback_that_fails_too_leaves_the_assigned_releases_scores() -> None:
    first, second = Model(), Model("reward-000001", base=0.5)
    first.failures, second.failures = [None, BackendUnavailable("away")], [BackendUnavailable("away too")]
    scorer = scoring(first, second)
    candidates = some("a", "bb")
    scorer.add(candidates[0])
    await asyncio.sleep(0.01)
    scored, lost = await scorer.finish(candidates, 1)
    assert scores(scored) == [0.001, None]
    assert reasons(lost) == [Reason.SCORING_UNAVAILABLE]
    assert scorer.release == "reward-000002"


async def test_a_second_wave_is_scored_by_the_same_release() -> None:
    model = Model()
    scorer = scoring(model)
    candidates = some("a", "bb", "ccc")
    await scorer.finish(candidates[:2], 1)
    scored, _ = await scorer.finish(candidates, 1)
    assert model.calls == [["a", "bb"], ["ccc"]]
    assert scores(scored) == [0.001, 0.002, 0.003]


async def test_a_release_that_fails_in_the_second_wave_costs_the_first_waves_scores_too() -> None:
    first, second = Model(), Model("reward-000001", base=0.5)
    first.failures = [None, BackendUnavailable("away")]
    scorer = scoring(first, second)
    candidates = some("a", "bb", "ccc")
    assert scores((await scorer.finish(candidates[:2], 1))[0]) == [0.001, 0.002]
    assert scores((await scorer.finish(candidates, 1))[0]) == [0.501, 0.502, 0.503]


async def test_a_text_whose_scoring_failed_is_tried_again_when_more_is_to_be_scored() -> None:
    model = Model()
    model.failures = [BackendUnavailable("away")]
    scorer = scoring(model)
    candidates = some("a", "bb")
    scored, lost = await scorer.finish(candidates[:1], 1)
    assert (scores(scored), reasons(lost)) == ([None], [Reason.SCORING_UNAVAILABLE])
    scored, lost = await scorer.finish(candidates, 1)
    assert (scores(scored), lost) == ([0.001, 0.002], ())
    assert scorer.release == "reward-000002"


async def test_what_failed_is_tried_again_by_itself_so_that_it_can_not_take_others_along() -> None:
    model = Model()
    model.failures = [BackendError("a defect"), None, BackendError("a defect")]
    scorer = scoring(model)
    candidates = some("a", "bb")
    scorer.add(candidates[0])
    await asyncio.sleep(0.01)
    scored, _ = await scorer.finish(candidates, 1)
    assert sorted(model.calls[1:]) == [["a"], ["bb"]]
    assert sum(score is not None for score in scores(scored)) == 1


async def test_a_text_that_the_model_refuses_is_not_offered_again() -> None:
    model = Model()
    model.failures = [BackendRefused("this character")]
    scorer = scoring(model)
    candidates = some("a", "bb")
    await scorer.finish(candidates[:1], 1)
    scored, lost = await scorer.finish(candidates, 1)
    assert model.calls == [["a"], ["bb"]]
    assert scores(scored) == [None, 0.002]
    assert lost[0].detail.startswith("1 of 2")


async def test_what_the_last_release_failed_at_is_tried_again_by_it_alone() -> None:
    first, second = Model(), Model("reward-000001", base=0.5)
    first.failures, second.failures = [BackendUnavailable("away")], [BackendUnavailable("away too")]
    scorer = scoring(first, second)
    candidates = some("a", "bb")
    await scorer.finish(candidates[:1], 1)
    scored, lost = await scorer.finish(candidates, 1)
    assert scores(scored) == [0.501, 0.502]
    assert reasons(lost) == [Reason.SCORING_FELL_BACK]
    assert first.calls == [["a"]]


async def test_closing_ends_what_is_under_way() -> None:
    model = Model(delay=60)
    scorer = scoring(model)
    scorer.add(some("a")[0])
    await asyncio.sleep(0.01)
    await scorer.close()
    assert model.cancelled == 1
    await scorer.close()


async def test_what_the_model_could_not_see_is_told() -> None:
    model = Model()
    model.truncated = True
    _, lost = await scoring(model).finish(some("a"), 1)
    assert reasons(lost) == [Reason.SCORING_TRUNCATED]


async def test_what_the_cache_knows_is_not_asked_again() -> None:
    model, cache = Model(), Cache({"a": Score(0.7, 0.1, source=ScoreSource.CACHE)})
    scored, lost = await scoring(model, cache=cache).finish(some("a", "bb"), 1)
    assert model.calls == [["bb"]]
    assert [c.score.source for c in scored if c.score] == [ScoreSource.CACHE, ScoreSource.MODEL]
    assert scores(scored) == [0.7, 0.002]
    assert lost == ()
    assert cache.kept.keys() == {("reward-000002", "bb")}


async def test_known_scores_need_no_model() -> None:
    model, cache = Model(), Cache({"a": Score(0.7, 0.1, source=ScoreSource.CACHE)})
    model.failures = [BackendUnavailable("away")]
    scorer = scoring(model, cache=cache)
    assert scores((await scorer.finish(some("a"), 1))[0]) == [0.7]
    assert scorer.release == "reward-000002"


async def test_who_does_not_read_the_cache_asks_about_each_text_and_keeps_its_score() -> None:
    model, cache = Model(), Cache({"a": Score(0.7, 0.1, source=ScoreSource.CACHE)})
    candidates = some("a", "bb")
    scorer = scoring(model, cache=cache, reads=False)
    scored, lost = await scorer.finish(candidates, 1)
    assert (model.calls, scores(scored), lost, cache.asked) == ([["a", "bb"]], [0.001, 0.002], (), 0)
    assert cache.kept.keys() == {("reward-000002", "a"), ("reward-000002", "bb")}


async def test_a_cache_that_is_away_is_told_once_and_asked_once() -> None:
    model, cache = Model(), Cache()
    cache.failures = [ScoreCacheUnavailable("away")] * 3
    scorer = scoring(model, cache=cache)
    candidates = some("a", "bb")
    for candidate in candidates:
        scorer.add(candidate)
        await asyncio.sleep(0.01)
    scored, lost = await scorer.finish(candidates, 1)
    assert scores(scored) == [0.001, 0.002]
    assert reasons(lost) == [Reason.SCORE_CACHE_UNAVAILABLE]
    assert cache.asked == 1


async def test_a_fallbacks_scores_are_kept_as_the_fallbacks() -> None:
    first, second, cache = Model(), Model("reward-000001"), Cache()
    first.failures = [BackendError("broken")]
    await scoring(first, second, cache=cache).finish(some("a"), 1)
    assert cache.kept.keys() == {("reward-000001", "a")}


async def test_a_cancelled_request_stays_cancelled() -> None:
    model = Model(delay=60)
    scorer = scoring(model)
    task = asyncio.create_task(scorer.finish(some("a"), 60))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await scorer.close()
    assert model.cancelled == 1
