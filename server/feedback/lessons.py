"""What ratings teach of their users: each moves the user's preference vector towards what was asked and answered, or
away from it. An edit moves it by the difference, a withdrawal back."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from server.backends.embedding import Embedder
from server.feedback.types import Kept
from server.learning import Learner, Lesson

EMBEDDING_SECONDS = 2.0


class Exchanges(Protocol):
    """What this needs of the store."""

    async def exchange(self, tenant: str, response_id: UUID) -> tuple[str, str] | None:
        """A reply's query and answer."""


class Lessons:
    """Hands what is to be learned to the `learner`, which reads and embeds the texts when their turn has come."""

    def __init__(self, exchanges: Exchanges, embedder: Embedder, learner: Learner) -> None:
        self._exchanges, self._embedder, self._learner = exchanges, embedder, learner

    def teach(self, tenant: str, kept: Kept) -> None:
        """Notes what is to be learned from a feedback; returns at once."""
        if not kept.to_learn:
            return
        response_id = kept.feedback.response_id

        async def embedding() -> Sequence[float] | None:
            found = await self._exchanges.exchange(tenant, response_id)
            return (await self._embedder.embed(["\n".join(found)], EMBEDDING_SECONDS))[0] if found else None

        self._learner.teach(Lesson(tenant, kept.feedback.user_id, response_id, kept.to_learn, embedding))
