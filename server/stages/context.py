"""Stage 1: what is remembered of the conversation, and who is asking. Each lookup has a time budget of its own."""

import logging

from server.errors import StoreUnavailable
from server.patience import within
from server.storage.memory import Memory, MemoryUnavailable
from server.storage.profiles import Profiles
from server.types import Degradation, DegradationReason, Profile, Recollection, Turn

log = logging.getLogger(__name__)

Degradations = tuple[Degradation, ...]


async def recall(turn: Turn, memory: Memory, budget: float) -> tuple[Recollection, Degradations]:
    """What is remembered of the session; nothing, and why, when it doesn't arrive within `budget` seconds."""
    if not turn.session_id:
        return Recollection(), ()
    try:
        return await within(budget, memory.recall(turn.tenant_id, turn.user_id, turn.session_id)), ()
    except TimeoutError:
        detail = f"The conversation memory did not answer within {budget * 1000:.0f} ms."
    except MemoryUnavailable as error:
        detail = str(error)
    except Exception:
        log.exception("recalling a session failed")
        detail = "A defect in reading the memory; the server's log has it."
    return Recollection(), (Degradation(DegradationReason.MEMORY_UNAVAILABLE, detail),)


async def profile(turn: Turn, profiles: Profiles, budget: float) -> tuple[Profile | None, Degradations]:
    """The asking user's profile; None for anonymous and unknown users, and, with the reason, when it doesn't arrive
    within `budget` seconds."""
    if not turn.user_id:
        return None, ()
    try:
        return await within(budget, profiles.get(turn.tenant_id, turn.user_id)), ()
    except TimeoutError:
        detail = f"The user's profile did not arrive within {budget * 1000:.0f} ms."
    except StoreUnavailable as error:
        detail = str(error)
    except Exception:
        log.exception("reading a profile failed")
        detail = "A defect in reading the profile; the server's log has it."
    return None, (Degradation(DegradationReason.PROFILE_UNAVAILABLE, detail),)
