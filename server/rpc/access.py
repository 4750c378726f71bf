"""Which roles may call which method: the one table. A method that is not in it is refused, to everyone.

Health and reflection are open: balancers and tools ask them without a key, and they tell nothing of any tenant.
"""

from collections.abc import Iterator, Mapping

from server.errors import PermissionDenied
from server.identity import Caller, Role

OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
"""What anybody may call."""

_CALLER, _RATER, _TRAINER = Role.CALLER, Role.RATER, Role.TRAINER
_OPERATOR: tuple[Role, ...] = ()
"""Nobody but the operator, who may do everything."""
_LEAST_FIRST = (_CALLER, _RATER, _TRAINER, Role.OPERATOR)

_RATCHET: Mapping[str, Mapping[str, tuple[Role, ...]]] = {
    "InferenceService": {
        "Generate": (_CALLER, _TRAINER),
        "StreamGenerate": (_CALLER,),
        "Score": (_CALLER, _TRAINER),
    },
    "FeedbackService": {
        "SubmitFeedback": (_CALLER, _RATER),
        "SubmitPreference": (_CALLER, _RATER),
        "WithdrawFeedback": (_CALLER, _RATER),
        "ListFeedback": (_CALLER, _RATER, _TRAINER),
    },
    "ConversationService": {
        "GetConversation": (_RATER, _TRAINER),
        "ListConversations": (_RATER, _TRAINER),
    },
    "DocumentService": {
        "AddDocument": _OPERATOR,
        "GetDocument": (_CALLER,),
        "ListDocuments": (_CALLER,),
        "DeleteDocument": _OPERATOR,
    },
    "UserService": {
        "GetProfile": (_CALLER,),
        "UpdateProfile": (_CALLER,),
        "DeleteProfile": _OPERATOR,
        "EraseUser": _OPERATOR,
    },
    "AnalyticsService": {
        "GetMetrics": (_TRAINER,),
        "WatchMetrics": (_TRAINER,),
        "RebuildMetrics": _OPERATOR,
    },
    "AlertService": {
        "ListAlerts": _OPERATOR,
        "WatchAlerts": _OPERATOR,
        "AcknowledgeAlert": _OPERATOR,
        "ListAlertRules": _OPERATOR,
    },
    "TrainingService": {
        "StartTraining": (_TRAINER,),
        "GetTraining": (_TRAINER,),
        "ListTrainings": (_TRAINER,),
        "WatchTraining": (_TRAINER,),
        "CancelTraining": (_TRAINER,),
        "GetTrainingReport": (_TRAINER,),
        "ListReviewItems": (_RATER, _TRAINER),
        "LabelReviewItem": (_RATER, _TRAINER),
    },
    "ReleaseService": {
        "ListReleases": (_TRAINER,),
        "GetRelease": (_TRAINER,),
        "PublishRelease": (_TRAINER,),
        "RetireRelease": _OPERATOR,
        "ListRefusedReleases": (_TRAINER,),
    },
    "RolloutService": {
        "StartRollout": _OPERATOR,
        "GetRollout": (_TRAINER,),
        "ListRollouts": (_TRAINER,),
        "WatchRollout": (_TRAINER,),
        "PauseRollout": _OPERATOR,
        "ResumeRollout": _OPERATOR,
        "PromoteRollout": _OPERATOR,
        "RollBackRollout": _OPERATOR,
        "ListRolloutEvents": (_TRAINER,),
        "DecideSafetyReport": _OPERATOR,
    },
    "ExperimentService": {
        "StartExperiment": _OPERATOR,
        "GetExperiment": (_TRAINER,),
        "ListExperiments": (_TRAINER,),
        "StopExperiment": _OPERATOR,
        "DecideExperimentReport": _OPERATOR,
    },
}
_OPEN_INFERENCE: Mapping[str, tuple[Role, ...]] = dict.fromkeys(
    (
        *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig"),
        *("ModelStatistics", "ModelInfer", "ModelStreamInfer"),
    ),
    (_CALLER,),
) | dict.fromkeys(
    (
        *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings"),
        *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
        *("CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
    ),
    _OPERATOR,  # of these none is offered
)


def _rows() -> Iterator[tuple[str, frozenset[Role]]]:
    for service, methods in _RATCHET.items():
        for method, roles in methods.items():
            yield f"/ratchet.v1.{service}/{method}", frozenset((*roles, Role.OPERATOR))
    for method, roles in _OPEN_INFERENCE.items():
        yield f"/inference.GRPCInferenceService/{method}", frozenset((*roles, Role.OPERATOR))


ACCESS: Mapping[str, frozenset[Role]] = dict(_rows())
"""Roles by a method's path, as gRPC has it: /ratchet.v1.InferenceService/Generate."""


def is_open(method: str) -> bool:
    """Whether anybody may call the method, without a key."""
    return method.startswith(OPEN)


def require_access(who: Caller, method: str) -> None:
    """Raises PermissionDenied, which names a role that would do: the least of those that may."""
    allowed = ACCESS.get(method)
    if allowed is None:
        raise PermissionDenied("This method is open to nobody.")
    if who.roles.isdisjoint(allowed):
        role = next(role for role in _LEAST_FIRST if role in allowed)
        has = ", ".join(sorted(who.roles))
        raise PermissionDenied(f"This method needs the role {role}; the API key {who.name!r} has: {has}.", role)
