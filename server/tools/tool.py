"""What a tool is to the request path."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from server.errors import RatchetError
from server.types import Evidence, Exchange, Profile

if TYPE_CHECKING:  # settings import this room's settings
    import asyncpg

    from server.backends.champion import ToolPolicy
    from server.backends.embedding import Embedder
    from server.settings import Settings
    from server.storage.profiles import Profiles


class ToolRefused(RatchetError):
    """The tool will not do what was asked of it: a forbidden address, statement or row. The text says why."""


class ToolFailed(RatchetError):
    """The tool could not do its work now."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a tool is asked. `embedding` is the query's, of unit length, or None when there is none.

    `user_id` comes from the request, never from a text: what a user may see is decided by it.
    """

    tenant_id: str
    user_id: str
    query: str
    exchanges: tuple[Exchange, ...] = ()
    profile: Profile | None = None
    embedding: tuple[float, ...] | None = None


class Tool(Protocol):
    """Finds evidence. Stateless between calls; `run` is cancelled when its time is over."""

    @property
    def name(self) -> str:
        """Lower case, one word; unique."""

    @property
    def description(self) -> str:
        """One sentence on when to use it, for a policy that can call functions and for people."""

    def relevance(self, question: Question) -> float:
        """0 to 1: how likely the tool helps, in well under a millisecond and without I/O. For the light router."""

    async def run(self, question: Question) -> tuple[Evidence, ...]:
        """Evidence, best first; empty when there is none. Raises ToolRefused or ToolFailed."""

    async def close(self) -> None:
        """Gives back what it holds."""


@dataclass(frozen=True, slots=True)
class ToolServices:
    """What a tool may be made of. All of it is shared and outlives the tool: `close` leaves it alone.

    `pool` and `database_url` are Ratchet's own database; `threads` is where long work goes, off the event loop.
    """

    settings: "Settings"
    pool: "asyncpg.Pool"
    database_url: str
    embedder: "Embedder"
    policy: "ToolPolicy"
    threads: Executor
    profiles: "Profiles"
    away: Callable[[], bool] = lambda: False
    """Whether Ratchet's own database is known not to answer."""
