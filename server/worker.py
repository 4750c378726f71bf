"""A further server process of a `Launcher`: reads its job from standard input and serves until that closes."""

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

import uvloop

from server.app import App, Deployment
from server.embedded import Endpoints
from server.settings import Settings


async def main() -> None:
    """Serves until the launcher closes our standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    job = json.loads(await reader.readline())
    endpoints = Endpoints(**job["endpoints"], triton_http_url=None, model_repository=None)
    policy, reward = (Path(directory) for directory in job["deployment"])
    app = App(Settings.model_validate(job["settings"]), endpoints, Deployment(policy, reward), shared_port=True)
    done = asyncio.ensure_future(reader.read())
    loop.add_signal_handler(signal.SIGTERM, done.cancel)
    try:
        await app.start()
        await asyncio.wait([done])
    finally:
        await app.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's
    uvloop.run(main())
