"""The one error tree of the server. Each class names its reason (`ratchet.v1.ErrorReason`, without the prefix);
`server.rpc.status` maps them to gRPC once."""

from collections.abc import Sequence
from dataclasses import dataclass


class RatchetError(Exception):
    """Anything that Ratchet itself reports. Its text is one sentence that a caller or an operator can act on."""

    reason = "INTERNAL"


def told(error: BaseException) -> str:
    """What an error says, to be put into a sentence: its first line only (Postgres's further ones quote rows), without
    its stop; its class where it says nothing."""
    return str(error).strip().partition("\n")[0].strip().rstrip(".") or type(error).__name__


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field, named by its path in the request, such as `responses[2]`; "" is all of it."""

    field: str
    description: str


class InvalidRequest(RatchetError):
    """The request can't be answered as it stands, whoever tries again."""

    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in violations))
        self.violations = tuple(violations)


class MalformedMessage(RatchetError):
    """The bytes of the request are not a message of the expected type."""

    reason = "MALFORMED_MESSAGE"


class QueryTooLong(InvalidRequest):
    """The query alone fills the policy model's window."""

    reason = "QUERY_TOO_LONG"

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__([Violation("query", f"has {tokens} tokens; the policy model takes at most {limit}")])
        self.tokens, self.limit = tokens, limit


class RequestIdReused(RatchetError):
    """The request id belongs to an earlier, different request."""

    reason = "REQUEST_ID_REUSED"


class ModelNotFound(RatchetError):
    """No model of this name is served."""

    reason = "MODEL_NOT_FOUND"


class DocumentNotFound(RatchetError):
    """No document has this id."""

    reason = "DOCUMENT_NOT_FOUND"


class DocumentUnreadable(RatchetError):
    """No text can be read from what was sent."""

    reason = "DOCUMENT_UNREADABLE"


class ProfileNotFound(RatchetError):
    """Nothing is kept of this user."""

    reason = "PROFILE_NOT_FOUND"


class Conflict(RatchetError):
    """Someone else changed the resource since the caller read it."""

    reason = "CONFLICT"


class Unauthenticated(RatchetError):
    """There is no API key, or none that is known."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(RatchetError):
    """The caller is known and may not do this. `role`: which role may; "" when no role would help."""

    reason = "PERMISSION_DENIED"

    def __init__(self, message: str, role: str = "") -> None:
        super().__init__(message)
        self.role = role


class ResponseNotFound(RatchetError):
    """No such reply was given to this user; whether it exists at all is not told."""

    reason = "RESPONSE_NOT_FOUND"


class FeedbackNotFound(RatchetError):
    """The user gave no such feedback."""

    reason = "FEEDBACK_NOT_FOUND"


class FeedbackTooLate(RatchetError):
    """The reply is older than feedback is taken for."""

    reason = "FEEDBACK_TOO_LATE"


class ReceiptInvalid(RatchetError):
    """The receipt is not ours, or belongs to another reply."""

    reason = "RECEIPT_INVALID"


class AlertNotFound(RatchetError):
    """There is no such alert."""

    reason = "ALERT_NOT_FOUND"


class TrainingNotFound(RatchetError):
    """There is no such training run."""

    reason = "TRAINING_NOT_FOUND"


class TrainingHasNoReport(RatchetError):
    """The training run has not ended, or ended without a report."""

    reason = "TRAINING_HAS_NO_REPORT"


class ReviewItemNotFound(RatchetError):
    """There is no such item to review."""

    reason = "REVIEW_ITEM_NOT_FOUND"


class ReleaseNotFound(RatchetError):
    """No release of this id was published."""

    reason = "RELEASE_NOT_FOUND"


class ReleaseInvalid(RatchetError):
    """The directory holds no whole release that can be rolled out."""

    reason = "RELEASE_INVALID"


class ReleaseExists(RatchetError):
    """Another release has this id."""

    reason = "RELEASE_EXISTS"


class ReleaseInUse(RatchetError):
    """The release can't be retired: something is served by it, or may be; the text says what."""

    reason = "RELEASE_IN_USE"


class RolloutNotFound(RatchetError):
    """There is no such rollout."""

    reason = "ROLLOUT_NOT_FOUND"


class ExperimentNotFound(RatchetError):
    """There is no such experiment."""

    reason = "EXPERIMENT_NOT_FOUND"


class ExperimentNotPossible(RatchetError):
    """The experiment can't be started now; the text says why and what would help."""

    reason = "EXPERIMENT_NOT_POSSIBLE"


class DeadlineExceeded(RatchetError):
    """The call's time ran out before an answer existed."""

    reason = "DEADLINE_EXCEEDED"


class Overloaded(RatchetError):
    """Too much work is under way; trying again after `retry_after` seconds may succeed."""

    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(Overloaded):
    """The user gave too much feedback in a minute."""

    reason = "RATE_LIMITED"


class Unavailable(RatchetError):
    """Something that the answer needs is away for now."""


class PolicyUnavailable(Unavailable):
    """No candidate could be drawn."""

    reason = "POLICY_UNAVAILABLE"


class RewardUnavailable(Unavailable):
    """The reward model did not answer."""

    reason = "REWARD_UNAVAILABLE"


class LogUnavailable(Unavailable):
    """The log row could not be made durable, so the reply is withheld."""

    reason = "LOG_UNAVAILABLE"


class LogRowRefused(RatchetError):
    """The database refuses this row, and would again."""

    reason = "LOG_ROW_REFUSED"


class MetricsUnavailable(Unavailable):
    """The live counters can't be read."""

    reason = "METRICS_UNAVAILABLE"


class StoreUnavailable(Unavailable):
    """The store of documents, profiles, feedback or alerts did not answer."""

    reason = "STORE_UNAVAILABLE"


class UnreadableRow(RatchetError, ValueError):
    """Only a newer Ratchet can read what it wrote into the store."""

    reason = "STORE_UNAVAILABLE"


class Draining(Unavailable):
    """The server is stopping."""

    reason = "DRAINING"


class ConfigurationError(RatchetError):
    """A setting, or the machine, does not allow Ratchet to start. The text says what to do."""


class BackendError(RatchetError):
    """A model on Triton did not give what was asked; the stages decide what that means for the request."""

    reason = "MODEL_FAILED"


class BackendUnavailable(BackendError, Unavailable):
    """Triton or the model can't be reached."""


class BackendTimeout(BackendError):
    """The model did not answer within the time it was given."""

    reason = "DEADLINE_EXCEEDED"


class BackendBusy(BackendError):
    """The model's queue is full."""

    reason = "OVERLOADED"


class BackendRefused(BackendError):
    """The model refuses this input, and would again."""
