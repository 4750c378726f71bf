"""The process that `ratchet serve` is: starts the embedded parts, serves, and starts and watches further server
processes when there are to be several. One request never crosses processes.

Several processes share the port by SO_REUSEPORT; each is a fresh interpreter, so no channel or thread is inherited.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from server import beside, probes, scrape, tls
from server.app import STOP_SECONDS, App
from server.crew import Program, Worker
from server.deployment import Deployment, deploy
from server.embedded import ChildStatus, Endpoints, Stack
from server.errors import ConfigurationError
from server.notice import StopNotice
from server.settings import Settings
from server.types import Reply


@dataclass(frozen=True, slots=True)
class Started:
    """What people are told once everything runs."""

    reply: Reply
    endpoints: Endpoints
    parts: list[ChildStatus]
    address: str
    metrics: str
    console: str
    """Where the web console is; "" without one."""


class Launcher:
    """Everything under one roof, until `notice` is given. `on_event` gets one line for people at each change."""

    def __init__(self, settings: Settings, on_event: Callable[[str], None], notice: StopNotice) -> None:
        self._settings, self._on_event, self._notice = settings, on_event, notice
        self._resources = AsyncExitStack()
        self._workers: list[Worker] = []
        self._app: App | None = None

    async def start(self) -> Started:
        """Raises a RatchetError, one sentence; call `stop` in any case."""
        settings = self._settings
        require_free(settings.listen)
        tls.credentials(settings.tls_certificate, settings.tls_key)  # a wrong one is told before models are loaded
        stack = Stack(settings.embedded(), on_event=self._on_event)
        endpoints = await stack.start()
        self._resources.push_async_callback(stack.stop)
        await self._warn_without_redis(endpoints.redis_url)
        deployment = await deploy(settings, endpoints)
        self._on_event(f"loading {' and '.join(deployment.ids)}")
        self._app = App(settings, endpoints, deployment, shared_port=settings.processes > 1)
        reply = await self._app.start()
        if self._app.closed_to_all:
            self._on_event("nobody can call yet: make an API key with `ratchet keys add`")
        metrics = scrape.serve(settings.metrics, self._resources)
        self._start_workers(endpoints, deployment, self._app.port)
        address = f"{settings.listen.rpartition(':')[0]}:{self._app.port}"
        await stack.listening(address)
        console = self._start_console(self._app.near)
        return Started(reply, endpoints, stack.status(), address, metrics, console)

    async def stop(self) -> None:
        """Ends all processes side by side, then what they share, at once when a second notice comes."""
        self._notice.given.set()
        apps = [self._app.stop(self._notice.urgent)] if self._app else []
        outcomes = await asyncio.gather(*apps, *(worker.ended() for worker in self._workers), return_exceptions=True)
        await self._resources.aclose()
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _warn_without_redis(self, url: str) -> None:
        try:
            await probes.redis(url)
        except probes.Unreachable as error:
            self._on_event(f"serving without conversation memory until Redis is back: {error}")

    def _start_workers(self, endpoints: Endpoints, deployment: Deployment, port: int) -> None:
        job = json.dumps(_job(self._settings, port, endpoints, deployment))
        seconds = self._settings.lame_duck + self._settings.drain + STOP_SECONDS
        for number in range(1, self._settings.processes):
            program = Program("server.worker", job=job)
            self._workers.append(Worker(f"server process {number}", program, seconds, self._notice, self._on_event))

    def _start_console(self, target: str) -> str:
        """Its address; "" where there is none. Comes last: nothing waits for it, and nothing needs it."""
        if self._settings.console == "off":
            return ""
        try:
            listening = beside.listen(self._settings.console)
        except OSError as error:
            self._on_event(
                f"serving without the console: {self._settings.console} can't be listened on ({error.strerror}); "
                "stop what uses it, or pass --console HOST:PORT"
            )
            return ""
        self._resources.callback(listening.close)
        program = beside.program(self._settings, target, listening)
        self._workers.append(Worker("the console", program, beside.STOP_SECONDS, self._notice, self._on_event))
        return beside.url_of(listening)


def require_free(address: str) -> None:
    """Raises ConfigurationError when another process listens at `address`: SO_REUSEPORT would hide that."""
    host, _, port = address.rpartition(":")
    if port == "0":
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise ConfigurationError(
                f"{address} can't be listened on ({error.strerror}): stop what uses it, or pass --listen HOST:PORT."
            ) from error


def _job(settings: Settings, port: int, endpoints: Endpoints, deployment: Deployment) -> dict[str, object]:
    """What a further process must know; it goes by pipe, because it holds the database's password."""
    host = settings.listen.rpartition(":")[0]
    return {
        "settings": settings.model_dump(mode="json") | {"listen": f"{host}:{port}", "processes": 1},
        "endpoints": {
            "database_url": endpoints.database_url,
            "redis_url": endpoints.redis_url,
            "triton_url": endpoints.triton_url,
        },
        "deployment": deployment.to_json(),
    }
