"""Around every call: who is calling, bytes that are no message, admission, errors as statuses, metrics.

Who is calling comes first, before the message is read: a call that may not be made costs a hash and a look-up, and how
many of those are under way is bounded like all calls.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from server.analytics.calls import METHODS, Calls
from server.errors import Draining, MalformedMessage, Overloaded, RatchetError
from server.identity import ANYONE, Caller, caller, enter
from server.keyring import bearer
from server.metrics import IN_FLIGHT
from server.rpc import status
from server.rpc.access import is_open, require_access
from server.rpc.counting import Method

log = logging.getLogger(__name__)

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""
Handler = Any
"""grpc.RpcMethodHandler, likewise."""
Places = Callable[[], AbstractContextManager[None]]
"""What gives a call its place; raises Overloaded or Draining."""

MOST_WATCHES = 64
"""Streams that watch, under way in one process."""
WATCHES = frozenset(
    {
        "/ratchet.v1.AlertService/WatchAlerts",
        "/ratchet.v1.AnalyticsService/WatchMetrics",
        "/ratchet.v1.RolloutService/WatchRollout",
        "/ratchet.v1.TrainingService/WatchTraining",
    }
)
"""The methods whose streams go on until the caller leaves."""
RECHECK_SECONDS = 2.0
"""Seconds after which the key of a stream is looked at again, whether it says anything or not."""
MOST_STRANGERS = 128
"""Calls that ask for no key, such as watching the health, under way in one process, where keys are asked for at all."""


class Keys(Protocol):
    """Who has which API key: `server.keyring.KeyRing`."""

    async def caller_of(self, text: str) -> Caller:
        """Who has this key. Raises Unauthenticated, StoreUnavailable or Overloaded."""

    def require(self, who: Caller) -> None:
        """Raises Unauthenticated when the key of a call that goes on is not usable any more."""


@dataclass(slots=True)
class Admission:
    """How many calls may be under way, and whether new ones are taken. One for the process.

    Streams that watch go on for as long as somebody looks: they have places of their own, and take none of answers.
    """

    limit: int
    watch_limit: int = MOST_WATCHES
    in_flight: int = 0
    watches: int = 0
    draining: bool = False
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def answer(self) -> Iterator[None]:
        """A place for a call that ends by itself. Raises Overloaded or Draining instead of letting it wait."""
        self._require(self.in_flight, self.limit, retry_after=0.5)
        self.in_flight += 1
        try:
            with self._counted():
                yield
        finally:
            self.in_flight -= 1

    @contextmanager
    def watch(self) -> Iterator[None]:
        """A place for a stream that watches, likewise."""
        self._require(self.watches, self.watch_limit, retry_after=5.0)
        self.watches += 1
        try:
            with self._counted():
                yield
        finally:
            self.watches -= 1

    async def idle(self) -> None:
        """Returns once no call is under way."""
        while self.in_flight or self.watches:
            self._idle.clear()
            await self._idle.wait()

    def _require(self, taken: int, limit: int, retry_after: float) -> None:
        if self.draining:
            raise Draining("This server is stopping; another one will answer.")
        if taken >= limit:
            raise Overloaded(f"{limit} calls are under way, as many as are allowed.", retry_after=retry_after)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        IN_FLIGHT.inc()
        try:
            yield
        finally:
            self._idle.set()
            IN_FLIGHT.dec()


class Guard(grpc.aio.ServerInterceptor):
    """Wraps each method once; the wrapped handlers are kept by method name. Without `keys` everybody is ANYONE."""

    def __init__(self, admission: Admission, keys: Keys | None = None, calls: Calls | None = None) -> None:
        self._admission, self._keys, self._calls = admission, keys, calls
        self._wrapped: dict[str, tuple[Handler, Method]] = {}
        self._strangers = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The wrapped handler of the method; None, which grpc answers as UNIMPLEMENTED, when there is none.

        grpc runs this and the handler in one task, of this call alone: who is entered here is the handler's caller.
        """
        method = str(handler_call_details.method)
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            if is_open(method):  # health and reflection are grpc's own
                return self._open_to_all(method, handler)
            counted = Method.of(method, handler, self._calls if method in METHODS else None)
            places = self._admission.watch if method in WATCHES else self._admission.answer
            self._wrapped[method] = self._wrap(handler, places, counted), counted
        handler, counted = self._wrapped[method]
        try:
            who = ANYONE
            if self._keys is not None:
                who = await self._keys.caller_of(bearer(handler_call_details.invocation_metadata or ()))
            require_access(who, method)
        except Exception as error:
            return _refusal(error, counted)
        enter(who)
        return handler

    def _open_to_all(self, method: str, handler: Handler) -> Handler:
        """The handler, or a refusal: streams that anybody may open must not take the places of those with a key."""
        if self._keys is None:
            return handler
        if self._strangers >= MOST_STRANGERS:
            error = Overloaded(f"{MOST_STRANGERS} calls without a key are under way.", retry_after=1.0)
            return _refusal(error, Method.of(method, handler, None))
        self._strangers += 1
        call = asyncio.current_task()
        assert call is not None
        call.add_done_callback(self._stranger_left)
        return handler

    def _stranger_left(self, _: object) -> None:
        self._strangers -= 1

    def _wrap(self, handler: Any, places: Places, method: Method) -> Handler:
        serializers = {
            "request_deserializer": _tolerant(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if not handler.response_streaming and not handler.request_streaming:
            call = _unary(handler.unary_unary, places, method)
            return grpc.unary_unary_rpc_method_handler(call, **serializers)
        if not handler.request_streaming:
            call = _streaming(handler.unary_stream, places, method, self._keys)
            return grpc.unary_stream_rpc_method_handler(call, **serializers)
        if handler.response_streaming:
            call = _streaming(handler.stream_stream, places, method, self._keys)
            return grpc.stream_stream_rpc_method_handler(call, **serializers)
        return handler


def _refusal(error: Exception, method: Method) -> Handler:
    """Answers one call with the error. As a method of streams, whatever the called one is: grpc then answers before it
    has read the message."""

    async def refuse(_: Any, context: Context) -> None:
        counted = method.begin(context)
        try:
            counted.code, text, details = _answer(error, context)
            await context.abort(counted.code, text, details)
        finally:
            counted.end()

    return grpc.stream_stream_rpc_method_handler(refuse)


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


def _unary(behaviour: Any, places: Places, method: Method) -> Any:
    async def call(request: Any, context: Context) -> Any:
        counted = method.begin(context)
        try:
            with places():
                _require_message(request)
                reply = await behaviour(request, context)
        except asyncio.CancelledError:
            counted.cut_off()
            raise
        except Exception as error:
            counted.code, text, details = _answer(error, context)
            await context.abort(counted.code, text, details)
        else:
            counted.code = _code_set(context)
            return reply
        finally:
            counted.end(caller().tenant_id)

    return call


def _streaming(behaviour: Any, places: Places, method: Method, keys: Keys | None) -> Any:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        counted, tenant = method.begin(context), caller().tenant_id
        try:
            with places(), _standing(keys) as require_key:
                _require_message(request)
                async with aclosing(behaviour(request, context)) as replies:
                    async for reply in replies:
                        require_key()
                        yield reply
            counted.code = _code_set(context)
        except (asyncio.CancelledError, GeneratorExit):
            counted.cut_off()
            raise
        except Exception as error:
            counted.code, text, details = _answer(error, context)
            await context.abort(counted.code, text, details)
        finally:
            counted.end(tenant)

    return call


class _Standing:
    """The key of a stream, which may go on for days. Looked at before each message, and every RECHECK_SECONDS by a
    timer, which cancels the call's task once the key is not usable any more; `refusal` then says why."""

    def __init__(self, keys: Keys, who: Caller) -> None:
        self._keys, self._who = keys, who
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._timer = self._loop.call_later(RECHECK_SECONDS, self._look)
        self.refusal: RatchetError | None = None

    def require(self) -> None:
        """Raises Unauthenticated or StoreUnavailable."""
        self._keys.require(self._who)

    def close(self) -> None:
        """Stops looking."""
        self._timer.cancel()

    def of(self, interruption: asyncio.CancelledError) -> BaseException:
        """What ended the call: the refusal, unless somebody else cancelled it, too."""
        assert self._task is not None
        if self.refusal is None or self._task.uncancel():
            return interruption
        return self.refusal

    def _look(self) -> None:
        assert self._task is not None
        try:
            self.require()
        except RatchetError as error:
            self.refusal = error
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(RECHECK_SECONDS, self._look)


@contextmanager
def _standing(keys: Keys | None) -> Iterator[Callable[[], None]]:
    """Gives what raises once the caller's key is not usable any more; ends what is within by the same error."""
    if keys is None:
        yield lambda: None
        return
    standing = _Standing(keys, caller())
    try:
        yield standing.require
    except asyncio.CancelledError as interruption:
        raise standing.of(interruption) from None
    finally:
        standing.close()


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
