"""The gRPC server of one process: what it offers, and where it listens."""

import importlib.metadata

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ratchet.v1 import (
    alert_pb2,
    alert_pb2_grpc,
    analytics_pb2,
    analytics_pb2_grpc,
    conversation_pb2,
    conversation_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    experiment_pb2,
    experiment_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    release_pb2,
    release_pb2_grpc,
    rollout_pb2,
    rollout_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
)
from server import models, tls
from server.backends.triton import TritonClient
from server.errors import ConfigurationError
from server.pipeline import Pipeline
from server.rpc.alerts import AlertService
from server.rpc.analytics import AnalyticsService
from server.rpc.conversations import ConversationService
from server.rpc.documents import DocumentService
from server.rpc.experiments import ExperimentService
from server.rpc.feedback import FeedbackService
from server.rpc.inference import InferenceService
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.rpc.open_inference import OpenInferenceService
from server.rpc.releases import ReleaseService
from server.rpc.rollouts import RolloutService
from server.rpc.training import TrainingService
from server.rpc.users import UserService
from server.services import Connected
from server.settings import Settings

SERVICES = tuple(
    str(service.full_name)
    for file in (
        *(inference_pb2, conversation_pb2, document_pb2, feedback_pb2, user_pb2, alert_pb2, analytics_pb2),
        *(training_pb2, release_pb2, rollout_pb2, experiment_pb2),
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)
"""Ratchet's own."""
OPEN_INFERENCE = str(service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name)
VERSION = importlib.metadata.version("ratchet")
_MESSAGE_BYTES = 8 << 20
"""A request may hold 16 texts of 64 KiB and a context of 1 MiB; a batch of token ids stays below it too."""
_CALLS_OVER_LIMIT = 4
"""Up to so many times `max_in_flight` calls are answered, by a refusal if need be; beyond it grpc refuses by itself."""
_OF_ALL = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104
"""What means all addresses, and one of them."""


def grpc_server(
    settings: Settings, admission: Admission, connected: Connected, *, shared_port: bool
) -> grpc.aio.Server:
    """A server without services. `shared_port`: other processes listen at the same address."""
    options = [
        ("grpc.so_reuseport", int(shared_port)),
        ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ]
    guard = Guard(admission, connected.keys, connected.analytics.calls)
    bound = settings.max_in_flight * _CALLS_OVER_LIMIT
    return grpc.aio.server(interceptors=[guard], options=options, maximum_concurrent_rpcs=bound)


def add_services(
    server: grpc.aio.Server,
    settings: Settings,
    admission: Admission,
    connected: Connected,
    pipeline: Pipeline,
    healthy: health.aio.HealthServicer,
    backend: models.Backend,
) -> None:
    """All of Ratchet's services, health and reflection; Open Inference where there is a Triton behind it."""
    defaults = Defaults(settings.candidates, settings.max_output_tokens, settings.deadline, settings.max_deadline)
    alerts, live = connected.alerts, connected.analytics

    def draining() -> bool:
        return admission.draining

    inference_pb2_grpc.add_InferenceServiceServicer_to_server(
        InferenceService(pipeline, lambda: connected.routes.reward, connected.receipts, defaults), server
    )
    document_pb2_grpc.add_DocumentServiceServicer_to_server(DocumentService(connected.library, defaults), server)
    user_pb2_grpc.add_UserServiceServicer_to_server(
        UserService(connected.path.profiles, connected.eraser, defaults), server
    )
    conversation_pb2_grpc.add_ConversationServiceServicer_to_server(
        ConversationService(connected.conversations, defaults), server
    )
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(
        FeedbackService(connected.feedback, connected.listing, defaults), server
    )
    alert_pb2_grpc.add_AlertServiceServicer_to_server(
        AlertService(alerts.store, alerts.evidence, defaults, draining), server
    )
    analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server(
        AnalyticsService(live.figures, live.follower, defaults, draining), server
    )
    training_pb2_grpc.add_TrainingServiceServicer_to_server(
        TrainingService(connected.trainings, connected.reviews, defaults, settings.training_minimum, draining), server
    )
    release_pb2_grpc.add_ReleaseServiceServicer_to_server(
        ReleaseService(connected.rollouts, connected.arrivals, connected.publish, connected.needed, defaults), server
    )
    rollout_pb2_grpc.add_RolloutServiceServicer_to_server(
        RolloutService(connected.rollouts, connected.safety_reports, defaults, draining), server
    )
    experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(
        ExperimentService(connected.experiments, connected.safety_reports, defaults), server
    )
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    names = [*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME]
    if isinstance(backend, TritonClient):
        open_inference = OpenInferenceService(
            backend, lambda: connected.routes.reward.release.id, VERSION, settings.max_deadline
        )
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(open_inference, server)
        names.append(OPEN_INFERENCE)
    reflection.enable_server_reflection(names, server)


def bind(server: grpc.aio.Server, settings: Settings) -> int:
    """The port of the address that the settings name. Raises ConfigurationError."""
    address = settings.listen
    secure = tls.credentials(settings.tls_certificate, settings.tls_key)
    try:
        port = server.add_secure_port(address, secure) if secure else server.add_insecure_port(address)
    except RuntimeError as error:
        raise _port_taken(address) from error
    if not port:
        raise _port_taken(address)
    return port


def bind_near(server: grpc.aio.Server, settings: Settings, port: int) -> str:
    """Where this machine calls without TLS. With TLS that is a port of its own, since certificates name no loopback."""
    host = settings.listen.rpartition(":")[0]
    if settings.tls_certificate is not None:
        return f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    return f"{_OF_ALL.get(host, host)}:{port}"


def _port_taken(address: str) -> ConfigurationError:
    return ConfigurationError(
        f"{address} can't be listened on: stop the process that uses it, or pass --listen HOST:PORT."
    )
