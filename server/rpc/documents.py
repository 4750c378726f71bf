"""ratchet.v1.DocumentService."""

import base64
import binascii
import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import document_pb2 as pb
from ratchet.v1 import document_pb2_grpc
from server.documents.formats import Format
from server.documents.library import Library
from server.documents.reader import Source
from server.errors import DocumentUnreadable, InvalidRequest, Violation
from server.identity import caller
from server.rpc.messages import Defaults
from server.rpc.validation import require_valid
from server.storage.documents import Document, Outcome

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""

PAGE_SIZE = 100
_CHECK_BYTES = 8
_FORMATS: Mapping[int, Format | None] = {
    pb.DOCUMENT_FORMAT_UNSPECIFIED: None,
    pb.DOCUMENT_FORMAT_TEXT: Format.TEXT,
    pb.DOCUMENT_FORMAT_MARKDOWN: Format.MARKDOWN,
    pb.DOCUMENT_FORMAT_HTML: Format.HTML,
    pb.DOCUMENT_FORMAT_PDF: Format.PDF,
}


class DocumentService(document_pb2_grpc.DocumentServiceServicer):
    """See protos/ratchet/v1/document.proto."""

    def __init__(self, library: Library, defaults: Defaults) -> None:
        self._library, self._defaults = library, defaults

    async def AddDocument(self, request: pb.AddDocumentRequest, context: Context) -> pb.AddDocumentResponse:
        """Adds or replaces a document."""
        if not request.content:  # like one of spaces only
            raise DocumentUnreadable("The document is empty.")
        require_valid(request)
        remaining, defaults = context.time_remaining(), self._defaults
        seconds = min(defaults.deadline_seconds if remaining is None else remaining, defaults.max_seconds)
        source = Source(caller().tenant_id, request.uri, request.content, _FORMATS[request.format], request.title)
        document, outcome = await self._library.add(source, seconds, request.request_id)
        return pb.AddDocumentResponse(document=message_of(document), outcome=_outcome_of(outcome))

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Context) -> pb.GetDocumentResponse:
        """One document."""
        require_valid(request)
        document = await self._library.documents.get(caller().tenant_id, uuid.UUID(request.document_id))
        return pb.GetDocumentResponse(document=message_of(document))

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: Context) -> pb.ListDocumentsResponse:
        """A page of documents."""
        require_valid(request)
        size = request.page_size or PAGE_SIZE
        scope = f"{len(caller().tenant_id)}.{caller().tenant_id}:{request.uri_prefix}"
        after = place_of(request.page_token, scope) if request.page_token else ""
        found = await self._library.documents.page(caller().tenant_id, request.uri_prefix, after, size + 1)
        token = token_of(found[size - 1].uri, scope) if len(found) > size else ""
        return pb.ListDocumentsResponse(documents=map(message_of, found[:size]), next_page_token=token)

    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Context) -> pb.DeleteDocumentResponse:
        """Deletes a document."""
        require_valid(request)
        await self._library.delete(caller().tenant_id, uuid.UUID(request.document_id), request.request_id)
        return pb.DeleteDocumentResponse()


def message_of(document: Document) -> pb.Document:
    """The message of a document."""
    created, updated = Timestamp(), Timestamp()
    created.FromDatetime(document.created_at)
    updated.FromDatetime(document.updated_at)
    return pb.Document(
        document_id=str(document.document_id),
        uri=document.uri,
        title=document.title,
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        passage_count=document.passage_count,
        content_sha256=document.content_sha256.hex(),
        create_time=created,
        update_time=updated,
    )


def token_of(place: str, scope: str) -> str:
    """A page token (AIP-158): where the page ended, and a check of that and of what is listed."""
    return base64.urlsafe_b64encode(_check(place, scope) + place.encode()).decode().rstrip("=")


def place_of(token: str, scope: str) -> str:
    """Where the page of the token ended. Raises InvalidRequest for one that this listing never gave.

    The check keeps mistakes apart, not attackers: a listing is of the caller's own tenant, wherever it begins.
    """
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        place = data[_CHECK_BYTES:].decode()
    except (binascii.Error, ValueError) as error:
        raise _forged() from error
    if "\0" in place or data[:_CHECK_BYTES] != _check(place, scope):
        raise _forged()
    return place


def _check(place: str, scope: str) -> bytes:
    return hashlib.sha256(f"{len(scope)}.{scope}{place}".encode()).digest()[:_CHECK_BYTES]


def _forged() -> InvalidRequest:
    return InvalidRequest([Violation("page_token", "is not one that this listing gave: begin with an empty one")])


def _outcome_of(outcome: Outcome) -> "pb.AddOutcome.ValueType":
    return pb.AddOutcome.Value(f"ADD_OUTCOME_{outcome.name}")
