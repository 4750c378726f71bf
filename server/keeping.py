"""What is kept of a reply before it leaves: its log row, its part of the metrics and of the profile, and the session's
memory. And what the memory is asked: whom to ask for feedback."""

import asyncio
import logging
from dataclasses import replace
from uuid import UUID

from server.journey import Journey
from server.means import DEFECT, LOOKUP_SHARE, Services
from server.metrics import DEGRADATIONS, REPLY_SECONDS, REWARD_SCORES
from server.patience import within
from server.stages.settings import PathSettings
from server.storage.memory import MemoryUnavailable
from server.storage.rows import LogEntry
from server.types import Degradation, DegradationReason, Exchange, Reply

log = logging.getLogger(__name__)

LAST_SHARE = 0.3
"""Share of the time left that remembering may take: a durable reply must still get to its caller."""


class Keeping:
    """Of one request path."""

    def __init__(self, services: Services, settings: PathSettings) -> None:
        self._services, self._settings = services, settings

    async def may_ask(self, way: Journey) -> bool:
        """Whether to ask for feedback: each user and session is asked now and then."""
        turn = way.turn
        if way.fell_short(DegradationReason.MEMORY_UNAVAILABLE):
            return False  # rather not ask than ask at every turn
        who = f"user {turn.user_id}" if turn.user_id else f"session {turn.session_id}" if turn.session_id else ""
        budget = min(self._settings.memory_budget, way.remaining() * LOOKUP_SHARE)
        try:
            return await within(budget, self._services.memory.claim_feedback_prompt(turn.tenant_id, who))
        except (MemoryUnavailable, TimeoutError):
            return False
        except Exception:
            log.exception("asking the memory whether to ask for feedback failed")
            return False

    async def record(self, way: Journey, entry: LogEntry, embedding: tuple[float, ...] | None) -> Reply:
        """The reply with a durable row; the first one, where another call with its request id came first."""
        with way.stage("log"):
            logged = await self._services.log.append(entry)
        if logged.replayed:
            return logged
        REPLY_SECONDS.labels(logged.policy_release).observe(logged.total_seconds)
        for degradation in logged.degradations:
            DEGRADATIONS.labels(degradation.reason.value).inc()
        if logged.reward_score is not None:
            REWARD_SCORES.labels(logged.reward_release).observe(logged.reward_score)
        self._services.learner.asked(way.turn.tenant_id, way.turn.user_id, embedding, logged.response_id)
        return logged

    async def remember(self, way: Journey, reply: Reply) -> Reply:
        """The exchange goes into memory before the reply leaves, so that the session's next query finds it.

        A replayed one too: its first caller may have left before it got there. The reply exists and is durable:
        nothing here may cost it.
        """
        turn, degradations = way.turn, reply.degradations
        if turn.session_id and not reply.refused:
            with way.stage("memory"):
                lost = await self._remembered(way, Exchange(turn.query, reply.response), reply.response_id)
            if lost:
                DEGRADATIONS.labels(DegradationReason.MEMORY_NOT_UPDATED.value).inc()
                degradations = (*degradations, Degradation(DegradationReason.MEMORY_NOT_UPDATED, lost))
        if reply.replayed:
            return replace(reply, degradations=degradations)
        return replace(reply, latencies=dict(way.latencies), total_seconds=way.total(), degradations=degradations)

    async def _remembered(self, way: Journey, exchange: Exchange, response_id: UUID) -> str:
        """Why the exchange could not be remembered; "" when it was."""
        turn = way.turn
        if way.fell_short(DegradationReason.MEMORY_UNAVAILABLE):
            return "The memory did not answer before, so it was not asked again."
        left = turn.deadline - asyncio.get_running_loop().time()
        remembering = self._services.memory.remember(
            turn.tenant_id, turn.user_id, turn.session_id, response_id, exchange
        )
        try:
            await within(min(self._settings.memory_budget, max(left * LAST_SHARE, 0.0)), remembering)
        except (MemoryUnavailable, TimeoutError) as error:
            return str(error) or "The memory did not answer in time."
        except Exception:
            log.exception("remembering an exchange failed")
            return DEFECT
        return ""
