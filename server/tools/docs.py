"""The docs tool: passages of the tenant's documents, by words and meaning, and by what the user prefers."""

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from server.backends.embedding import Embedder, Vector
from server.documents import followups
from server.documents.digests import Digests
from server.documents.followups import Asked
from server.errors import BackendError, StoreUnavailable, told
from server.storage.passages import Found, Passages, PostgresPassages, Search
from server.tools.tool import Question, ToolFailed
from server.types import Evidence, Profile

if TYPE_CHECKING:
    from server.tools.tool import ToolServices

EMBED_SECONDS = 0.5
"""What the vector of a follow-up may take; after that its words alone are searched."""
log = logging.getLogger(__name__)

UNKNOWN = 0.5
"""Relevance while the tenant's vocabulary is still to be read: rather look than miss."""
EASE = 0.75
"""Exponent that turns the share of known words into a relevance: a third of a query's words is worth a look."""
CONTENDERS = 0.6
"""Of the best passage's score, from which on a passage is about as relevant, and may come first."""
PREFERENCE = 0.5
"""How much a full preference changes a passage's sum of reciprocal ranks, one way or the other."""
HALF_TRUST = 3.0
"""Weight of a profile at which its preference counts by half."""


class DocsTool:
    """`server.tools.tool.Tool` on the documents that were added."""

    name = "docs"
    description = "Searches the documents of the organisation, such as help pages, manuals and policies."

    def __init__(self, passages: Passages, embedder: Embedder, *, most: int = 3, least: float = 0.25) -> None:
        """`embedder` made the passages' vectors; at most `most` passages are given, of a relevance of `least`."""
        self._passages, self._embedder, self._most, self._least = passages, embedder, most, least
        self._digests = Digests(passages)

    def start(self) -> None:
        """Begins to follow what documents there are."""
        self._digests.start()

    def relevance(self, question: Question) -> float:
        """The share of the query's telling words that any document has, eased; no I/O."""
        vocabulary = self._digests.known(question.tenant_id)
        if vocabulary is None:
            return UNKNOWN
        return math.pow(min(vocabulary.known(_asked(question).terms), 1.0), EASE)

    async def run(self, question: Question) -> tuple[Evidence, ...]:
        """The best passages; none when none is about the query. Raises ToolFailed while the store is away."""
        asked, profile = _asked(question), question.profile
        vector = await self._vector(asked) if asked.follows else question.embedding
        preference = profile.preference if profile and profile.model == self._embedder.model else None
        search = Search(question.tenant_id, asked.terms, vector or (), preference or ())
        try:
            vocabulary = await self._digests.of(question.tenant_id)
            found = await self._passages.search(search, vocabulary)
        except StoreUnavailable as error:
            raise ToolFailed(str(error)) from error
        relevant = [one for one in found if one.score >= self._least]
        return tuple(map(_evidence, chosen(relevant, self._most, trust(profile) if preference else 0.0)))

    async def close(self) -> None:
        """Ends what follows the documents."""
        await self._digests.close()

    async def _vector(self, asked: Asked) -> Vector | None:
        """Of a follow-up together with what it follows; None when there is none in time."""
        try:
            return (await self._embedder.embed([asked.text], EMBED_SECONDS))[0]
        except BackendError as error:
            log.info("a follow-up is searched by its words alone: %s", told(error))
            return None


async def open_docs(services: "ToolServices") -> DocsTool:
    """The tool on Ratchet's own database; makes the index for the embedding model, where it is missing."""
    embedder, settings = services.embedder, services.settings
    passages = PostgresPassages(services.pool, embedder.model, embedder.dimension, services.away)
    await passages.prepare()
    tool = DocsTool(passages, embedder, most=settings.docs_passages, least=settings.docs_relevance)
    tool.start()
    return tool


def _asked(question: Question) -> Asked:
    return followups.asked(question.query, [exchange.query for exchange in question.exchanges])


def trust(profile: Profile | None) -> float:
    """0 to 1: how much a preference counts that was learned from so little or so much."""
    return profile.weight / (profile.weight + HALF_TRUST) if profile and profile.weight > 0 else 0.0


def chosen(found: Sequence[Found], most: int, trusted: float) -> list[Found]:
    """The `most` passages that both lists place first, each text once; those clearly more relevant than others lead.

    The user's preference counts by `trusted`, 0 to 1, among those that are about as relevant as the best.
    """
    bar = CONTENDERS * max((one.score for one in found), default=0.0)

    def place(one: Found) -> float:
        liked = PREFERENCE * trusted * one.preference if one.score >= bar else 0.0
        return -one.fused * (1 + liked)

    return sorted(_different(sorted(found, key=place))[:most], key=lambda one: one.score < bar)


def _different(found: Sequence[Found]) -> list[Found]:
    """Each text once: the same page may have been added from two places."""
    return list({one.text: one for one in reversed(found)}.values())[::-1]


def _evidence(found: Found) -> Evidence:
    source = f"{found.document_id}#{found.number}"
    return Evidence("docs", source, found.title, found.text, found.uri, found.score)
