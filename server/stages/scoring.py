"""Stage 4: the reward model's score of each candidate, from the moment the candidate has its text.

All candidates of a reply are scored by one release: scores of two releases can't be compared. A score is never
invented, nor another text's: what was not scored stays None.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from server.errors import BackendError, BackendRefused, BackendTimeout
from server.metrics import SCORES
from server.storage.scores import ScoreCache, ScoreCacheUnavailable, Subject
from server.types import Candidate, Degradation, DegradationReason, Score
from triton_models.manifest import Release

log = logging.getLogger(__name__)

_SHORTEST = 0.001
"""Seconds that a model gets at least."""


def _nobody(candidate: Candidate) -> None:
    """Nobody watches."""


class Reward(Protocol):
    """What scoring needs of a reward release."""

    release: Release

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        """One score a response; raises BackendError."""


@dataclass(slots=True, eq=False)
class _Rung:
    """One release of the ladder, what it was asked and what it said, by text. `failed`: worth another try."""

    reward: Reward
    asked: set[str] = field(default_factory=set)
    scores: dict[str, Score] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    error: BackendError | None = None
    gathering: bool = False


class Scoring:
    """Scores the candidates of one request. `ladder`: the assigned release, then verified ones to fall back to.

    Equal texts are scored once. What is added in one turn of the event loop is sent together. When a release fails,
    the next one scores everything again, from then on; what the last one failed at is tried again by the next `finish`,
    each text by itself, so that it can't take others along. `deadline` is in seconds of the event loop's clock; what is
    scored goes into the `cache`, and who `reads` it scores what it lacks alone; `watch` gets each candidate when it has
    its score, and again when another release scored it.
    """

    def __init__(
        self,
        subject: Subject,
        ladder: Sequence[Reward],
        *,
        deadline: float,
        cache: ScoreCache | None = None,
        reads: bool = True,
        watch: Callable[[Candidate], None] = _nobody,
    ) -> None:
        self.watch = watch
        self.release = ""
        """The id of the release whose scores `finish` gave; "" while there are none."""
        self._subject, self._deadline, self._cache, self._reads = subject, deadline, cache, reads
        self._rungs = [_Rung(reward) for reward in ladder]
        self._at = 0
        self._texts: dict[str, list[Candidate]] = {}
        self._tasks: dict[asyncio.Task[None], _Rung] = {}
        self._cache_lost: tuple[Degradation, ...] = ()

    def add(self, candidate: Candidate) -> None:
        """Starts scoring a candidate; nothing for one without text, or known already."""
        if not candidate.drawn:
            return
        same = self._texts.setdefault(candidate.text, [])
        if any(known.index == candidate.index for known in same):
            return
        same.append(candidate)
        if score := self._rung.scores.get(candidate.text):
            self.watch(replace(candidate, score=score))
        self._start()

    async def finish(
        self, candidates: Sequence[Candidate], budget: float
    ) -> tuple[tuple[Candidate, ...], tuple[Degradation, ...]]:
        """The candidates with the scores that are there after `budget` seconds at most, and what fell short.

        Each release of the ladder gets an equal share of the time that the ones before left over. May be called again
        with more candidates.
        """
        for candidate in candidates:
            self.add(candidate)
        self._try_again()
        ends = asyncio.get_running_loop().time() + budget
        while not await self._settled(ends):
            late = f"The model {self._rung.reward.release.id} did not answer in time."
            if not self._descend(self._rung, BackendTimeout(late)):
                break
        texts = {candidate.text for candidate in candidates if candidate.drawn}
        best = max(self._rungs, key=lambda rung: len(texts & rung.scores.keys()))  # of equals the first
        scored = tuple(replace(c, score=best.scores.get(c.text)) if c.drawn else c for c in candidates)
        missing = len(texts - best.scores.keys())
        self.release = best.reward.release.id if missing < len(texts) else ""
        return scored, (*self._cache_lost, *self._fallen_short(best, missing, len(texts)), *_cut(scored))

    @property
    def context(self) -> str | None:
        """What the texts are scored in, beside the query; None while there is no text to score."""
        return self._subject.context if self._texts else None

    async def close(self) -> None:
        """Cancels what is still being scored, and returns when it has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _rung(self) -> _Rung:
        return self._rungs[self._at]

    def _start(self) -> None:
        rung = self._rung
        if not rung.gathering and self._texts.keys() - rung.asked:
            rung.gathering = True
            self._spawn(rung, self._gather(rung))

    def _try_again(self) -> None:
        rung = self._rung
        for text in rung.failed:
            self._spawn(rung, self._run(rung, [text]))
        rung.failed.clear()

    def _spawn(self, rung: _Rung, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = rung
        task.add_done_callback(self._tasks.pop)

    async def _gather(self, rung: _Rung) -> None:
        await asyncio.sleep(0)  # what arrives together is sent together
        rung.gathering = False
        texts = [text for text in self._texts if text not in rung.asked]
        rung.asked.update(texts)
        await self._run(rung, texts)

    async def _run(self, rung: _Rung, texts: Sequence[str]) -> None:
        try:
            await self._score(rung, texts)
        except BackendError as error:
            self._failed(rung, texts, error)
        except Exception:
            log.exception("scoring %d candidates failed", len(texts))
            self._failed(rung, texts, BackendError("A defect in scoring; the server's log has it."))

    def _failed(self, rung: _Rung, texts: Sequence[str], error: BackendError) -> None:
        """The next release scores them, or else this one once more, unless it would refuse that text again."""
        if not self._descend(rung, error) and not (isinstance(error, BackendRefused) and len(texts) == 1):
            rung.failed |= set(texts) - rung.scores.keys()

    async def _score(self, rung: _Rung, texts: Sequence[str]) -> None:
        subject, reward = self._subject, rung.reward
        known = await self._cached(reward.release, texts)
        self._found(rung, known)
        missing = [text for text in texts if text not in known]
        if not missing:
            return
        seconds = max(self._deadline - asyncio.get_running_loop().time(), _SHORTEST)
        scores = await reward.score(subject.context, subject.query, missing, seconds)
        fresh = dict(zip(missing, scores, strict=True))
        self._found(rung, fresh)
        if self._cache:
            self._cache.keep(subject, reward.release, fresh)

    async def _cached(self, release: Release, texts: Sequence[str]) -> Mapping[str, Score]:
        """What the cache knows; once it did not answer, it is not asked again."""
        if self._cache is None or not self._reads or self._cache_lost:
            return {}
        try:
            return await self._cache.find(self._subject, release, texts)
        except ScoreCacheUnavailable as error:
            self._cache_lost = (Degradation(DegradationReason.SCORE_CACHE_UNAVAILABLE, str(error)),)
            return {}

    def _found(self, rung: _Rung, scores: Mapping[str, Score]) -> None:
        rung.scores.update(scores)
        for score in scores.values():
            SCORES.labels(score.source.value).inc()
        if rung is self._rung:
            for text, score in scores.items():
                for candidate in self._texts[text]:
                    self.watch(replace(candidate, score=score))

    def _descend(self, rung: _Rung, error: BackendError) -> bool:
        """Goes on with the release after `rung`; whether there is one."""
        rung.error = rung.error or error
        if rung is not self._rung:
            return True
        if self._at + 1 == len(self._rungs):
            return False
        self._at += 1
        for task, its in self._tasks.items():
            if its is rung and task is not asyncio.current_task():
                task.cancel()
        self._start()
        return True

    async def _settled(self, ends: float) -> bool:
        """Whether the current release is done with all, or has failed, within its share of the time until `ends`."""
        loop, rung = asyncio.get_running_loop(), self._rung
        share = max(ends - loop.time(), 0) / (len(self._rungs) - self._at)
        until = loop.time() + share
        while tasks := [task for task, its in self._tasks.items() if its is self._rung and not task.done()]:
            if self._rung is not rung:
                return await self._settled(ends)
            if loop.time() >= until:
                return False
            await asyncio.wait(tasks, timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        return True

    def _fallen_short(self, best: _Rung, missing: int, count: int) -> tuple[Degradation, ...]:
        found: list[Degradation] = []
        first = self._rungs[0]
        if missing < count and best is not first:
            detail = f"{best.reward.release.id} scored instead of {first.reward.release.id}: {first.error}"
            found.append(Degradation(DegradationReason.SCORING_FELL_BACK, detail))
        if missing:
            why = best.error or "The time was up."
            who = "No candidate was" if missing == count else f"{missing} of {count} texts were not"
            found.append(Degradation(DegradationReason.SCORING_UNAVAILABLE, f"{who} scored: {why}"))
        return tuple(found)


def _cut(candidates: Iterable[Candidate]) -> tuple[Degradation, ...]:
    if not any(candidate.score and candidate.score.truncated for candidate in candidates):
        return ()
    detail = "The reward model saw only a part: context, query or a response was cut to fit its window."
    return (Degradation(DegradationReason.SCORING_TRUNCATED, detail),)
