"""What a visitor thinks of one reply: as the server knows it, and how to change that."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from console import client
from ratchet.v1 import feedback_pb2 as pb

Dimension = Literal["accuracy", "helpfulness", "clarity", "safety"]
DIMENSIONS: tuple[Dimension, ...] = ("accuracy", "helpfulness", "clarity", "safety")
_DOUBLE_CLICK = 1.0
"""Seconds after a vote was saved in which the same click once more is the same vote."""
_Cast = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Votes:
    """The current feedback of each kind; None where there is none, or it was taken back."""

    rating: pb.Feedback | None = None
    report: pb.Feedback | None = None
    preference: pb.Feedback | None = None

    def after(self, feedback: Iterable[pb.Feedback]) -> "Votes":
        """With these in place of what they replace."""
        votes = self
        for each in feedback:
            current = None if each.withdrawn else each
            if each.kind == pb.FEEDBACK_KIND_RATING:
                votes = replace(votes, rating=current)
            elif each.kind == pb.FEEDBACK_KIND_SAFETY_REPORT:
                votes = replace(votes, report=current)
            elif each.kind == pb.FEEDBACK_KIND_PREFERENCE:
                votes = replace(votes, preference=current)
        return votes

    @property
    def thumb(self) -> "pb.ReactionType.ValueType":
        """UNSPECIFIED where there is none."""
        return self.rating.reaction_type if self.rating else pb.REACTION_TYPE_UNSPECIFIED

    @property
    def stars(self) -> int:
        """1 to 5; 0 where there are none."""
        return self.rating.rating_overall if self.rating else 0

    def dimension(self, name: str) -> int:
        """1 to 5; 0 where it was not given."""
        return int(getattr(self.rating.rating_dimensions, name)) if self.rating else 0

    @property
    def comment(self) -> str:
        """ "" where there is none."""
        return self.rating.text_feedback if self.rating else ""

    @property
    def better(self) -> int | None:
        """The index of the candidate that was said to be better."""
        return self.preference.preference.chosen_index if self.preference else None


class Ballot:
    """Casts the votes on one reply, one at a time. Each has a request id, and keeps it when it is sent again: however
    often it arrives, it counts once. A second click is the same vote as the first; whatever else is clicked is sent,
    for only the server knows what was said in another tab since, and what changes nothing there counts nothing.
    Raises client.Trouble; `again` repeats what failed."""

    def __init__(self, response_id: str, user_id: str, receipt: str, votes: Votes) -> None:
        self.response_id, self.votes = response_id, votes
        self._user_id, self._receipt = user_id, receipt
        self._one_at_a_time = asyncio.Lock()
        self._unsent: _Cast | None = None
        self._saved: tuple[object, float] = (None, 0.0)

    async def rate(self, request: pb.SubmitFeedbackRequest) -> None:
        """Stars, thumb, dimensions, comment or a safety report; ids are filled in."""
        vote = request.SerializeToString(deterministic=True)
        request.request_id, request.receipt = str(uuid.uuid4()), self._receipt
        request.response_id, request.user_id = self.response_id, self._user_id

        async def send() -> Iterable[pb.Feedback]:
            return (await client.api().call(client.api().feedback.SubmitFeedback, request)).feedback

        await self._cast(self._once(vote, send))

    async def prefer(self, chosen: int, rejected: int) -> None:
        """One candidate over another, by their indices."""
        request = pb.SubmitPreferenceRequest(
            request_id=str(uuid.uuid4()),
            response_id=self.response_id,
            user_id=self._user_id,
            chosen_index=chosen,
            rejected_index=rejected,
            receipt=self._receipt,
        )

        async def send() -> Iterable[pb.Feedback]:
            return [(await client.api().call(client.api().feedback.SubmitPreference, request)).feedback]

        await self._cast(self._once((chosen, rejected), send))

    async def withdraw(self, feedback: pb.Feedback) -> None:
        """Takes it back."""
        request = pb.WithdrawFeedbackRequest(
            request_id=str(uuid.uuid4()), feedback_id=feedback.feedback_id, user_id=self._user_id
        )

        async def send() -> Iterable[pb.Feedback]:
            return [(await client.api().call(client.api().feedback.WithdrawFeedback, request)).feedback]

        await self._cast(self._once(feedback.feedback_id, send))

    async def again(self) -> None:
        """What failed last, with the id that it had."""
        if self._unsent is not None:
            await self._cast(self._unsent)

    def _once(self, vote: object, send: Callable[[], Awaitable[Iterable[pb.Feedback]]]) -> _Cast:
        """Sends, unless the same vote was the last to be saved, less than a double click before this one."""
        clicked = time.monotonic()

        async def cast() -> None:
            saved, at = self._saved
            if saved == vote and clicked - at < _DOUBLE_CLICK:
                return
            self._saved = (None, 0.0)
            self.votes = self.votes.after(await send())
            self._saved = (vote, time.monotonic())

        return cast

    async def _cast(self, cast: _Cast) -> None:
        async with self._one_at_a_time:
            self._unsent = cast
            await cast()
            self._unsent = None
