"""Who may talk to the console: browsers that opened it under its own name. Sets what a page may load, which is nothing
from elsewhere.

A page of another site could otherwise open our web socket (browsers allow that everywhere), or reach this machine under
a name of its own (DNS rebinding).
"""

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Vue compiles its templates in the browser
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "frame-src 'self'",  # a training run's report, in a sandbox
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
_HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Border:
    """ASGI middleware. `hosts`: the only names under which the console is reached; empty allows any."""

    def __init__(self, inner: ASGIApp, hosts: Collection[str]) -> None:
        self._inner, self._hosts = inner, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._inner(scope, receive, send)
        elif not self._welcome(Headers(scope=scope)):
            await _refuse(scope, receive, send)
        else:
            await self._inner(scope, receive, _guarded(send))

    def _welcome(self, headers: Headers) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not host or "@" in host or (self._hosts and _split(f"//{host}").hostname not in self._hosts):
            return False
        return origin is None or _split(origin).netloc == host


def _split(url: str) -> SplitResult:
    """The parts of a URL; of what is none, nothing."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await PlainTextResponse("This is not the address of this console.", 403)(scope, receive, send)


def _guarded(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)  # a document of its own may be held stricter
        await send(message)

    return with_headers
