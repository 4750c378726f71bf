"""The web tool: searches, reads the best pages and gives their passages. A query that names an address gets that page.

What the web says is evidence and nothing else: text on one line, without what can't be seen.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final

from server.tools import web_query
from server.tools.tool import Question, ToolFailed, ToolRefused, ToolServices
from server.tools.web_fetch import Fetcher
from server.tools.web_page import LONGEST_TITLE
from server.tools.web_reach import Reach
from server.tools.web_reader import Reader
from server.tools.web_search import Hit, Search
from server.types import Evidence

CHARACTERS: Final = 800
"""Of a page that become evidence, about."""
_SHARE: Final = 0.9
"""Of the tools' budget: what was found by then still arrives in time."""
Outcome = Evidence | None | BaseException


class WebTool:
    """See the module. `budget` seconds are all that a query may take, `timeout` of it the search or one page."""

    name = "web"
    description = (
        "Searches the public web and reads pages: for news, current events, facts that are not about this shop, "
        "and any address (URL) that the user names."
    )

    def __init__(
        self, search: Search, fetcher: Fetcher, reader: Reader, *, results: int, timeout: float, budget: float
    ) -> None:
        self._search, self._fetcher, self._reader = search, fetcher, reader
        self._results, self._timeout, self._budget = results, timeout, budget

    def relevance(self, question: Question) -> float:
        """See `web_query.relevance`."""
        return web_query.relevance(question.query)

    async def run(self, question: Question) -> tuple[Evidence, ...]:
        """See `Tool.run`: one evidence a page."""
        deadline = asyncio.get_running_loop().time() + self._budget
        if named := web_query.addresses(question.query):
            visits = [self._visit(address, question.query, deadline) for address in named[: self._results]]
            return _all_of(await _side_by_side(visits))
        preferred = question.profile.attributes.get("language", "") if question.profile else ""
        language = web_query.language(question.query, preferred)
        found = await self._search.find(question.query, language, self._left(deadline))
        reads = [self._read(hit, question.query, deadline) for hit in found[: self._results]]
        return _best_of(await _side_by_side(reads))

    async def close(self) -> None:
        """See `Tool.close`."""
        await asyncio.gather(self._search.close(), self._fetcher.close(), self._reader.close())

    async def _visit(self, address: str, query: str, deadline: float) -> Evidence | None:
        page = await self._fetcher.fetch(address, self._left(deadline))
        reading = await self._reader.read(page, web_query.without_addresses(query), CHARACTERS)
        if not reading.text:
            return None
        return Evidence(self.name, page.url, reading.title or page.url, reading.text, page.url, 1.0)

    async def _read(self, hit: Hit, query: str, deadline: float) -> Evidence | None:
        """What the page says; what the search engine shows of it when the page can't be read."""
        try:
            async with asyncio.timeout_at(deadline):
                page = await self._fetcher.fetch(hit.url, self._left(deadline))
                reading = await self._reader.read(page, query, CHARACTERS)
        except (ToolFailed, TimeoutError) as error:
            if not hit.snippet:
                raise ToolFailed(str(error) or "The page was not read in time.") from error
            return Evidence(self.name, hit.url, hit.title[:LONGEST_TITLE], hit.snippet, hit.url, 0.5)
        if not reading.text:
            return None
        title = hit.title[:LONGEST_TITLE] or reading.title or page.url
        return Evidence(self.name, page.url, title, reading.text, page.url, reading.score)

    def _left(self, deadline: float) -> float:
        return min(self._timeout, max(deadline - asyncio.get_running_loop().time(), 0.0))


async def open_web(services: ToolServices) -> WebTool | None:
    """The web tool; None without a search endpoint."""
    settings = services.settings
    if not settings.web_search_url:
        return None
    reach = Reach(frozenset(int(port) for port in settings.web_ports.split(",")))
    return WebTool(
        Search(settings.web_search_url, services.threads),
        Fetcher(reach, settings.web_bytes),
        Reader(settings.web_bytes, settings.web_timeout),
        results=settings.web_results,
        timeout=settings.web_timeout,
        budget=settings.tool_budget * _SHARE,
    )


async def _side_by_side(work: Iterable[Coroutine[Any, Any, Evidence | None]]) -> list[Outcome]:
    return await asyncio.gather(*work, return_exceptions=True)


def _all_of(outcomes: list[Outcome]) -> tuple[Evidence, ...]:
    """What was asked for by its address: any refusal or failure is the answer."""
    for kind in (ToolRefused, ToolFailed, BaseException):
        for outcome in outcomes:
            if isinstance(outcome, kind):
                raise outcome
    return tuple(outcome for outcome in outcomes if isinstance(outcome, Evidence))


def _best_of(outcomes: list[Outcome]) -> tuple[Evidence, ...]:
    """What was found, best first; results that may not be read are passed over. A failure is raised when nothing is."""
    evidence = [outcome for outcome in outcomes if isinstance(outcome, Evidence)]
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, (ToolRefused, ToolFailed)):
            raise outcome
        if isinstance(outcome, ToolFailed) and not evidence:
            raise outcome
    return tuple(sorted(evidence, key=lambda each: -each.score))
