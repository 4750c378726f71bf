"""The one error tree of the server. Each class names its reason (`ratchet.v1.ErrorReason`, without the prefix);
`server.rpc.status` maps them to gRPC once."""

from collections.abc import Sequence
from dataclasses import dataclass


class RatchetError(Exception):
    """Anything that Ratchet itself reports. Its text is one sentence that a caller or an operator can act on."""

    reason = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field, named by its path in the request, such as `responses[2]`."""

    field: str
    description: str


class InvalidRequest(RatchetError):
    """The request can't be answered as it stands, whoever tries again."""

    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
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


class DeadlineExceeded(RatchetError):
    """The call's time ran out before an answer existed."""

    reason = "DEADLINE_EXCEEDED"


class Overloaded(RatchetError):
    """Too much work is under way; trying again after `retry_after` seconds may succeed."""

    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


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
