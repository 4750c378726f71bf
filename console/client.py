"""The API as the console's pages see it: one channel for the process, deadlines, the visitor's key, and errors as
sentences.

    api = client.api()
    try:
        answer = await api.call(api.alerts.ListAlerts, pb.ListAlertsRequest())
    except client.Trouble as trouble:
        shell.trouble(trouble, retry=load)
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from nicegui import binding

from console import session
from console.settings import Settings
from console.words import has, t
from ratchet.v1 import (
    alert_pb2_grpc,
    analytics_pb2_grpc,
    conversation_pb2_grpc,
    document_pb2_grpc,
    experiment_pb2_grpc,
    feedback_pb2_grpc,
    inference_pb2_grpc,
    release_pb2_grpc,
    rollout_pb2_grpc,
    training_pb2_grpc,
    user_pb2_grpc,
)

Request = TypeVar("Request")
Response = TypeVar("Response")

SECONDS = 10.0
"""What a call gets that names no deadline."""
_MAX_MESSAGE = 8 << 20
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class Trouble(Exception):
    """A call failed. `sentence` is for people, in their language; `reason` is of `ratchet.v1.ErrorReason` or a gRPC
    code; `retry_after` in seconds, where the server names it; `detail` is what the server said."""

    def __init__(self, reason: str, code: grpc.StatusCode, detail: str, retry_after: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.code, self.detail, self.retry_after = reason, code, detail, retry_after

    @property
    def sentence(self) -> str:
        """What to tell people."""
        for name in (self.reason, self.code.name):
            if has(f"trouble.{name}"):
                return t(f"trouble.{name}", seconds=max(1, round(self.retry_after or 1)), detail=self.detail)
        return t("trouble.other", detail=self.detail)

    @property
    def away(self) -> bool:
        """Whether trying again later may help without anybody doing anything."""
        return self.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

    @property
    def nothing_there(self) -> bool:
        """Whether what was named is not there, or could not be: of a call that only names something."""
        return self.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)

    @property
    def unknown_method(self) -> bool:
        """Whether this server is too old for the call."""
        return self.code is grpc.StatusCode.UNIMPLEMENTED


def trouble_of(error: grpc.aio.AioRpcError) -> Trouble:
    """What a failed call says."""
    status = rpc_status.from_call(error)
    reason, retry_after = error.code().name, None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for each in status.details if status else ():
        if each.Unpack(info):
            reason = info.reason
        if each.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return Trouble(reason, error.code(), error.details() or "", retry_after)


@dataclass(frozen=True, slots=True)
class Api:
    """Stubs of every service, and how to call them."""

    inference: "inference_pb2_grpc.InferenceServiceAsyncStub"
    feedback: "feedback_pb2_grpc.FeedbackServiceAsyncStub"
    conversations: "conversation_pb2_grpc.ConversationServiceAsyncStub"
    analytics: "analytics_pb2_grpc.AnalyticsServiceAsyncStub"
    alerts: "alert_pb2_grpc.AlertServiceAsyncStub"
    documents: "document_pb2_grpc.DocumentServiceAsyncStub"
    users: "user_pb2_grpc.UserServiceAsyncStub"
    training: "training_pb2_grpc.TrainingServiceAsyncStub"
    releases: "release_pb2_grpc.ReleaseServiceAsyncStub"
    rollouts: "rollout_pb2_grpc.RolloutServiceAsyncStub"
    experiments: "experiment_pb2_grpc.ExperimentServiceAsyncStub"

    @staticmethod
    async def call(
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        timeout: float = SECONDS,
        key: str = "",
    ) -> Response:
        """One answer to one request, with the visitor's key, or with `key`. Raises Trouble."""
        try:
            return await method(request, timeout=timeout, metadata=_metadata(key))
        except grpc.aio.AioRpcError as error:
            raise trouble_of(error) from error

    @staticmethod
    async def watch(
        method: "grpc.aio.UnaryStreamMultiCallable[Request, Response]", request: Request, timeout: float | None = None
    ) -> AsyncIterator[Response]:
        """The answers to one request as they come, until the visitor signs out, in whichever tab. Raises Trouble.
        Closing or cancelling it cancels the call."""
        key = session.key()
        call = method(request, timeout=timeout, metadata=_metadata())
        try:
            async for each in call:
                if session.key() != key:
                    return
                yield each
        except grpc.aio.AioRpcError as error:
            raise trouble_of(error) from error
        finally:
            call.cancel()


class Health:
    """Whether the server answers; pages bind to `away`."""

    away = binding.BindableProperty()

    def __init__(self) -> None:
        self.away = False

    async def follow(self, channel: grpc.aio.Channel) -> None:
        """Asks every second, for as long as the console runs; then closes the channel."""
        async with channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                self.away = not await _serving(stub)
                await asyncio.sleep(1.0)


async def _serving(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2.0)
    except grpc.aio.AioRpcError as error:
        # Whoever refuses us is there.
        return error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class _Connection:
    api: Api | None = None
    key: str = ""


health = Health()


def connect(settings: Settings) -> grpc.aio.Channel:
    """Opens the process's one channel. Call it in the running loop. Raises OSError for certificates."""
    channel = _channel(settings)
    # A visitor that has to sign in must not act with the console's own key.
    _Connection.key = "" if settings.keys else settings.api_key
    _Connection.api = Api(
        inference_pb2_grpc.InferenceServiceStub(channel),
        feedback_pb2_grpc.FeedbackServiceStub(channel),
        conversation_pb2_grpc.ConversationServiceStub(channel),
        analytics_pb2_grpc.AnalyticsServiceStub(channel),
        alert_pb2_grpc.AlertServiceStub(channel),
        document_pb2_grpc.DocumentServiceStub(channel),
        user_pb2_grpc.UserServiceStub(channel),
        training_pb2_grpc.TrainingServiceStub(channel),
        release_pb2_grpc.ReleaseServiceStub(channel),
        rollout_pb2_grpc.RolloutServiceStub(channel),
        experiment_pb2_grpc.ExperimentServiceStub(channel),
    )
    return channel


def _channel(settings: Settings) -> grpc.aio.Channel:
    if not settings.tls:
        return grpc.aio.insecure_channel(settings.target, options=_OPTIONS)
    authority = Path(settings.tls_ca).read_bytes() if settings.tls_ca else None
    named = (("grpc.ssl_target_name_override", settings.tls_name),) if settings.tls_name else ()
    return grpc.aio.secure_channel(
        settings.target, grpc.ssl_channel_credentials(authority), options=(*_OPTIONS, *named)
    )


def api() -> Api:
    """The API. Call it in a page or in a handler of one: the key is that page's visitor's."""
    assert _Connection.api is not None
    return _Connection.api


def _metadata(key: str = "") -> tuple[tuple[str, str], ...]:
    key = key or session.key() or _Connection.key
    return (("authorization", f"Bearer {key}"),) if key else ()
