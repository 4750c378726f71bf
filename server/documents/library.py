"""Adding documents: read, embedded, kept. What the API and the sample data have in common."""

import asyncio
import hashlib
import uuid
from dataclasses import dataclass

from server.backends.embedding import Embedder, Vector
from server.documents.reader import Reader, Reading, Source
from server.errors import BackendTimeout, BackendUnavailable, DeadlineExceeded, StoreUnavailable
from server.storage.documents import Document, Documents, NewDocument, NewPassage, Outcome, RequestKey

READING = 2
"""Counts the ways in which passages were made: after a change, adding the same document again makes them anew."""
_BATCH = 64
"""Passages that are embedded at once."""


@dataclass(frozen=True, slots=True)
class Library:
    """The documents, with what is needed to add some. `close` ends the reader."""

    documents: Documents
    reader: Reader
    embedder: Embedder

    async def add(self, source: Source, timeout: float, request_id: str = "") -> tuple[Document, Outcome]:
        """Reads the source and keeps it, or finds that it is kept already.

        Raises DocumentUnreadable, RequestIdReused, Overloaded, DeadlineExceeded, StoreUnavailable.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._add(source, timeout, request_id)
        except (TimeoutError, BackendTimeout) as error:
            raise DeadlineExceeded("The time of the call was over before the document was added.") from error
        except BackendUnavailable as error:
            raise StoreUnavailable(f"The passages can't be embedded: {error}") from error

    async def delete(self, tenant: str, document_id: uuid.UUID, request_id: str = "") -> None:
        """Deletes a document. Raises DocumentNotFound, RequestIdReused, StoreUnavailable."""
        asked = hashlib.sha256(b"delete" + document_id.bytes).digest()
        await self.documents.delete(tenant, document_id, RequestKey(request_id, asked))

    async def close(self) -> None:
        """Ends the reading process."""
        await self.reader.close()

    async def _add(self, source: Source, timeout: float, request_id: str) -> tuple[Document, Outcome]:
        content, reading = await asyncio.to_thread(_digests, source)
        key = RequestKey(request_id, hashlib.sha256(reading + source.name.encode()).digest())
        repeated = await self.documents.repeated(source.tenant, key)
        if repeated is not None:
            return repeated
        kept = await self.documents.find(source.tenant, source.name)
        if kept is not None and (kept.reading, kept.embedding_model) == (reading, self.embedder.model):
            return kept, Outcome.UNCHANGED
        read = await self.reader.read(source, timeout)
        vectors = await self._embed(read, timeout)
        passages = tuple(
            NewPassage(one.title, one.text, one.words, vector)
            for one, vector in zip(read.passages, vectors, strict=True)
        )
        size = len(source.content)
        new = NewDocument(
            source.name, read.title, read.format.value, size, content, reading, self.embedder.model, passages
        )
        return await self.documents.put(source.tenant, new, key)

    async def _embed(self, read: Reading, timeout: float) -> list[Vector]:
        texts = [f"{passage.title}\n{passage.text}" for passage in read.passages]
        vectors: list[Vector] = []
        for first in range(0, len(texts), _BATCH):
            vectors += await self.embedder.embed(texts[first : first + _BATCH], timeout)
        return vectors


def _digests(source: Source) -> tuple[bytes, bytes]:
    """SHA-256 of the content, and of all that decides how it is read."""
    content = hashlib.sha256(source.content).digest()
    said = f"{READING}\n{source.format or ''}\n{source.title}\n{source.name}"
    return content, hashlib.sha256(content + said.encode()).digest()
