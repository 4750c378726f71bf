"""Errors as gRPC statuses: the canonical code, google.rpc.ErrorInfo with a reason, and field violations or a retry
delay where there are any (AIP-193). The one place that maps them."""

import uuid
from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from server import errors
from server.rollout.errors import RolloutNotPossible

DOMAIN = "ratchet.v1"
_DETAILS_KEY = "grpc-status-details-bin"
_TEXT_LIMIT = 1024
_VIOLATIONS_LIMIT = 20

CODES: Mapping[type[errors.RatchetError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.MalformedMessage: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RequestIdReused: grpc.StatusCode.ALREADY_EXISTS,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.DocumentNotFound: grpc.StatusCode.NOT_FOUND,
    errors.DocumentUnreadable: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ProfileNotFound: grpc.StatusCode.NOT_FOUND,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResponseNotFound: grpc.StatusCode.NOT_FOUND,
    errors.FeedbackNotFound: grpc.StatusCode.NOT_FOUND,
    errors.FeedbackTooLate: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ReceiptInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    errors.AlertNotFound: grpc.StatusCode.NOT_FOUND,
    errors.TrainingNotFound: grpc.StatusCode.NOT_FOUND,
    errors.TrainingHasNoReport: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ReviewItemNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ReleaseNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ReleaseInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ReleaseExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.ReleaseInUse: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RolloutNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ExperimentNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ExperimentNotPossible: grpc.StatusCode.FAILED_PRECONDITION,
    RolloutNotPossible: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.LogRowRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.BackendTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.BackendBusy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.BackendRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnreadableRow: grpc.StatusCode.UNAVAILABLE,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
}
"""By class; a subclass without an entry has its nearest base's, and RatchetError itself is INTERNAL."""


def code_of(error: errors.RatchetError) -> grpc.StatusCode:
    """The canonical code of an error."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.INTERNAL


def to_status(error: errors.RatchetError) -> status_pb2.Status:
    """The error as google.rpc.Status, with its details."""
    metadata = {}
    if isinstance(error, errors.QueryTooLong):
        metadata = {"tokens": str(error.tokens), "limit": str(error.limit)}
    if isinstance(error, errors.PermissionDenied) and error.role:
        metadata = {"role": error.role}
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if isinstance(error, errors.InvalidRequest):
        details.append(_bad_request(error))
    if isinstance(error, errors.Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return _status(code_of(error), str(error), details)


def to_incident(incident: uuid.UUID) -> status_pb2.Status:
    """What a caller is told of a defect: that it is ours, and under which incident the log has its trace."""
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"incident": str(incident)})
    return _status(
        grpc.StatusCode.INTERNAL, f"A defect in Ratchet; the server's log has it as incident {incident}.", [info]
    )


def trailers(status: status_pb2.Status) -> tuple[tuple[str, bytes]]:
    """The trailing metadata that carries the status's details."""
    return ((_DETAILS_KEY, status.SerializeToString()),)


def _bad_request(error: errors.InvalidRequest) -> error_details_pb2.BadRequest:
    found = error_details_pb2.BadRequest()
    for violation in error.violations[:_VIOLATIONS_LIMIT]:
        found.field_violations.add(field=violation.field, description=violation.description[:_TEXT_LIMIT])
    return found


def _status(code: grpc.StatusCode, text: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=text[:_TEXT_LIMIT])
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status
