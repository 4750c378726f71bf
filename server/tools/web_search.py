"""Asks the configured search endpoint, which speaks SearXNG's JSON: `GET URL?q=...&format=json&language=...`.

The endpoint itself may be anywhere, the operator chose it; what it finds may not.
Source: https://docs.searxng.org/dev/search_api.html
"""

import asyncio
import json
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from server.tools.tool import ToolFailed
from server.tools.web_page import clean

LONGEST_QUERY: Final = 256
LONGEST_SNIPPET: Final = 800
_MOST: Final = 1 << 20
"""Bytes of an answer."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One result. `snippet` is what the search engine shows of the page, on one line; "" for nothing."""

    url: str
    title: str
    snippet: str


class Search:
    """A search endpoint. Needs a running event loop."""

    def __init__(self, endpoint: str, threads: Executor) -> None:
        """`threads` parse the answers."""
        self._endpoint, self._threads = URL(endpoint), threads
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    async def find(self, query: str, language: str, timeout: float) -> tuple[Hit, ...]:
        """Results, best first, each page once. `language` is a code such as "vi", or "auto". Raises ToolFailed."""
        words = clean(query)[:LONGEST_QUERY]
        url = self._endpoint.update_query(q=words, format="json", language=language)
        try:
            async with asyncio.timeout(timeout):
                body = await self._get(url)
            return await asyncio.get_running_loop().run_in_executor(self._threads, hits, body)
        except TimeoutError as error:
            raise ToolFailed(f"The web search did not answer within {timeout:.1f} s.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ToolFailed(f"The web search can't be reached: {type(error).__name__}.") from error

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    async def _get(self, url: URL) -> bytes:
        async with self._session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response:
            if response.status != 200:
                raise ToolFailed(f"The web search answers {response.status}.")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MOST:
                    raise ToolFailed("The web search answers with more than 1 MiB.")
            return bytes(body)


def hits(body: bytes) -> tuple[Hit, ...]:
    """What a SearXNG answer lists; entries without an address are left out. Raises ToolFailed for anything else."""
    try:
        results = json.loads(body)["results"]
        listed = [_hit(each) for each in results if isinstance(each, dict) and isinstance(each.get("url"), str)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ToolFailed("The web search answers with what is no SearXNG JSON: is its JSON format enabled?") from error
    found: dict[str, Hit] = {}
    for hit in listed:
        found.setdefault(hit.url, hit)
    return tuple(found.values())


def _hit(result: dict[str, Any]) -> Hit:
    title, snippet = (clean(str(result.get(key) or "")) for key in ("title", "content"))
    return Hit(result["url"], title, snippet[:LONGEST_SNIPPET])
