"""What was said in a conversation: from the log; for keys that may not read it, from the tab's memory, which
ends with it and is on no disk, with the votes that the server knows. Who signs in after somebody else sees nothing of
theirs."""

from collections.abc import Sequence

import grpc
from nicegui import app

from console import client, session
from ratchet.v1 import conversation_pb2, feedback_pb2
from ratchet.v1 import inference_pb2 as pb

_SHOWN = 50
"""The newest so many replies."""
_KEPT = "replies"


async def of(session_id: str, user_id: str) -> Sequence[conversation_pb2.Conversation]:
    """The visitor's replies of this conversation, oldest first. Raises client.Trouble."""
    request = conversation_pb2.ListConversationsRequest(
        session_id=session_id, user_id=user_id, full=True, page_size=_SHOWN
    )
    api = client.api()
    try:
        answer = await api.call(api.conversations.ListConversations, request)
    except client.Trouble as trouble:
        kept = _kept(session_id)
        if trouble.code not in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED) or not kept:
            raise
        return await _with_votes(kept, session_id, user_id)
    return list(reversed(answer.conversations))


def keep(visitor: str, session_id: str, query: str, reply: pb.GenerateResponse) -> None:
    """Into the tab's memory; `visitor` asked."""
    said = (visitor, session_id, query, reply.SerializeToString())
    app.storage.tab[_KEPT] = [*app.storage.tab.get(_KEPT, ()), said][-_SHOWN:]


def _kept(session_id: str) -> list[conversation_pb2.Conversation]:
    return [
        conversation_pb2.Conversation(query=query, reply=pb.GenerateResponse.FromString(reply))
        for visitor, of_session, query, reply in app.storage.tab.get(_KEPT, ())
        if (visitor, of_session) == (session.visitor(), session_id)
    ]


async def _with_votes(
    said: list[conversation_pb2.Conversation], session_id: str, user_id: str
) -> list[conversation_pb2.Conversation]:
    request = feedback_pb2.ListFeedbackRequest(session_id=session_id, user_id=user_id, page_size=1000)
    api = client.api()
    answer = await api.call(api.feedback.ListFeedback, request)
    for each in said:
        each.feedback.extend(one for one in answer.feedback if one.response_id == each.reply.response_id)
    return said
