"""A further server process of a `Launcher`: reads its job from standard input and serves until told to stop there."""

import asyncio
import json
import logging
import signal
import sys

import uvloop

from server import logs
from server.app import App
from server.deployment import Deployment
from server.embedded import Endpoints
from server.errors import RatchetError
from server.notice import StopNotice
from server.settings import Settings

log = logging.getLogger(__name__)


async def main() -> int:
    """Serves until the launcher says so, or is gone; gives the exit status."""
    loop = asyncio.get_running_loop()
    reader, notice = asyncio.StreamReader(), StopNotice()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    job = await reader.readline()
    if not job:
        return 0
    listening = asyncio.create_task(_listen(reader, notice))
    loop.add_signal_handler(signal.SIGTERM, notice.give)
    app = _app(job)
    try:
        if await notice.interrupts(app.start()) is not None:
            await notice.given.wait()
    except RatchetError as error:
        log.warning("this process can't serve: %s", error)
        return 1
    finally:
        await app.stop(notice.urgent)
        listening.cancel()
    return 0


async def _listen(reader: asyncio.StreamReader, notice: StopNotice) -> None:
    """Each line, and the end, is one notice."""
    while await reader.readline():
        notice.give()
    notice.give()


def _app(line: bytes) -> App:
    job = json.loads(line)
    endpoints = Endpoints(**job["endpoints"], triton_http_url=None, model_repository=None)
    deployment = Deployment.from_json(job["deployment"])
    return App(Settings.model_validate(job["settings"]), endpoints, deployment, shared_port=True, leads=False)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    logs.quieten()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's
    sys.exit(uvloop.run(main()))
