"""Documents and their passages in Postgres: added, replaced, listed and deleted. Searching is in `passages`.

A replacement is one transaction: who searches finds the old passages or the new ones.
"""

import json
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import asyncpg

from server.errors import DocumentNotFound, RequestIdReused, StoreUnavailable, told
from server.storage.database import GONE, WAIT_AND_RETRY, Connection, bounded

NAMESPACE = uuid.UUID("6f1d2b0a-7f0e-5c55-9d3c-52617463686f")
"""Of document ids: any constant of our own."""
READING, CHANGING = 30.0, 300.0
"""Seconds after which the connection is cut off on which Postgres has not answered. They include the wait for one of
few connections while large documents are added; a caller who leaves cuts off sooner."""
_ROWS = 256
"""Passages that one statement inserts."""
_SHOWN = (
    "document_id, uri, title, media_type, size_bytes, passage_count, content_sha256, created_at, updated_at, "
    "reading, embedding_model"
)

T = TypeVar("T")


class Outcome(StrEnum):
    """What adding a document did; the values of `ratchet.v1.AddOutcome`."""

    ADDED = "added"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Document:
    """What is kept of a document. `reading` is the SHA-256 of all that its passages were made from."""

    document_id: uuid.UUID
    uri: str
    title: str
    media_type: str
    size_bytes: int
    passage_count: int
    content_sha256: bytes
    created_at: datetime
    updated_at: datetime
    reading: bytes
    embedding_model: str


@dataclass(frozen=True, slots=True)
class NewPassage:
    """A passage to keep: `words` as `server.documents.words.vector` writes them, `embedding` of unit length."""

    title: str
    text: str
    words: str
    embedding: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to keep, with its passages in order."""

    uri: str
    title: str
    media_type: str
    size_bytes: int
    content_sha256: bytes
    reading: bytes
    embedding_model: str
    passages: tuple[NewPassage, ...]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Makes a change idempotent. `id` "" does not; `fingerprint` is the SHA-256 of what is asked."""

    id: str = ""
    fingerprint: bytes = b""


class Documents(Protocol):
    """The documents of all tenants. Every method raises StoreUnavailable when the store is away."""

    async def find(self, tenant: str, uri: str) -> Document | None:
        """The document with this uri."""

    async def repeated(self, tenant: str, key: RequestKey) -> tuple[Document, Outcome] | None:
        """What the request with this key did, None when there was none. Raises RequestIdReused."""

    async def put(self, tenant: str, document: NewDocument, key: RequestKey) -> tuple[Document, Outcome]:
        """Adds the document or puts it in the place of the one with its uri. Raises RequestIdReused."""

    async def get(self, tenant: str, document_id: uuid.UUID) -> Document:
        """One document. Raises DocumentNotFound."""

    async def page(self, tenant: str, prefix: str, after: str, limit: int) -> list[Document]:
        """At most `limit` documents whose uri begins with `prefix` and comes after `after`, by uri."""

    async def delete(self, tenant: str, document_id: uuid.UUID, key: RequestKey) -> None:
        """Deletes it with its passages. Raises DocumentNotFound, RequestIdReused."""


