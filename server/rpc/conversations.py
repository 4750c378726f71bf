"""ratchet.v1.ConversationService."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import conversation_pb2 as pb
from ratchet.v1 import conversation_pb2_grpc
from server.errors import InvalidRequest, ResponseNotFound, Violation
from server.identity import caller
from server.rpc.conversation_messages import conversation_of, reaction_of, summary_of
from server.rpc.documents import place_of, token_of
from server.rpc.messages import Defaults
from server.rpc.validation import require_valid
from server.storage.conversation_search import Search
from server.storage.conversations import Conversations, Page

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""

PAGE_SIZE = 50
WINDOW = timedelta(days=30)
"""Back to when texts are searched where no time is given."""
PAGE_BYTES = 6 << 20
"""Of the whole replies of a page, about: gRPC messages end at 8 MiB."""
_BATCH = 16
"""Whole replies that are read at a time: one can hold megabytes."""


class ConversationService(conversation_pb2_grpc.ConversationServiceServicer):
    """See protos/ratchet/v1/conversation.proto."""

    def __init__(self, conversations: Conversations, defaults: Defaults, *, page_bytes: int = PAGE_BYTES) -> None:
        self._conversations, self._defaults, self._page_bytes = conversations, defaults, page_bytes

    async def GetConversation(self, request: pb.GetConversationRequest, context: Context) -> pb.GetConversationResponse:
        """One reply, whole."""
        require_valid(request)
        who, response_id = caller(), UUID(request.response_id)
        found = await self._conversations.stories(who.tenant_id, [response_id], self._seconds(context))
        if not found or (who.user_id and found[0].user_id != who.user_id):
            raise ResponseNotFound(f"The log has no reply {response_id} for you.")
        return pb.GetConversationResponse(conversation=await asyncio.to_thread(conversation_of, found[0]))

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Context
    ) -> pb.ListConversationsResponse:
        """A page of replies."""
        require_valid(request)
        search, scope = search_of(request), _scope(request)
        before: UUID | None = None
        if request.page_token:
            before, search = _continued(place_of(request.page_token, scope), search)
        page = await self._conversations.page(
            search, before, request.page_size or PAGE_SIZE, seconds := self._seconds(context)
        )
        response = pb.ListConversationsResponse()
        place = page.place
        if request.full:
            place = await self._fill(response, search.tenant_id, page, seconds)
        else:
            response.summaries.extend(map(summary_of, page.found))
        if place is not None:
            response.next_page_token = token_of(_place(place, search), scope)
        if page.searched_from is not None:
            response.searched_from.FromDatetime(page.searched_from)
        return response

    async def _fill(
        self, response: pb.ListConversationsResponse, tenant: str, page: Page, seconds: float
    ) -> UUID | None:
        """Adds the page's replies, whole, until the message is large enough; the id before which the next begins."""
        ids, size = [each.response_id for each in page.found], 0
        for first in range(0, len(ids), _BATCH):
            stories = await self._conversations.stories(tenant, ids[first : first + _BATCH], seconds)
            for number, story in enumerate(stories):
                message = await asyncio.to_thread(conversation_of, story)
                size += message.ByteSize()
                if size > self._page_bytes and response.conversations:
                    return stories[number - 1].response_id if number else ids[first - 1]
                response.conversations.append(message)
        return page.place

    def _seconds(self, context: Context) -> float:
        """What is left of the call, as calls may take."""
        remaining, defaults = context.time_remaining(), self._defaults
        return min(defaults.deadline_seconds if remaining is None else remaining, defaults.max_seconds)


def search_of(request: pb.ListConversationsRequest) -> Search:
    """What a valid request searches for, in the caller's tenant. Raises InvalidRequest, PermissionDenied."""
    who = caller()
    user_id = request.user_id if request.HasField("user_id") else who.user_id or None
    if user_id is not None:
        who.require_user(user_id)
    until, begin = _time(request, "until_time"), _time(request, "from_time")
    words = tuple(dict.fromkeys(request.text.split()))
    if words and begin is None:
        begin = _back(until or datetime.now(UTC), WINDOW)
    return Search(
        tenant_id=who.tenant_id,
        words=words,
        user_id=user_id,
        session_id=request.session_id,
        minimum_reward=request.minimum_reward if request.HasField("minimum_reward") else None,
        maximum_reward=request.maximum_reward if request.HasField("maximum_reward") else None,
        minimum_rating=request.minimum_rating if request.HasField("minimum_rating") else None,
        maximum_rating=request.maximum_rating if request.HasField("maximum_rating") else None,
        reaction=reaction_of(request.reaction_type),
        release=request.release,
        flags=tuple(_flags(request.flags)),
        from_time=begin,
        until_time=until,
    )


def _flags(given: "Sequence[pb.ConversationFlag.ValueType]") -> list[str]:
    return [pb.ConversationFlag.Name(each).removeprefix("CONVERSATION_FLAG_").lower() for each in given]


def _time(request: pb.ListConversationsRequest, field: str) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # a name of the two that are times
        return None
    given: Timestamp = getattr(request, field)
    try:
        return given.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest([Violation(field, "must be a time of the years 1 to 9999")]) from error


def _back(moment: datetime, span: timedelta) -> datetime:
    try:
        return moment - span
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _scope(request: pb.ListConversationsRequest) -> str:
    """Stands for the listing: the tenant, the caller's user and the filters."""
    asked = pb.ListConversationsRequest()
    asked.CopyFrom(request)
    asked.page_token, asked.page_size, asked.full = "", 0, False
    who = caller()
    names = f"{len(who.tenant_id)}.{who.tenant_id}{len(who.user_id)}.{who.user_id}:"
    return names + hashlib.sha256(asked.SerializeToString(deterministic=True)).hexdigest()


def _place(response_id: UUID, search: Search) -> str:
    """Where the next page begins, and back to when the whole listing goes: that of the first page's time."""
    return f"{response_id.hex}{search.from_time.isoformat() if search.from_time else ''}"


def _continued(place: str, search: Search) -> tuple[UUID, Search]:
    begin = datetime.fromisoformat(place[32:]) if place[32:] else None
    return UUID(place[:32]), replace(search, from_time=begin)
