"""Reads one page of the web, and nothing else: the address that is connected to is the one that was checked.

Redirects are followed by hand, each checked like the first address. No cookies, credentials, proxies or caches; a body
is read up to a bound and not unpacked here.
"""

import asyncio
import socket
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ClientResponse
from yarl import URL

from server.tools.tool import ToolFailed, ToolRefused
from server.tools.web_names import Names
from server.tools.web_page import TYPES, Page
from server.tools.web_reach import Reach

USER_AGENT: Final = "Mozilla/5.0 (compatible; Ratchet web tool)"
REDIRECTS: Final = 5
_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})
_CHUNK: Final = 1 << 16
_CONNECTIONS: Final = 32
_HEADERS: Final = {
    "User-Agent": USER_AGENT,
    "Accept": "text/html,application/xhtml+xml,text/plain;q=0.8,application/pdf;q=0.5",
    "Accept-Encoding": "gzip, deflate",
}


class Fetcher:
    """Fetches within `reach`, at most `most` bytes of a body."""

    def __init__(self, reach: Reach, most: int, resolver: AbstractResolver | None = None) -> None:
        """Needs a running event loop. `resolver` finds the addresses of names; None: as the system does."""
        self._reach, self._most = reach, most
        connector = aiohttp.TCPConnector(
            resolver=_Checking(resolver or Names(), reach),
            use_dns_cache=False,
            socket_factory=self._socket,
            happy_eyeballs_delay=None,
            force_close=True,
            limit=_CONNECTIONS,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def fetch(self, address: str, timeout: float) -> Page:
        """The page, within `timeout` seconds from the first connection to the last byte.

        Raises ToolRefused for an address that may not be read, and ToolFailed for one that can't.
        """
        url = self._reach.require_url(address)
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(url)
        except TimeoutError as error:
            raise ToolFailed(f"{url.host} did not answer within {timeout:.1f} s.") from error
        except aiohttp.InvalidURL as error:
            raise ToolRefused("The address can't be read as a URL.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ToolFailed(f"{url.host} can't be read: {type(error).__name__}.") from error

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    async def _follow(self, url: URL) -> Page:
        for _ in range(REDIRECTS + 1):
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECT:
                    return await self._page(url, response)
                url = self._target(url, response.headers.get("Location", ""))
        raise ToolFailed(f"{url.host} redirects more than {REDIRECTS} times.")

    def _target(self, url: URL, location: str) -> URL:
        """Where a redirect leads. Raises ToolRefused."""
        try:
            target = self._reach.require_url(str(url.join(URL(location))))
        except ValueError as error:
            raise ToolRefused(f"{url.host} redirects to what is no URL.") from error
        if url.scheme == "https" and target.scheme == "http":
            raise ToolRefused(f"{url.host} redirects from https to http.")
        return target

    async def _page(self, url: URL, response: ClientResponse) -> Page:
        if response.status != 200:
            raise ToolFailed(f"{url.host} answers {response.status}.")
        if response.content_type not in TYPES:
            raise ToolFailed(f"{url.host} gives {response.content_type[:80]}, which is no page.")
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        body = await self._body(response)
        return Page(str(url), response.content_type, response.charset or "", encoding, body)

    async def _body(self, response: ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) >= self._most:
                break
        return bytes(body[: self._most])

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        """The socket for the address that is connected to next: all connections pass here. Raises ToolRefused."""
        family, kind, protocol, _, place = address
        self._reach.require_address(place[0], place[0])
        return socket.socket(family, kind, protocol)


class _Checking(AbstractResolver):
    """Refuses a name of which any address is not allowed: a mixture is an attempt to get past the check."""

    def __init__(self, resolver: AbstractResolver, reach: Reach) -> None:
        self._resolver, self._reach = resolver, reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            self._reach.require_address(each["host"], host)
        return found

    async def close(self) -> None:
        await self._resolver.close()
