"""Challengers in shadow: they answer a share of requests after the reply was logged, and nobody sees it.

A reward scores the same candidates, a policy draws candidates of its own. What is kept are figures, no text
(`shadowing.ShadowAnswer`). It costs the path nothing: one answer at a time in a process, at most a quarter of the
time, none while the server is busy; what does not fit is dropped, never waited for.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from server.deliberation import Policy
from server.errors import BackendTimeout, RatchetError, told
from server.metrics import SHADOW_ANSWERS
from server.rollout.assignment import BUCKETS, Unit, bucket_of
from server.rollout.routed import Shadowed
from server.rollout.shadowing import ShadowAnswer
from server.stages import candidates as drawing
from server.stages import prompt
from server.stages.scoring import Reward
from server.types import Candidate, Sampling, Turn

log = logging.getLogger(__name__)

WAITING = 32
"""Answers that may wait; more are dropped, and counted."""
STALE_SECONDS = 30.0
"""Answers that waited longer are dropped: the machine has other things to do."""
BUSY_SHARE = 0.5
"""Of the calls that may be under way: with more of them there is no shadow."""
ANSWER_SECONDS = 10.0
"""What each side may take for one answer, at most."""
REST = 3.0
"""Times an answer's own time until the next one begins: a quarter of the time at most."""
STOP_SECONDS = 1.0
LONGEST_ERROR = 200


@dataclass(frozen=True, slots=True)
class Given:
    """A reply that was given, as a shadow needs it.

    `material`: what the prompt held. `reward_context`: what rewards got beside the query; None: they were asked
    nothing. `judge`: the reward that was to judge it, the champion in all but replies of another rollout; `release`:
    the one whose scores the candidates have.
    """

    turn: Turn
    material: prompt.Material
    candidates: tuple[Candidate, ...]
    reward_context: str | None
    judge: Reward
    release: str

    def scores(self, texts: Sequence[str], again: Sequence[float]) -> tuple[float, ...]:
        """The judge's scores of texts as they were logged, so that ratings can be matched to them; those that it gave
        just now where the reply has none of its own. Batches differ in the last digits."""
        known = {each.text: each.reward_score for each in self.candidates if self.release == self.judge.release.id}
        logged = (known.get(text) for text in texts)
        return tuple(new if score is None else score for score, new in zip(logged, again, strict=True))


class Shadowing(Protocol):
    """What the request path needs of the shadow."""

    def offer(self, given: Given, shadows: Sequence[Shadowed]) -> None:
        """Notes a reply whose row is logged, for those shadows that it falls to. Returns at once, never raises."""


class NoShadow:
    """`Shadowing` where nobody is in shadow: in replays and tests."""

    def offer(self, given: Given, shadows: Sequence[Shadowed]) -> None:
        """Nothing."""


NO_SHADOW = NoShadow()


class ShadowAnswers(Protocol):
    """Where answers are kept."""

    async def add(self, answer: ShadowAnswer) -> None:
        """Keeps one; a repeated one changes nothing. Raises StoreUnavailable."""


def chosen(shadow: Shadowed, tenant_id: str, response_id: UUID) -> bool:
    """Whether a reply is among those that the shadow answers too: another draw for each rollout."""
    bucket = bucket_of(f"shadow:{shadow.rollout_id}", tenant_id, Unit.REQUEST, str(response_id))
    return bucket < round(shadow.share * BUCKETS)


