"""Stage 1: what is remembered of the conversation."""

import asyncio

from server.storage.memory import Memory, MemoryUnavailable
from server.types import Degradation, DegradationReason, Exchange, Turn


async def recall(turn: Turn, memory: Memory, budget: float) -> tuple[tuple[Exchange, ...], tuple[Degradation, ...]]:
    """The session's recent exchanges, oldest first; none, and why, when they don't arrive within `budget` seconds."""
    if not turn.session_id:
        return (), ()
    try:
        async with asyncio.timeout(budget):
            return await memory.recall(turn.tenant_id, turn.user_id, turn.session_id), ()
    except TimeoutError:
        late = f"The conversation memory did not answer within {budget * 1000:.0f} ms."
        return (), (Degradation(DegradationReason.MEMORY_UNAVAILABLE, late),)
    except MemoryUnavailable as error:
        return (), (Degradation(DegradationReason.MEMORY_UNAVAILABLE, str(error)),)
