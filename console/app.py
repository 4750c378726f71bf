"""The console's process: settings and a listening socket in, a web server until SIGINT or SIGTERM.

`python -m console` is how a server starts it beside itself; people use `ratchet console`.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from console.settings import DEFAULT_LISTEN, DEFAULT_TARGET, Settings, SettingsError, storage_secret

RECONNECT_SECONDS = 60.0
"""How long a page that lost its connection, on a phone that slept, is kept as it was."""
SESSION_SECONDS = 90 * 24 * 3600
STOP_SECONDS = 2


def listen(settings: Settings) -> socket.socket:
    """The socket that the console answers on. Raises SettingsError when the address is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        raise SettingsError(
            f"The console can't listen on {settings.listen} ({error.strerror}): choose another address."
        ) from error


def url_of(listening: socket.socket) -> str:
    """What people open."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(settings: Settings, listening: socket.socket) -> None:
    """Serves on `listening` until SIGINT or SIGTERM."""
    secret = storage_secret(settings.folder)
    # NiceGUI reads it when it is imported.
    os.environ["NICEGUI_STORAGE_PATH"] = str(settings.folder / "sessions")
    os.umask(0o077)
    import uvicorn
    from fastapi import FastAPI
    from nicegui import ui

    from console import pages, shell
    from console.border import Border

    shell.install(keys=settings.keys)
    pages.load()
    shell.page("/{rest:path}")(shell.not_found)
    outer = FastAPI(lifespan=lambda _: _following(settings), openapi_url=None)
    ui.run_with(
        outer,
        title="Ratchet",
        favicon=(Path(__file__).parent / "assets" / "icon.svg").read_text(),
        storage_secret=secret,
        # Cookies know no ports: two consoles of one machine must not take each other's.
        session_middleware_kwargs={
            "session_cookie": f"ratchet_{listening.getsockname()[1]}",
            "max_age": SESSION_SECONDS,
        },
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=RECONNECT_SECONDS,
    )
    outer.add_middleware(Border, hosts=_names(settings))
    config = uvicorn.Config(outer, log_level="warning", timeout_graceful_shutdown=STOP_SECONDS, server_header=False)
    asyncio.run(uvicorn.Server(config).serve([listening]))


@asynccontextmanager
async def _following(settings: Settings) -> AsyncIterator[None]:
    """While the console serves: the channel to the server, and whether it answers."""
    from console import client

    channel = client.connect(settings)
    following = asyncio.create_task(client.health.follow(channel), name="health")
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


def main(arguments: list[str] | None = None) -> None:
    """`python -m console`."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if given.tied:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        settings = Settings.of_environment(given.home, given.target, given.listen, given.keys == "on", given.tls)
        run(settings, socket.socket(fileno=given.socket) if given.socket is not None else listen(settings))
    except SettingsError as error:
        sys.exit(f"console: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m console", description="The web console of a running Ratchet.")
    parser.add_argument("--home", type=Path, required=True, help="Directory of all state.")
    parser.add_argument("--target", default=DEFAULT_TARGET, help="HOST:PORT of the gRPC API.")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, help="HOST:PORT of the console.")
    parser.add_argument("--keys", choices=("on", "off"), default="off", help="Whether each visitor signs in.")
    parser.add_argument("--tls", choices=("on", "off"), default="", help="Whether the API speaks TLS.")
    parser.add_argument("--socket", type=int, help="The number of a socket that listens there already.")
    parser.add_argument("--tied", action="store_true", help="End when standard input ends; leave Ctrl-C to others.")
    return parser


def _names(settings: Settings) -> Collection[str]:
    """Loopback is reached under its own names only; elsewhere there may be any, and keys."""
    return ("localhost", "127.0.0.1", "::1", settings.host) if settings.loopback else ()


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)
