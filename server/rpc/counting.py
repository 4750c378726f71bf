"""How calls are counted, and what one that was cut off ended with.

Metric names are those of go-grpc-prometheus, so that its dashboards work. Neither grpc nor OpenTelemetry emits server
metrics for grpc.aio.
"""

import time
from typing import Any

import grpc

from server.analytics.calls import Calls
from server.journey import EARLY_SECONDS, EARLY_SHARE, LEAST_SECONDS
from server.metrics import GRPC_HANDLED, GRPC_SECONDS, GRPC_STARTED

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""


class Method:
    """The metrics of one method. `calls` counts them by tenant, for those methods where it is wanted."""

    def __init__(self, kind: str, service: str, method: str, calls: Calls | None) -> None:
        self._labels = (kind, service, method)
        self.calls = calls
        self._started = GRPC_STARTED.labels(*self._labels)
        self._seconds = GRPC_SECONDS.labels(*self._labels)

    @classmethod
    def of(cls, path: str, handler: Any, calls: Calls | None) -> "Method":
        """For a method path such as /ratchet.v1.InferenceService/Generate."""
        kinds = {(False, False): "unary", (False, True): "server_stream", (True, False): "client_stream"}
        kind = kinds.get((handler.request_streaming, handler.response_streaming), "bidi_stream")
        _, service, method = path.split("/", 2)
        return cls(kind, service, method, calls)

    def begin(self, context: Context) -> "Count":
        """Counts a call that begins."""
        self._started.inc()
        return Count(self, context)

    def ended(self, code: str, seconds: float) -> None:
        """Counts a call's end."""
        GRPC_HANDLED.labels(*self._labels, code).inc()
        self._seconds.observe(seconds)


class Count:
    """One call. `code`: what it ended with, CANCELLED as long as nothing else is known."""

    def __init__(self, method: Method, context: Context) -> None:
        self._method, self._context = method, context
        self._began = time.perf_counter()
        self._granted: float | None = context.time_remaining()
        self.code = grpc.StatusCode.CANCELLED

    def cut_off(self) -> None:
        """gRPC cancels a call when its deadline has passed, and when its caller leaves: its time tells which."""
        left = self._context.time_remaining()
        if self._granted is not None and left <= EARLY_SECONDS + EARLY_SHARE * self._granted:
            self.code = grpc.StatusCode.DEADLINE_EXCEEDED

    def end(self, tenant: str | None = None) -> None:
        """Counts the call's end; without `tenant`, of a caller who is not known. Who waited for no answer has left."""
        hasty = self._granted is not None and self._granted < LEAST_SECONDS
        if hasty and self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            self.code = grpc.StatusCode.CANCELLED
        self._method.ended(self.code.name, time.perf_counter() - self._began)
        if tenant is not None and self._method.calls is not None:
            self._method.calls.ended(tenant, self.code.name)
