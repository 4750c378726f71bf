"""What is looked up before an answer is sought: what this request got before, whom it is about, and evidence."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from server.errors import BackendError
from server.journey import Journey
from server.means import DEFECT, LOOKUP_SHARE, Services
from server.stages import context, tools
from server.stages.settings import PathSettings
from server.storage.journal import LOOKUP_PATIENCE
from server.tools.tool import Question
from server.types import (
    Degradation,
    DegradationReason,
    Evidence,
    Profile,
    Recollection,
    Reply,
    ToolRun,
    ToolUse,
    Turn,
)

log = logging.getLogger(__name__)

TOOLS_SHARE = 0.3
"""Share of the remaining time that the tools may take at most."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known before an answer is sought."""

    recollection: Recollection
    profile: Profile | None
    embedding: tuple[float, ...] | None


class Lookups:
    """Each within its own time; what is late or away is skipped, and the turn's journey is told."""

    def __init__(self, services: Services, settings: PathSettings) -> None:
        self._services, self._settings = services, settings

    async def begin(self, way: Journey) -> tuple[Reply | None, Known]:
        """The reply that this request got before, and what is known: looked up at once, most requests are new."""
        if way.turn.request_id:
            way.latencies["lookup"] = 0.0  # it begins first, and latencies are told in order
        finding = asyncio.create_task(self._find(way))
        try:
            known = await self._recall(way)
        except BaseException:
            finding.cancel()
            await asyncio.wait([finding])
            raise
        return await finding, known

    async def _find(self, way: Journey) -> Reply | None:
        turn = way.turn
        if not turn.request_id:
            return None
        with way.stage("lookup"):
            seconds = min(LOOKUP_PATIENCE, way.remaining() * LOOKUP_SHARE)
            return await self._services.log.find((turn.tenant_id, turn.request_id, turn.fingerprint), seconds)

    async def _recall(self, way: Journey) -> Known:
        """Memory, profile and the query's embedding, side by side, each within its own time."""
        turn, services, settings, left = way.turn, self._services, self._settings, way.remaining() * LOOKUP_SHARE
        with way.stage("context"):
            (recollection, no_memory), (profile, no_profile), (embedding, no_embedding) = await asyncio.gather(
                context.recall(turn, services.memory, min(settings.memory_budget, left)),
                context.profile(turn, services.profiles, min(settings.profile_budget, left)),
                self._embed(turn, min(settings.embedding_budget, left)),
            )
        way.lost((*no_memory, *no_profile, *no_embedding))
        return Known(recollection, profile, embedding)

    async def _embed(self, turn: Turn, budget: float) -> tuple[tuple[float, ...] | None, tuple[Degradation, ...]]:
        try:
            return (await self._services.embedder.embed([turn.query], budget))[0], ()
        except BackendError as error:
            why = str(error)
        except Exception:
            log.exception("embedding a query failed")
            why = DEFECT
        return None, (Degradation(DegradationReason.EMBEDDING_UNAVAILABLE, f"The query has no embedding: {why}"),)

    async def use_tools(self, way: Journey, known: Known) -> tuple[ToolRun, ...]:
        """What the selected tools found, run side by side."""
        turn, services = way.turn, self._services
        if turn.tool_use is ToolUse.NONE or not services.tools:
            return ()
        question = Question(
            turn.tenant_id, turn.user_id, turn.query, known.recollection.exchanges, known.profile, known.embedding
        )
        budget = min(self._settings.tool_budget, way.remaining() * TOOLS_SHARE)
        with way.stage("tools"):
            runs, lost = await tools.run(question, services.tools, services.selector, turn.tools, budget, way.watch)
        way.lost(lost)
        return runs


def evidence_of(runs: Sequence[ToolRun]) -> tuple[Evidence, ...]:
    """The passages of all tools, each tool's best first: rank by rank, so that no tool crowds out another; equal texts
    once."""
    ranks = zip_longest(*(run.evidence for run in runs))
    found = {evidence.text: evidence for rank in ranks for evidence in rank if evidence is not None}
    return tuple(found.values())
