"""What simulated users can do: ask, rate, and say which candidate is better, through gRPC as any caller."""

import threading
import uuid
from collections.abc import Callable
from typing import Any, Final, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ratchet.v1 import feedback_pb2 as pb
from ratchet.v1 import feedback_pb2_grpc, inference_pb2, inference_pb2_grpc
from simulation.opinions import Opinion
from trainer.starter.query import Query

MOST_WAITING: Final = 180.0
"""Seconds that a user waits, all in all, for one call that the server puts off."""
PAUSE: Final = 1.0
"""Seconds to wait where the server says no number."""

Reply = inference_pb2.GenerateResponse
Answered = TypeVar("Answered")


class Client:
    """Calls of all users through one channel, each of at most `seconds`. Thread-safe.

    A call that the server puts off (RESOURCE_EXHAUSTED, UNAVAILABLE) waits as long as it says, `MOST_WAITING` at most,
    then the error is raised; so it is when `ended` is set meanwhile. `waits` counts such waits.
    """

    def __init__(self, channel: grpc.Channel, seconds: float, ended: threading.Event) -> None:
        self._inference = inference_pb2_grpc.InferenceServiceStub(channel)
        self._feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)
        self._seconds = seconds
        self._ended = ended
        self.waits = 0

    def ask(self, user_id: str, query: Query) -> Reply:
        """The reply to a query of the corpus, its evidence as the caller's context; its earlier turns are asked first.

        Raises grpc.RpcError.
        """
        session = str(uuid.uuid4()) if query.turns else ""
        for earlier, _ in query.turns:
            self._generate(user_id, earlier, query.evidence, session)
        return self._generate(user_id, query.text, query.evidence, session)

    def rate(self, user_id: str, reply: Reply, said: Opinion) -> None:
        """Submits the rating. Raises grpc.RpcError."""
        request = pb.SubmitFeedbackRequest(
            request_id=str(uuid.uuid4()),
            response_id=reply.response_id,
            user_id=user_id,
            rating_overall=said.stars,
            rating_dimensions=pb.RatingDimensions(**said.dimensions),
            reaction_type=pb.ReactionType.Value(f"REACTION_TYPE_{said.thumb or 'UNSPECIFIED'}"),
            text_feedback=said.comment,
            receipt=reply.receipt,
        )
        self.called(lambda: self._feedback.SubmitFeedback(request, timeout=self._seconds))

    def prefer(self, user_id: str, reply: Reply, better: int, worse: int) -> None:
        """Submits that the candidate `better` is better than `worse`, by their indexes. Raises grpc.RpcError."""
        request = pb.SubmitPreferenceRequest(
            request_id=str(uuid.uuid4()),
            response_id=reply.response_id,
            user_id=user_id,
            chosen_index=better,
            rejected_index=worse,
            receipt=reply.receipt,
        )
        self.called(lambda: self._feedback.SubmitPreference(request, timeout=self._seconds))

    def _generate(self, user_id: str, text: str, context: str, session: str) -> Reply:
        request = inference_pb2.GenerateRequest(
            request_id=str(uuid.uuid4()),
            user_id=user_id,
            session_id=session,
            query=text,
            context=context,
            tool_use=inference_pb2.TOOL_USE_NONE,  # the corpus brings its own evidence
        )
        return self.called(lambda: self._inference.Generate(request, timeout=self._seconds))

    def called(self, call: Callable[[], Answered]) -> Answered:
        """What the call gives, in the end. Raises grpc.RpcError."""
        left = MOST_WAITING
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                seconds = delay(error)
                if seconds is None or seconds > left or self._ended.is_set():
                    raise
                self.waits += 1
                left -= max(seconds, PAUSE)
                if self._ended.wait(seconds):
                    raise


def delay(error: Any) -> float | None:
    """Seconds after which the call may be tried again, `PAUSE` where the server names none; None: it is no use."""
    if error.code() not in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
        return None
    status, retry = rpc_status.from_call(error), error_details_pb2.RetryInfo()
    told = [
        retry.retry_delay.ToTimedelta().total_seconds()
        for each in (status.details if status else ())
        if each.Unpack(retry)
    ]
    return max(told, default=PAUSE)
