"""A server that answers what a test tells it to, and keeps what it was told: votes are counted, not guessed."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from ratchet.v1 import conversation_pb2 as conversations
from ratchet.v1 import conversation_pb2_grpc, feedback_pb2_grpc, inference_pb2_grpc
from ratchet.v1 import feedback_pb2 as feedback
from ratchet.v1 import inference_pb2 as pb


def reply(response: str, *others: str, **fields: Any) -> pb.GenerateResponse:
    """A reply with `response` chosen, and `others` beside it."""
    texts = (response, *others)
    candidates = [
        pb.Candidate(index=number, text=text, reward_score=0.9 - number / 10, selected=number == 0, passed=True)
        for number, text in enumerate(texts)
    ]
    return pb.GenerateResponse(response=response, reward_score=0.9, candidates=candidates, **fields)


def refusal_of(code: grpc.StatusCode, reason: str, retry_after: int = 0) -> status_pb2.Status:
    """What the server says no with."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message="no")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="ratchet.v1"))
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds = retry_after
    status.details.add().Pack(retry)
    return status


async def refuse(context: Any, status: status_pb2.Status) -> None:
    await context.abort(
        next(each for each in grpc.StatusCode if each.value[0] == status.code),
        status.message,
        (("grpc-status-details-bin", status.SerializeToString()),),
    )


class Answering(
    inference_pb2_grpc.InferenceServiceServicer,
    feedback_pb2_grpc.FeedbackServiceServicer,
    conversation_pb2_grpc.ConversationServiceServicer,
):
    """`answers` are given in turn, the last one for good. `asked`, `rated`, `preferred`, `withdrawn`: what came in.
    `refusal` is what votes are told while it is set; `slow`, in seconds, is how long they take. With a `key`, callers
    must bring it; while the `log_closed` is set, they may not read the log."""

    def __init__(self) -> None:
        self.answers: Sequence[pb.GenerateResponse] = [reply("Yes.", "No.")]
        self.waiting = False
        self.refusal: status_pb2.Status | None = None
        self.slow = 0.0
        self.cancelled = 0
        self.key = ""
        self.log_closed = False
        self.port = 0
        self._server: grpc.aio.Server | None = None
        self.forget()

    def forget(self) -> None:
        """Nothing was said or asked."""
        self.asked: list[pb.GenerateRequest] = []
        self.rated: list[feedback.SubmitFeedbackRequest] = []
        self.preferred: list[feedback.SubmitPreferenceRequest] = []
        self.withdrawn: list[feedback.WithdrawFeedbackRequest] = []
        self._log: list[conversations.Conversation] = []
        self._feedback: dict[tuple[str, int], feedback.Feedback] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, server)
        feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(self, server)
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
        self._server = None

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: Any
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        await self._let_in(context)
        asked = request.request
        self.asked.append(asked)
        yield pb.StreamGenerateResponse(tools_selected=pb.ToolsSelected(tools=["docs"]))
        answer = pb.GenerateResponse()
        answer.CopyFrom(self.answers[min(len(self.asked), len(self.answers)) - 1])
        for each in answer.candidates:
            yield pb.StreamGenerateResponse(candidate_drawn=each)
            yield pb.StreamGenerateResponse(candidate_scored=each)
        try:
            while self.waiting:
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answer.response_id = str(uuid.uuid4())
        story = conversations.Conversation(
            reply=answer,
            query=asked.query,
            user_id=asked.user_id,
            session_id=asked.session_id,
            request_id=asked.request_id,
        )
        self._log.append(story)
        yield pb.StreamGenerateResponse(result=answer)

    async def Generate(self, request: pb.GenerateRequest, context: object) -> pb.GenerateResponse:
        raise NotImplementedError

    async def Score(self, request: pb.ScoreRequest, context: object) -> pb.ScoreResponse:
        raise NotImplementedError

    async def GetConversation(
        self, request: conversations.GetConversationRequest, context: object
    ) -> conversations.GetConversationResponse:
        raise NotImplementedError

    async def ListFeedback(self, request: feedback.ListFeedbackRequest, context: Any) -> feedback.ListFeedbackResponse:
        await self._let_in(context)
        return feedback.ListFeedbackResponse(feedback=self._feedback.values())

    async def ListConversations(
        self, request: conversations.ListConversationsRequest, context: Any
    ) -> conversations.ListConversationsResponse:
        if self.log_closed:
            await refuse(context, refusal_of(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"))
        found = [each for each in reversed(self._log) if self._is_of(each, request)]
        for each in found:
            del each.feedback[:]
            each.feedback.extend(one for (key, _), one in self._feedback.items() if key == each.reply.response_id)
        return conversations.ListConversationsResponse(conversations=found)

    async def SubmitFeedback(
        self, request: feedback.SubmitFeedbackRequest, context: Any
    ) -> feedback.SubmitFeedbackResponse:
        self.rated.append(request)
        await asyncio.sleep(self.slow)
        if self.refusal is not None:
            await refuse(context, self.refusal)
        kind = feedback.FEEDBACK_KIND_RATING
        if request.HasField("safety_report"):
            kind = feedback.FEEDBACK_KIND_SAFETY_REPORT
        current = self._current(request.response_id, kind)
        if request.HasField("rating_overall"):
            current.rating_overall = request.rating_overall
        current.rating_dimensions.MergeFrom(request.rating_dimensions)
        current.reaction_type = request.reaction_type or current.reaction_type
        current.text_feedback = request.text_feedback or request.safety_report.detail or current.text_feedback
        if feedback.FEEDBACK_PART_TEXT in request.clear:
            current.text_feedback = ""
        return feedback.SubmitFeedbackResponse(feedback=[current])

    async def SubmitPreference(
        self, request: feedback.SubmitPreferenceRequest, context: object
    ) -> feedback.SubmitPreferenceResponse:
        self.preferred.append(request)
        current = self._current(request.response_id, feedback.FEEDBACK_KIND_PREFERENCE)
        current.preference.chosen_index, current.preference.rejected_index = (
            request.chosen_index,
            request.rejected_index,
        )
        return feedback.SubmitPreferenceResponse(feedback=current)

    async def WithdrawFeedback(
        self, request: feedback.WithdrawFeedbackRequest, context: object
    ) -> feedback.WithdrawFeedbackResponse:
        self.withdrawn.append(request)
        key, current = next((key, one) for key, one in self._feedback.items() if one.feedback_id == request.feedback_id)
        del self._feedback[key]
        current.withdrawn = True
        return feedback.WithdrawFeedbackResponse(feedback=current)

    async def _let_in(self, context: Any) -> None:
        if self.key and ("authorization", f"Bearer {self.key}") not in tuple(context.invocation_metadata()):
            await refuse(context, refusal_of(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"))

    def _current(self, response_id: str, kind: "feedback.FeedbackKind.ValueType") -> feedback.Feedback:
        fresh = feedback.Feedback(feedback_id=str(uuid.uuid4()), response_id=response_id, kind=kind)
        return self._feedback.setdefault((response_id, kind), fresh)

    @staticmethod
    def _is_of(story: conversations.Conversation, request: conversations.ListConversationsRequest) -> bool:
        return story.session_id == request.session_id and story.user_id == request.user_id