class Shadow:
    """Answers what is offered, in a task of its own. `busy` says whether the server has its hands full."""

    def __init__(
        self,
        answers: ShadowAnswers,
        *,
        threads: Executor,
        evidence_tokens: int,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._answers, self._threads = answers, threads
        self._evidence_tokens, self._busy = evidence_tokens, busy
        self._waiting: asyncio.Queue[tuple[float, Shadowed, Given]] = asyncio.Queue(WAITING)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the task."""
        self._task = asyncio.create_task(self._answer_forever())

    async def stop(self) -> None:
        """Ends the task. What waits is dropped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=STOP_SECONDS)

    async def idle(self) -> None:
        """Returns once all that was noted is answered, or given up."""
        await self._waiting.join()

    def offer(self, given: Given, shadows: Sequence[Shadowed]) -> None:
        """Notes a reply whose row is logged, for those shadows that it falls to. Returns at once, never raises."""
        for shadow in shadows:
            if chosen(shadow, given.turn.tenant_id, given.turn.response_id):
                self._note(shadow, given)

    def _note(self, shadow: Shadowed, given: Given) -> None:
        if not _texts(given.candidates) or given.reward_context is None:
            return
        if self._busy():
            SHADOW_ANSWERS.labels("busy").inc()
            return
        try:
            self._waiting.put_nowait((time.monotonic(), shadow, given))
        except asyncio.QueueFull:
            SHADOW_ANSWERS.labels("dropped").inc()

    async def _answer_forever(self) -> None:
        while True:
            noted, shadow, given = await self._waiting.get()
            began = time.monotonic()
            if self._busy() or began - noted > STALE_SECONDS:
                SHADOW_ANSWERS.labels("busy").inc()
            else:
                await self._answer(shadow, given)
            self._waiting.task_done()
            await asyncio.sleep((time.monotonic() - began) * REST)

    async def _answer(self, shadow: Shadowed, given: Given) -> None:
        """One answer, kept. A defect of ours, or of the champion, is nothing that the challenger did."""
        try:
            answer = await self._compared(shadow, given)
            await self._answers.add(answer)
            SHADOW_ANSWERS.labels("failed" if answer.error else "answered").inc()
        except RatchetError as error:
            SHADOW_ANSWERS.labels("lost").inc()
            log.warning("a shadow's answer is lost: %s", told(error))
        except Exception:
            SHADOW_ANSWERS.labels("lost").inc()
            log.exception("a shadow's answer is lost")

    async def _compared(self, shadow: Shadowed, given: Given) -> ShadowAnswer:
        if shadow.reward is not None:
            return await self._scored(shadow.rollout_id, shadow.reward, given)
        assert shadow.policy is not None
        return await self._drawn(shadow.rollout_id, shadow.policy, given)

    async def _scored(self, rollout_id: str, challenger: Reward, given: Given) -> ShadowAnswer:
        """Both rewards' scores. The champion scores once more, so that times are of the same texts and machine, and
        none is a cache's. In turns who is first: the second finds all warm."""
        texts = _texts(given.candidates)
        if given.turn.response_id.int % 2:
            theirs, took = await _timed(given, texts)
            ours = await _attempt(challenger, given, texts)
        else:
            ours = await _attempt(challenger, given, texts)
            theirs, took = await _timed(given, texts)
        theirs = given.scores(texts, theirs)
        return ShadowAnswer(
            rollout_id=rollout_id,
            response_id=given.turn.response_id,
            tenant_id=given.turn.tenant_id,
            scores=ours.scores,
            champion_scores=theirs,
            same_choice=None if ours.error else _first(ours.scores) == _first(theirs),
            seconds=ours.seconds,
            champion_seconds=took,
            error=ours.error,
        )

    async def _drawn(self, rollout_id: str, challenger: Policy, given: Given) -> ShadowAnswer:
        """Scores of the policy's own candidates, sampled as the reply's were, and of the reply's."""
        before = [candidate for candidate in given.candidates if candidate.wave == given.candidates[0].wave]
        theirs, _ = await _timed(given, [candidate.text for candidate in before if candidate.drawn])
        found: tuple[Candidate, ...] = ()
        error, began = "", time.perf_counter()
        try:
            found = await self._candidates(challenger, given, [candidate.sampling for candidate in before])
        except RatchetError as failure:
            error = told(failure)[:LONGEST_ERROR]
        slowest = max((candidate.seconds for candidate in found if candidate.drawn), default=0.0)
        scores = (await _timed(given, [one.text for one in found if one.drawn]))[0] if found else ()
        return ShadowAnswer(
            rollout_id=rollout_id,
            response_id=given.turn.response_id,
            tenant_id=given.turn.tenant_id,
            scores=scores,
            champion_scores=theirs,
            seconds=slowest or time.perf_counter() - began,
            champion_seconds=max(candidate.seconds for candidate in before),
            error=error,
        )

    async def _candidates(self, policy: Policy, given: Given, plans: Sequence[Sampling]) -> tuple[Candidate, ...]:
        """What the policy draws for the same conversation, by its own template and window."""
        turn, loop = given.turn, asyncio.get_running_loop()
        limit, tokens = policy.window(turn.max_output_tokens)
        fitted = await loop.run_in_executor(
            self._threads, prompt.compose, turn.query, given.material, policy, limit, self._evidence_tokens
        )
        own = [replace(plan, max_tokens=tokens) for plan in plans]
        return await drawing.draw(fitted.text, own, policy, drawing.Patience(ANSWER_SECONDS), _unseen)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What a challenger's scoring gave: scores, or why there are none; and the seconds it took."""

    scores: tuple[float, ...]
    seconds: float
    error: str = ""


def _unseen(candidate: Candidate) -> None:
    """Nobody watches."""


def _texts(candidates: Sequence[Candidate]) -> list[str]:
    """Each text once."""
    return list(dict.fromkeys(candidate.text for candidate in candidates if candidate.drawn))


def _first(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


async def _timed(given: Given, texts: Sequence[str], reward: Reward | None = None) -> tuple[tuple[float, ...], float]:
    """Scores of the texts by `reward`, or who judged the reply, and the seconds that took. Raises BackendError."""
    began = time.perf_counter()
    scores = await (reward or given.judge).score(given.reward_context or "", given.turn.query, texts, ANSWER_SECONDS)
    return tuple(score.score for score in scores), time.perf_counter() - began


async def _attempt(reward: Reward, given: Given, texts: Sequence[str]) -> _Attempt:
    began = time.perf_counter()
    try:
        return _Attempt(*await _timed(given, texts, reward))
    except BackendTimeout:
        why = f"It did not answer within {ANSWER_SECONDS:.0f} s."
    except RatchetError as error:
        why = told(error)[:LONGEST_ERROR]
    return _Attempt((), time.perf_counter() - began, why)
