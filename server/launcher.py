"""The process that `ratchet serve` is: starts the embedded parts, serves, and starts and watches further server
processes when there are to be several. One request never crosses processes.

Several processes share the port by SO_REUSEPORT; each is a fresh interpreter, so no channel or thread is inherited.
"""

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from server import scrape
from server.app import App, Deployment, deploy
from server.embedded import ChildStatus, EmbeddedSettings, Endpoints, Stack
from server.errors import ConfigurationError
from server.settings import Settings
from server.types import Reply

log = logging.getLogger(__name__)

RESTART_DELAYS = (0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Started:
    """What people are told once everything runs."""

    reply: Reply
    endpoints: Endpoints
    parts: list[ChildStatus]
    address: str
    metrics: str


class Launcher:
    """Everything under one roof. `on_event` gets one line for people at each change."""

    def __init__(self, settings: Settings, on_event: Callable[[str], None]) -> None:
        self._settings, self._on_event = settings, on_event
        self._resources = AsyncExitStack()
        self._workers: list[asyncio.Task[None]] = []
        self._app: App | None = None

    async def start(self) -> Started:
        """Raises a RatchetError, one sentence; call `stop` in any case."""
        settings = self._settings
        require_free(settings.listen)
        stack = Stack(_embedded(settings), on_event=self._on_event, on_restart=self._restarted)
        endpoints = await stack.start()
        self._resources.push_async_callback(stack.stop)
        deployment = await deploy(settings, endpoints)
        self._on_event(f"loading {' and '.join(deployment.ids)}")
        self._app = App(settings, endpoints, deployment, shared_port=settings.processes > 1)
        self._resources.push_async_callback(self._app.stop)
        reply = await self._app.start()
        metrics = scrape.serve(settings.metrics, self._resources)
        self._start_workers(endpoints, deployment)
        host = settings.listen.rpartition(":")[0]
        return Started(reply, endpoints, stack.status(), f"{host}:{self._app.port}", metrics)

    async def stop(self) -> None:
        """Ends all in reverse order."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._resources.aclose()

    async def _restarted(self, name: str) -> None:
        if name == "triton" and self._app is not None:
            await self._app.load_models()

    def _start_workers(self, endpoints: Endpoints, deployment: Deployment) -> None:
        for number in range(1, self._settings.processes):
            job = json.dumps(_job(self._settings, self._app.port if self._app else 0, endpoints, deployment))
            self._workers.append(asyncio.create_task(self._keep_worker(number, job)))

    async def _keep_worker(self, number: int, job: str) -> None:
        """Runs one further server process, again when it ends, until cancelled; then it drains."""
        for attempt in range(sys.maxsize):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "server.worker", stdin=asyncio.subprocess.PIPE, start_new_session=True
            )
            assert process.stdin is not None
            process.stdin.write(job.encode() + b"\n")  # stdin stays open: its end tells the worker that we are gone
            try:
                await process.wait()
            except asyncio.CancelledError:
                process.stdin.close()
                await process.wait()
                raise
            scrape.forget(process.pid)
            delay = RESTART_DELAYS[min(attempt, len(RESTART_DELAYS) - 1)]
            self._on_event(f"server process {number} ended with {process.returncode}; starting it again in {delay} s")
            await asyncio.sleep(delay)


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


def _embedded(settings: Settings) -> EmbeddedSettings:
    triton = settings.triton_url or ("none, the backend is the fake" if settings.backend == "fake" else None)
    return EmbeddedSettings(settings.home, settings.triton_env, settings.database_url, settings.redis_url, triton)


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
        "deployment": [str(deployment.policy), str(deployment.reward)],
    }