class PostgresDocuments:
    """`Documents` on Postgres with pgvector."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def find(self, tenant: str, uri: str) -> Document | None:
        """See `Documents.find`."""
        statement = f"SELECT {_SHOWN} FROM documents WHERE tenant_id = $1 AND uri = $2"
        with answering():
            row = await bounded(self._pool, READING, lambda c: c.fetchrow(statement, tenant, uri))
        return Document(**row) if row else None

    async def repeated(self, tenant: str, key: RequestKey) -> tuple[Document, Outcome] | None:
        """See `Documents.repeated`."""
        if not key.id:
            return None
        with answering():
            return _outcome(await bounded(self._pool, READING, lambda c: _request(c, tenant, key)))

    async def put(self, tenant: str, document: NewDocument, key: RequestKey) -> tuple[Document, Outcome]:
        """See `Documents.put`."""

        async def change(connection: Connection) -> tuple[Document, Outcome]:
            if not await _claim(connection, tenant, key):
                first = _outcome(await _request(connection, tenant, key))
                assert first is not None
                return first
            kept, outcome = await _put(connection, tenant, document)
            await _record(connection, tenant, key, kept, outcome)
            return kept, outcome

        return await self._change(tenant, change)

    async def get(self, tenant: str, document_id: uuid.UUID) -> Document:
        """See `Documents.get`."""
        statement = f"SELECT {_SHOWN} FROM documents WHERE tenant_id = $1 AND document_id = $2"
        with answering():
            row = await bounded(self._pool, READING, lambda c: c.fetchrow(statement, tenant, document_id))
        if row is None:
            raise _missing(document_id)
        return Document(**row)

    async def page(self, tenant: str, prefix: str, after: str, limit: int) -> list[Document]:
        """See `Documents.page`."""
        statement = (
            f"SELECT {_SHOWN} FROM documents WHERE tenant_id = $1 AND uri >= $2 AND starts_with(uri, $2) AND uri > $3"
            " ORDER BY uri LIMIT $4"
        )
        with answering():
            rows = await bounded(self._pool, READING, lambda c: c.fetch(statement, tenant, prefix, after, limit))
        return [Document(**row) for row in rows]

    async def delete(self, tenant: str, document_id: uuid.UUID, key: RequestKey) -> None:
        """See `Documents.delete`."""

        async def change(connection: Connection) -> None:
            if not await _claim(connection, tenant, key):
                await _request(connection, tenant, key)
                return
            statement = "DELETE FROM documents WHERE tenant_id = $1 AND document_id = $2"
            if await connection.execute(statement, tenant, document_id) == "DELETE 0":
                raise _missing(document_id)

        await self._change(tenant, change)

    async def _change(self, tenant: str, change: Callable[[Connection], Awaitable[T]]) -> T:
        """Makes the change in a transaction that counts it, last, so that nobody waits long for the counter."""

        async def counted(connection: Connection) -> T:
            async with connection.transaction():
                made = await change(connection)
                await connection.execute(
                    "INSERT INTO document_libraries VALUES ($1, 1)"
                    " ON CONFLICT (tenant_id) DO UPDATE SET version = document_libraries.version + 1",
                    tenant,
                )
                return made

        with answering():
            return await bounded(self._pool, CHANGING, counted)


def id_of(tenant: str, uri: str) -> uuid.UUID:
    """The document id of a uri: the same each time it is added."""
    return uuid.uuid5(NAMESPACE, f"{len(tenant)}.{tenant}:{uri}")


@contextmanager
def answering() -> Iterator[None]:
    """Turns what says that Postgres is away or out of time into StoreUnavailable."""
    try:
        yield
    except (*GONE, *WAIT_AND_RETRY, asyncpg.QueryCanceledError) as error:
        raise StoreUnavailable(f"The documents can't be reached: {told(error)}.") from error


async def _put(connection: Connection, tenant: str, document: NewDocument) -> tuple[Document, Outcome]:
    """The row of the document is locked first: of two that come at once, the second replaces the first, whole."""
    given = [name.name for name in fields(NewDocument) if name.name != "passages"]
    columns = [*given, "passage_count"]
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
    statement = (
        f"INSERT INTO documents (tenant_id, document_id, {', '.join(columns)})"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (tenant_id, uri)"
        f" DO UPDATE SET {changes}, updated_at = now() RETURNING {_SHOWN}, xmax <> 0 AS replaced"
    )
    values = [*(getattr(document, name) for name in given), len(document.passages)]
    row = dict(await connection.fetchrow(statement, tenant, id_of(tenant, document.uri), *values) or {})
    replaced = row.pop("replaced")
    kept = Document(**row)
    if replaced:
        gone = "DELETE FROM passages WHERE tenant_id = $1 AND document_id = $2"
        await connection.execute(gone, tenant, kept.document_id)
    for first in range(0, len(document.passages), _ROWS):
        await _insert(connection, tenant, kept, first, document.passages[first : first + _ROWS])
    return kept, Outcome.REPLACED if replaced else Outcome.ADDED


async def _insert(
    connection: Connection, tenant: str, document: Document, first: int, passages: Sequence[NewPassage]
) -> None:
    key, model = (tenant, document.document_id), document.embedding_model
    await connection.executemany(
        "INSERT INTO passages VALUES ($1, $2, $3, $4, $5, $6::text::tsvector, $7::real[]::vector, $8, $9)",
        [
            (*key, number, each.title, each.text, each.words, each.embedding, len(each.embedding), model)
            for number, each in enumerate(passages, first)
        ],
    )


async def _claim(connection: Connection, tenant: str, key: RequestKey) -> bool:
    """Whether this request is the first with its id; who comes at the same time waits here for the first's end."""
    if not key.id:
        return True
    statement = "INSERT INTO document_requests VALUES ($1, $2, $3, '{}') ON CONFLICT DO NOTHING"
    return str(await connection.execute(statement, tenant, key.id, key.fingerprint)) == "INSERT 0 1"


async def _record(connection: Connection, tenant: str, key: RequestKey, document: Document, outcome: Outcome) -> None:
    """Keeps what the request did, for those who repeat it."""
    if not key.id:
        return
    kept = {name: value.hex() if isinstance(value, bytes) else str(value) for name, value in asdict(document).items()}
    statement = "UPDATE document_requests SET outcome = $3 WHERE tenant_id = $1 AND request_id = $2"
    await connection.execute(statement, tenant, key.id, json.dumps({"outcome": outcome.value, "document": kept}))


async def _request(connection: Connection, tenant: str, key: RequestKey) -> dict[str, Any] | None:
    """What the first request with this id did, {} when that was no adding. Raises RequestIdReused."""
    statement = "SELECT fingerprint, outcome FROM document_requests WHERE tenant_id = $1 AND request_id = $2"
    row = await connection.fetchrow(statement, tenant, key.id)
    if row is None:
        return None
    if row["fingerprint"] != key.fingerprint:
        raise RequestIdReused(f"The request id {key.id!r} belongs to an earlier, different request.")
    found: dict[str, Any] = json.loads(row["outcome"])
    return found


def _outcome(found: dict[str, Any] | None) -> tuple[Document, Outcome] | None:
    if not found:
        return None
    kept = found["document"]
    read: dict[str, Callable[[str], Any]] = {
        "document_id": uuid.UUID,
        "size_bytes": int,
        "passage_count": int,
        "content_sha256": bytes.fromhex,
        "reading": bytes.fromhex,
        "created_at": datetime.fromisoformat,
        "updated_at": datetime.fromisoformat,
    }
    return Document(**{name: read.get(name, str)(value) for name, value in kept.items()}), Outcome(found["outcome"])


def _missing(document_id: uuid.UUID) -> DocumentNotFound:
    return DocumentNotFound(f"There is no document {document_id}.")
