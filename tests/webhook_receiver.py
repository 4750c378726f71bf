"""A real HTTP server that gets webhooks, and answers as a test says."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, ok").decode()


class Receiver:
    """`messages` are those that it took, `attempts` the webhook-ids of all requests. `answer` gives the status of the
    attempt of that number, from 0 on; 0 never answers."""

    def __init__(self, answer: Callable[[int], int] = lambda _: 200) -> None:
        self.answer = answer
        self.attempts: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Checks the signature by the published algorithm, then answers."""
        body = await request.read()
        number = len(self.attempts)
        self.attempts.append(request.headers["webhook-id"])
        signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert request.headers["webhook-signature"] == wanted
        status = self.answer(number)
        if not status:
            await asyncio.sleep(3600)
        if status // 100 == 2:
            self.messages.append(json.loads(body))
        return web.Response(status=status, body=b"x" * 1_000_000, headers={"location": "http://127.0.0.1:1/elsewhere"})


@asynccontextmanager
async def receiving(answer: Callable[[int], int] = lambda _: 200) -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver(answer)
    app = web.Application()
    app.router.add_post("/hook/{rest:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}/hook/secret-path"
    try:
        yield receiver
    finally:
        await runner.cleanup()
