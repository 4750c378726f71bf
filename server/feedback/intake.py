"""Takes feedback: checks in the order in which a caller can do something about them, stores, teaches.

Is it a repetition? Was the reply given to this user? Is it not too late? Is it not too much? Only then is it stored.
The request itself, and who is calling, were checked before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from server.errors import (
    FeedbackTooLate,
    InvalidRequest,
    RateLimited,
    ResponseNotFound,
    StoreUnavailable,
    Violation,
)
from server.feedback import pruning
from server.feedback.receipts import Receipts
from server.feedback.types import Change, Effect, GivenReply, Kept, Kind
from server.metrics import FEEDBACK, FEEDBACK_LIMITED, RATINGS, SAFETY_REPORTS
from server.storage.feedback import PostgresFeedback, Seen, Submission
from server.storage.feedback_reading import FeedbackReader
from server.storage.feedback_requests import RequestKey
from server.storage.windows import Window

_NOT_FOUND = "No such reply was given to this user."
"""The same words whether it does not exist, or is another's."""


class Teaching(Protocol):
    """What moves preferences: `server.feedback.lessons.Lessons`."""

    def teach(self, tenant: str, kept: Kept) -> None:
        """Notes what is to be learned from a feedback; returns at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A valid request to take feedback on a reply."""

    tenant_id: str
    user_id: str
    response_id: UUID
    receipt: str
    key: RequestKey
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a request: the current feedback of the kinds that it spoke of, in this order."""

    kept: Sequence[Kept]

    @property
    def replayed(self) -> bool:
        """Whether nothing changed."""
        return all(each.effect is Effect.UNCHANGED for each in self.kept)


class Intake:
    """Feedback is taken for `horizon` seconds after a reply; `window` lets only so much of it in."""

    def __init__(
        self,
        store: PostgresFeedback,
        reader: FeedbackReader,
        receipts: Receipts,
        window: Window,
        lessons: Teaching,
        horizon: float,
    ) -> None:
        self._store, self._reader, self._receipts = store, reader, receipts
        self._window, self._lessons, self._horizon = window, lessons, timedelta(seconds=horizon)

    async def submit(self, asked: Asked) -> Taken:
        """Takes feedback. Raises RequestIdReused, ReceiptInvalid, ResponseNotFound, FeedbackTooLate, InvalidRequest,
        RateLimited, StoreUnavailable."""
        seen = await self._store.look(asked.tenant_id, asked.key, asked.response_id, asked.user_id)
        if seen.repeated:
            kinds = [change.kind for change in asked.changes]
            known = await self._store.current(asked.tenant_id, asked.response_id, asked.user_id, kinds)
            return self._taken(asked.tenant_id, [Kept(each, Effect.UNCHANGED) for each in known])
        reply, now = self._reply(asked, seen), datetime.now(UTC)
        if now - reply.created_at > self._horizon:
            raise FeedbackTooLate("This reply is older than feedback is taken for.")
        await self._require_candidates(asked, reply)
        await self._require_room(asked)
        kept = await self._store.submit(Submission(reply, asked.changes, asked.key, now))
        return self._taken(asked.tenant_id, kept)

    async def withdraw(self, tenant: str, user: str, feedback_id: UUID, key: RequestKey) -> Kept:
        """Takes a feedback back. Raises FeedbackNotFound, RequestIdReused, StoreUnavailable."""
        kept = await self._store.withdraw(tenant, user, feedback_id, key, datetime.now(UTC))
        self._taken(tenant, [kept])
        return kept

    async def forget_requests(self) -> None:
        """Forgets the requests whose replies are too old for feedback. Raises StoreUnavailable."""
        await pruning.prune(self._store, self._horizon)

    def _reply(self, asked: Asked, seen: Seen) -> GivenReply:
        """The reply, by its log row, else by its receipt, which is verified in any case, and first: who has none does
        not learn that a user was erased."""
        require, place = self._receipts.require, (asked.tenant_id, asked.response_id, asked.user_id)
        by_receipt = require(asked.receipt, *place) if asked.receipt else None
        reply = seen.reply or by_receipt
        if reply is None or seen.erased:
            raise ResponseNotFound(_NOT_FOUND)
        return reply

    async def _require_candidates(self, asked: Asked, reply: GivenReply) -> None:
        """Raises InvalidRequest unless a preference is between two different texts."""
        says = next((change.says for change in asked.changes if change.kind is Kind.PREFERENCE), None)
        if says is None:
            return
        if not reply.logged:
            raise StoreUnavailable("The reply's candidates can't be looked up yet: try again in a few seconds.")
        texts = await self._reader.candidates(asked.tenant_id, asked.response_id, asked.user_id)
        wanted = {"chosen_index": says.chosen_index, "rejected_index": says.rejected_index}
        found = [
            Violation(name, f"candidate {index} of this reply {'has no text' if index in texts else 'does not exist'}")
            for name, index in wanted.items()
            if index is None or not texts.get(index)
        ]
        if not found and len({texts[index] for index in wanted.values() if index is not None}) < len(wanted):
            found = [Violation("rejected_index", "names the same text as chosen_index")]
        if found:
            raise InvalidRequest(found)

    async def _require_room(self, asked: Asked) -> None:
        """Raises RateLimited. Anonymous users have no number of their own, so the reply counts instead."""
        who = ("user", asked.user_id) if asked.user_id else ("response", str(asked.response_id))
        seconds = await self._window.enter((asked.tenant_id, *who), asked.key.id)
        if seconds > 0:
            FEEDBACK_LIMITED.inc()
            raise RateLimited(f"This user gave too much feedback in a minute: try again in {seconds:.1f} s.", seconds)

    def _taken(self, tenant: str, kept: Sequence[Kept]) -> Taken:
        for each in kept:
            _count(each)
            self._lessons.teach(tenant, each)
        return Taken(kept)


def _count(kept: Kept) -> None:
    feedback = kept.feedback
    FEEDBACK.labels(feedback.kind.value, feedback.policy_release, kept.effect.value).inc()
    if kept.effect not in (Effect.GIVEN, Effect.EDITED):
        return
    if feedback.kind is Kind.RATING and feedback.rating_overall is not None:
        RATINGS.labels(feedback.policy_release).observe(feedback.rating_overall)
    if feedback.kind is Kind.SAFETY_REPORT and kept.effect is Effect.GIVEN:
        SAFETY_REPORTS.labels(feedback.policy_release).inc()
