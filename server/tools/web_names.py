"""Finds the addresses of names as the system does, in a few threads of its own: slow DNS holds up nobody else."""

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from server.tools.tool import ToolFailed

THREADS: Final = 8
WAITING: Final = 32
"""Names that are looked up or wait for a thread; more are turned away. A lookup can't be cancelled, only forgotten."""
Lookup = Callable[..., list[Any]]


class Names(AbstractResolver):
    """aiohttp's resolver on the system's own. `close` waits for no lookup."""

    def __init__(self, lookup: Lookup = socket.getaddrinfo) -> None:
        """`lookup` is `socket.getaddrinfo`, but in tests."""
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="names-of-the-web")
        self._free = threading.Semaphore(WAITING)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The host's addresses. Raises OSError when it has none, ToolFailed when too many names wait."""
        if not self._free.acquire(blocking=False):
            raise ToolFailed("Too many names of the web wait for their addresses.")
        work = self._threads.submit(self._lookup, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        work.add_done_callback(lambda _: self._free.release())
        found = await asyncio.wrap_future(work)
        return [_result(host, kind, protocol, address) for kind, _, protocol, _, address in found]

    async def close(self) -> None:
        """Forgets what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _result(host: str, family: int, protocol: int, address: tuple[Any, ...]) -> ResolveResult:
    """Without an IPv6 zone: addresses that need one are never public."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address[0], port=address[1], family=family, proto=protocol, flags=flags)
