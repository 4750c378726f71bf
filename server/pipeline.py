"""The request path, one line a stage: read this first.

    turn -> context -> prompt -> candidates -> scoring -> selection -> delivery -> log -> reply

A stage that can't do its work degrades the reply and says so; only without any candidate, without time or without a
durable log row is there no reply.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from server.errors import BackendError, DeadlineExceeded, PolicyUnavailable
from server.metrics import DEGRADATIONS, REWARD_SCORES, STAGE_SECONDS
from server.stages import candidates as drawing
from server.stages import context, delivery, prompt, scoring, selection
from server.storage.journal import Log
from server.storage.memory import Memory, MemoryUnavailable
from server.storage.rows import LogEntry
from server.types import Candidate, Degradation, DegradationReason, Exchange, Reply, Turn
from triton_models.dialogue import transcript
from triton_models.manifest import Release

MEMORY_BUDGET = 0.1
"""Seconds that reading or updating the memory may take."""
CANDIDATES_SHARE = 0.7
"""Share of the remaining time after which candidates that are still being drawn are given up."""
LOG_RESERVE = 0.15
"""Share of the time that then remains which is kept for selection and the log."""


class Policy(drawing.Policy, prompt.Window, Protocol):
    """A policy release that is being served."""

    release: Release

    @property
    def seeded(self) -> bool:
        """Whether seeds decide texts."""

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        """Tokens for (prompt, answer)."""


class Reward(scoring.Reward, Protocol):
    """A reward release that is being served."""

    release: Release


@dataclass(frozen=True, slots=True)
class Services:
    """What the path is given."""

    policy: Policy
    reward: Reward
    log: Log
    memory: Memory
    threads: Executor


@dataclass(slots=True)
class _Journey:
    """What accumulates on the way of one turn."""

    turn: Turn
    began: float = field(default_factory=time.perf_counter)
    latencies: dict[str, float] = field(default_factory=dict)
    degradations: list[Degradation] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.latencies[name] = time.perf_counter() - started
            STAGE_SECONDS.labels(name).observe(self.latencies[name])

    def remaining(self) -> float:
        """Seconds until the deadline. Raises DeadlineExceeded when there are none."""
        left = self.turn.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineExceeded("The deadline passed before an answer existed.")
        return left


class Pipeline:
    """Answers turns. Stateless: all state is in its services."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, turn: Turn) -> Reply:
        """The best of N candidates, its log row durable; the first reply when the request id was answered before."""
        way = _Journey(turn)
        way.remaining()
        try:
            async with asyncio.timeout_at(turn.deadline):
                return await self._answer(way)
        except TimeoutError as error:
            raise DeadlineExceeded("The deadline passed before an answer existed.") from error

    async def _answer(self, way: _Journey) -> Reply:
        first = await self._find(way)
        if first is not None:
            return await self._remember(way, first)
        exchanges = await self._recall(way)
        fitted, answer_tokens = await self._compose(way, exchanges)
        drawn = await self._draw(way, fitted, answer_tokens)
        scored = await self._score(way, fitted, drawn)
        reply = await self._choose(way, scored)
        logged = await self._record(way, LogEntry(way.turn, fitted.exchanges, reply))
        return await self._remember(way, logged)

    async def _find(self, way: _Journey) -> Reply | None:
        turn = way.turn
        if not turn.request_id:
            return None
        with way.stage("lookup"):
            return await self._services.log.find((turn.tenant_id, turn.request_id, turn.fingerprint))

    async def _recall(self, way: _Journey) -> tuple[Exchange, ...]:
        with way.stage("context"):
            exchanges, lost = await context.recall(way.turn, self._services.memory, min(MEMORY_BUDGET, way.remaining()))
        way.degradations += lost
        return exchanges

    async def _compose(self, way: _Journey, exchanges: tuple[Exchange, ...]) -> tuple[prompt.Prompt, int]:
        policy, turn = self._services.policy, way.turn
        limit, answer_tokens = policy.window(turn.max_output_tokens)
        with way.stage("prompt"):
            try:
                fitted = await asyncio.get_running_loop().run_in_executor(
                    self._services.threads, prompt.compose, turn.query, turn.context, exchanges, policy, limit
                )
            except BackendError as error:  # the chat template refuses the conversation
                raise PolicyUnavailable(str(error)) from error
        way.degradations += fitted.degradations
        return fitted, answer_tokens

    async def _draw(self, way: _Journey, fitted: prompt.Prompt, tokens: int) -> tuple[Candidate, ...]:
        turn, policy = way.turn, self._services.policy
        plans = drawing.plan(turn.candidate_count, turn.seed, tokens)
        with way.stage("candidates"):
            drawn = await drawing.draw(fitted.text, plans, policy, way.remaining() * CANDIDATES_SHARE)
        way.degradations += drawing.missing(drawn)
        if turn.seed_given and not policy.seeded:
            detail = (
                f"{policy.release.id} runs on a backend whose seeds are global: the same seed may draw other texts."
            )
            way.degradations.append(Degradation(DegradationReason.SEED_NOT_HONORED, detail))
        return drawn

    async def _score(self, way: _Journey, fitted: prompt.Prompt, drawn: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        background = transcript(fitted.context, ((e.query, e.response) for e in fitted.exchanges))
        with way.stage("scoring"):
            budget = way.remaining() * (1 - LOG_RESERVE)
            scored, lost = await scoring.score(drawn, background, way.turn.query, self._services.reward, budget)
        way.degradations += lost
        return scored

    async def _choose(self, way: _Journey, scored: tuple[Candidate, ...]) -> Reply:
        turn, services = way.turn, self._services
        with way.stage("selection"):
            choice = selection.select(scored)
            ask = delivery.worth_asking(scored, choice.index) and await self._may_ask(turn)
        best = scored[choice.index]
        return Reply(
            response_id=turn.response_id,
            response=best.text,
            reward_score=best.reward_score,
            generation_method=best.sampling.preset.name,
            feedback_prompt=ask,
            candidates=scored,
            choice=choice,
            policy_release=services.policy.release.id,
            reward_release=services.reward.release.id if best.reward_score is not None else "",
            seed=turn.seed,
            seed_honored=services.policy.seeded,
            created_at=datetime.now(UTC),
            latencies=dict(way.latencies),
            total_seconds=time.perf_counter() - way.began,
            degradations=tuple(way.degradations),
        )

    async def _may_ask(self, turn: Turn) -> bool:
        try:
            async with asyncio.timeout(MEMORY_BUDGET):
                return await self._services.memory.claim_feedback_prompt(
                    turn.tenant_id, turn.user_id or turn.session_id
                )
        except (MemoryUnavailable, TimeoutError):
            return False  # rather not ask than ask at every turn

    async def _record(self, way: _Journey, entry: LogEntry) -> Reply:
        with way.stage("log"):
            logged = await self._services.log.append(entry)
        for degradation in logged.degradations:
            DEGRADATIONS.labels(degradation.reason.value).inc()
        if logged.reward_score is not None:
            REWARD_SCORES.labels(logged.reward_release).observe(logged.reward_score)
        return logged

    async def _remember(self, way: _Journey, reply: Reply) -> Reply:
        """The exchange goes into memory before the reply leaves, so that the session's next query finds it.

        A replayed one too: its first caller may have left before it got there.
        """
        turn, memory = way.turn, self._services.memory
        degradations = reply.degradations
        if turn.session_id:
            try:
                with way.stage("memory"):
                    async with asyncio.timeout(min(MEMORY_BUDGET, way.remaining())):
                        exchange = Exchange(turn.query, reply.response)
                        await memory.remember(
                            turn.tenant_id, turn.user_id, turn.session_id, reply.response_id, exchange
                        )
            except (MemoryUnavailable, TimeoutError) as error:
                detail = str(error) or "The memory did not answer in time."
                degradations = (*degradations, Degradation(DegradationReason.MEMORY_NOT_UPDATED, detail))
        if reply.replayed:
            return replace(reply, degradations=degradations)
        total = time.perf_counter() - way.began
        return replace(reply, latencies=dict(way.latencies), total_seconds=total, degradations=degradations)
