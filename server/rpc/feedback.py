"""ratchet.v1.FeedbackService."""

from __future__ import annotations  # enum value types exist for type checkers only

import hashlib
import uuid
from collections.abc import Coroutine
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import feedback_pb2 as pb
from ratchet.v1 import feedback_pb2_grpc
from server.errors import DeadlineExceeded, FeedbackNotFound, InvalidRequest, Violation
from server.feedback.intake import Asked, Intake
from server.feedback.types import Change, Feedback, Kind, Opinion, Part, Reaction, SafetyCategory
from server.identity import caller
from server.patience import within
from server.rpc.documents import place_of, token_of
from server.rpc.feedback_messages import message_of
from server.rpc.messages import Defaults
from server.rpc.validation import require_valid
from server.storage.feedback_reading import FeedbackReader, Wanted
from server.storage.feedback_requests import RequestKey

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""
T = TypeVar("T")

PAGE_SIZE = 100
_REACTIONS = {pb.ReactionType.Value(f"REACTION_TYPE_{each.name}"): each for each in Reaction}
_CATEGORIES = {pb.SafetyCategory.Value(f"SAFETY_CATEGORY_{each.name}"): each for each in SafetyCategory}
_KINDS = {pb.FeedbackKind.Value(f"FEEDBACK_KIND_{each.name}"): each for each in Kind}
_PARTS = {pb.FeedbackPart.Value(f"FEEDBACK_PART_{each.name}"): each for each in Part}


class FeedbackService(feedback_pb2_grpc.FeedbackServiceServicer):
    """See protos/ratchet/v1/feedback.proto."""

    def __init__(self, intake: Intake, reader: FeedbackReader, defaults: Defaults) -> None:
        self._intake, self._reader, self._defaults = intake, reader, defaults

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: Context) -> pb.SubmitFeedbackResponse:
        """Rates a reply."""
        require_valid(request)
        caller().require_user(request.user_id)
        taken = await self._in_time(context, self._intake.submit(_asked(request, _changes(request))))
        return pb.SubmitFeedbackResponse(
            feedback=[_message(each.feedback) for each in taken.kept], replayed=taken.replayed
        )

    async def SubmitPreference(
        self, request: pb.SubmitPreferenceRequest, context: Context
    ) -> pb.SubmitPreferenceResponse:
        """Prefers one candidate to another."""
        require_valid(request)
        caller().require_user(request.user_id)
        says = Opinion(
            text_feedback=request.text_feedback.strip(),
            chosen_index=request.chosen_index,
            rejected_index=request.rejected_index,
        )
        asked = _asked(request, (Change(Kind.PREFERENCE, says),))
        taken = await self._in_time(context, self._intake.submit(asked))
        if not taken.kept:  # a repetition of what was erased since
            raise FeedbackNotFound("This feedback was erased.")
        return pb.SubmitPreferenceResponse(feedback=_message(taken.kept[0].feedback), replayed=taken.replayed)

    async def WithdrawFeedback(
        self, request: pb.WithdrawFeedbackRequest, context: Context
    ) -> pb.WithdrawFeedbackResponse:
        """Takes a feedback back."""
        require_valid(request)
        caller().require_user(request.user_id)
        feedback_id = uuid.UUID(request.feedback_id)
        withdrawing = self._intake.withdraw(caller().tenant_id, request.user_id, feedback_id, _key(request))
        kept = await self._in_time(context, withdrawing)
        return pb.WithdrawFeedbackResponse(feedback=_message(kept.feedback))

    async def ListFeedback(self, request: pb.ListFeedbackRequest, context: Context) -> pb.ListFeedbackResponse:
        """A page of feedback."""
        require_valid(request)
        wanted = _wanted(request)
        if wanted.user_id is not None:
            caller().require_user(wanted.user_id)
        size, scope = request.page_size or PAGE_SIZE, f"feedback {wanted!r}"
        before = uuid.UUID(place_of(request.page_token, scope)) if request.page_token else None
        found = await self._in_time(context, self._reader.page(wanted, before, size + 1))
        token = token_of(str(found[size - 1].feedback_id), scope) if len(found) > size else ""
        return pb.ListFeedbackResponse(feedback=map(_message, found[:size]), next_page_token=token)

    async def _in_time(self, context: Context, work: Coroutine[Any, Any, T]) -> T:
        """Ends what takes longer than the call's deadline, or than calls may take."""
        remaining, defaults = context.time_remaining(), self._defaults
        seconds = min(defaults.deadline_seconds if remaining is None else remaining, defaults.max_seconds)
        try:
            return await within(seconds, work)
        except TimeoutError as error:
            raise DeadlineExceeded("The store of feedback did not answer in time.") from error


def _asked(request: pb.SubmitFeedbackRequest | pb.SubmitPreferenceRequest, changes: tuple[Change, ...]) -> Asked:
    return Asked(
        tenant_id=caller().tenant_id,
        user_id=request.user_id,
        response_id=uuid.UUID(request.response_id),
        receipt=request.receipt,
        key=_key(request),
        changes=changes,
    )


def _changes(request: pb.SubmitFeedbackRequest) -> tuple[Change, ...]:
    """What a valid request changes: the rating first. Raises InvalidRequest when that is nothing."""
    rating = Opinion(
        rating_overall=request.rating_overall if request.HasField("rating_overall") else None,
        rating_dimensions={field.name: stars for field, stars in request.rating_dimensions.ListFields()},
        text_feedback=request.text_feedback.strip(),
        reaction_type=_REACTIONS.get(request.reaction_type),
    )
    found = []
    if rating != Opinion() or request.clear:
        found.append(Change(Kind.RATING, rating, frozenset(_PARTS[part] for part in request.clear)))
    if request.HasField("safety_report"):
        report = request.safety_report
        says = Opinion(text_feedback=report.detail.strip(), safety_category=_CATEGORIES.get(report.category))
        found.append(Change(Kind.SAFETY_REPORT, says))
    if not found:
        raise InvalidRequest([Violation("text_feedback", "must hold more than spaces when there is nothing else")])
    return tuple(found)


def _key(request: Any) -> RequestKey:
    """Its fingerprint is the SHA-256 of the request as it was sent, without its id, and without the receipt, which is
    no part of what is asked."""
    asked: Message = type(request)()
    asked.CopyFrom(request)
    for field in ("request_id", "receipt"):
        if field in asked.DESCRIPTOR.fields_by_name:
            asked.ClearField(field)
    text = asked.DESCRIPTOR.name.encode() + asked.SerializeToString(deterministic=True)
    return RequestKey(request.request_id, hashlib.sha256(text).digest())


def _wanted(request: pb.ListFeedbackRequest) -> Wanted:
    """What a valid request lists; a key of one user's own lists that user's."""
    wanted = Wanted(
        tenant_id=caller().tenant_id,
        response_id=uuid.UUID(request.response_id) if request.response_id else None,
        user_id=request.user_id if request.HasField("user_id") else caller().user_id or None,
        session_id=request.session_id,
        kind=_KINDS.get(request.kind),
        withdrawn=request.include_withdrawn,
        policy_release=request.policy_release,
    )
    since = _moment("from_time", request.from_time) if request.HasField("from_time") else None
    until = _moment("until_time", request.until_time) if request.HasField("until_time") else None
    return replace(wanted, since=since, until=until)


def _moment(field: str, given: Timestamp) -> datetime:
    try:
        return given.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest([Violation(field, "must be a time of the years 1 to 9999")]) from error


def _message(feedback: Feedback) -> pb.Feedback:
    return message_of(asdict(feedback))
