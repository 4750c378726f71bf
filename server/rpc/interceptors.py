"""Around every call: bytes that are no message, admission, errors as statuses, metrics.

Metric names are those of go-grpc-prometheus, so that its dashboards work. Neither grpc nor OpenTelemetry emits server
metrics for grpc.aio.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from server.errors import Draining, MalformedMessage, Overloaded, RatchetError
from server.metrics import GRPC_HANDLED, GRPC_SECONDS, GRPC_STARTED, IN_FLIGHT
from server.rpc import status

log = logging.getLogger(__name__)

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""
Handler = Any
"""grpc.RpcMethodHandler, likewise."""
_GUARDED = ("/ratchet.v1.", "/inference.")
"""Methods that are ours to answer."""


@dataclass(slots=True)
class Admission:
    """How many calls may be under way, and whether new ones are taken. One for the process."""

    limit: int
    in_flight: int = 0
    draining: bool = False
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self) -> None:
        """Counts a call in. Raises Overloaded or Draining instead of letting it wait."""
        if self.draining:
            raise Draining("This server is stopping; another one will answer.")
        if self.in_flight >= self.limit:
            raise Overloaded(f"{self.limit} calls are under way, as many as are allowed.", retry_after=0.5)
        self.in_flight += 1
        IN_FLIGHT.inc()

    def leave(self) -> None:
        """Counts a call out."""
        self.in_flight -= 1
        self._idle.set()
        IN_FLIGHT.dec()

    async def idle(self) -> None:
        """Returns once no call is under way."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()


class Guard(grpc.aio.ServerInterceptor):
    """Wraps each method once; the wrapped handlers are kept by method name."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The wrapped handler of the method; None, which grpc answers as UNIMPLEMENTED, when there is none."""
        method = str(handler_call_details.method)
        if method in self._wrapped:
            return self._wrapped[method]
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith(_GUARDED):  # health and reflection are grpc's own
            return handler
        self._wrapped[method] = self._wrap(method, handler)
        return self._wrapped[method]

    def _wrap(self, method: str, handler: Any) -> Handler:
        admission = self._admission
        watch = _Watch.of(method, handler)
        serializers = {
            "request_deserializer": _tolerant(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if not handler.response_streaming and not handler.request_streaming:
            call = _unary(handler.unary_unary, admission, watch)
            return grpc.unary_unary_rpc_method_handler(call, **serializers)
        if not handler.request_streaming:
            call = _streaming(handler.unary_stream, admission, watch)
            return grpc.unary_stream_rpc_method_handler(call, **serializers)
        if handler.response_streaming:
            call = _streaming(handler.stream_stream, admission, watch)
            return grpc.stream_stream_rpc_method_handler(call, **serializers)
        return handler


@dataclass(frozen=True, slots=True)
class _Malformed:
    """Stands for a request whose bytes are no message: grpc itself would answer INTERNAL."""

    detail: str


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data) if deserialize else data
        except Exception as error:  # protobuf's DecodeError, UnicodeDecodeError, ...
            return _Malformed(str(error))

    return read


class _Watch:
    """The metrics of one method."""

    def __init__(self, kind: str, service: str, method: str) -> None:
        self._labels = (kind, service, method)
        self._started = GRPC_STARTED.labels(*self._labels)
        self._seconds = GRPC_SECONDS.labels(*self._labels)

    @classmethod
    def of(cls, path: str, handler: Any) -> "_Watch":
        """For a method path such as /ratchet.v1.InferenceService/Generate."""
        kinds = {(False, False): "unary", (False, True): "server_stream", (True, False): "client_stream"}
        kind = kinds.get((handler.request_streaming, handler.response_streaming), "bidi_stream")
        _, service, method = path.split("/", 2)
        return cls(kind, service, method)

    def start(self) -> float:
        """Counts a call and gives when it began."""
        self._started.inc()
        return time.perf_counter()

    def end(self, began: float, code: grpc.StatusCode) -> None:
        """Counts the call's end."""
        GRPC_HANDLED.labels(*self._labels, code.name).inc()
        self._seconds.observe(time.perf_counter() - began)


def _unary(behaviour: Any, admission: Admission, watch: _Watch) -> Any:
    async def call(request: Any, context: Context) -> Any:
        began, code = watch.start(), grpc.StatusCode.CANCELLED
        try:
            with _admitted(admission):
                _require_message(request)
                reply = await behaviour(request, context)
        except Exception as error:
            code, text, details = _answer(error, context)
            await context.abort(code, text, details)
        else:
            code = _code_set(context)
            return reply
        finally:
            watch.end(began, code)

    return call


def _streaming(behaviour: Any, admission: Admission, watch: _Watch) -> Any:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        began, code = watch.start(), grpc.StatusCode.CANCELLED
        try:
            with _admitted(admission):
                _require_message(request)
                async for reply in behaviour(request, context):
                    yield reply
            code = _code_set(context)
        except Exception as error:
            code, text, details = _answer(error, context)
            await context.abort(code, text, details)
        finally:
            watch.end(began, code)

    return call


@contextmanager
def _admitted(admission: Admission) -> Iterator[None]:
    admission.enter()
    try:
        yield
    finally:
        admission.leave()


def _require_message(request: Any) -> None:
    if isinstance(request, _Malformed):
        raise MalformedMessage(f"The request is not a message of the expected type, in valid UTF-8: {request.detail}")


def _code_set(context: Context) -> grpc.StatusCode:
    """What the behaviour set as its code; OK when it set none (grpc keeps it as a number)."""
    code = context.code()
    if not code:
        return grpc.StatusCode.OK
    return next((known for known in grpc.StatusCode if code in (known, known.value[0])), grpc.StatusCode.OK)


def _answer(error: Exception, context: Context) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """What the caller is told: code, text and trailing metadata."""
    if isinstance(error, grpc.aio.AbortError):  # told already: grpc ignores the second one
        return _code_set(context), str(context.details() or ""), ()
    if isinstance(error, RatchetError):
        found = status.to_status(error)
        return status.code_of(error), found.message, status.trailers(found)
    if isinstance(error, NotImplementedError):  # what generated servicers raise for methods that we do not offer
        return grpc.StatusCode.UNIMPLEMENTED, "This method is not offered.", ()
    incident = uuid.uuid4()
    log.error("incident %s", incident, exc_info=error)
    found = status.to_incident(incident)
    return grpc.StatusCode.INTERNAL, found.message, status.trailers(found)
