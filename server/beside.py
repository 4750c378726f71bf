"""The web console beside the server: how its process is started. It is a client of the API, known by name only.

The launcher holds the socket, so that the address is known at once, and kept while the console starts again.
"""

import os
import socket

from server.crew import Program
from server.embedded.layout import Layout
from server.settings import Settings

STOP_SECONDS = 5.0
"""What the console gets to end; its pages come back by themselves when it does."""
_LOG_BYTES = 5 << 20


def listen(address: str) -> socket.socket:
    """A socket on HOST:PORT. Raises OSError."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=128)


def url_of(listening: socket.socket) -> str:
    """What people open."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def program(settings: Settings, target: str, listening: socket.socket) -> Program:
    """The console of the server that speaks plainly at `target`, for a `crew.Worker`."""
    log = Layout.of(settings.home).logs / "console.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        os.truncate(log, 0)
    log.touch()
    log.chmod(0o600)  # it may name addresses and visitors
    arguments = (
        *("--home", str(settings.home), "--target", target),
        *("--listen", settings.console, "--socket", str(listening.fileno()), "--keys", settings.keys, "--tied"),
        *("--tls", "off"),
    )
    return Program("console", arguments, descriptors=(listening.fileno(),), log=log)
