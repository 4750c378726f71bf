"""The tools there are: a tool is one file in this room, one line here, and its name in settings.py."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from server.tools.docs import open_docs
from server.tools.settings import chosen
from server.tools.sql import open_sql
from server.tools.tool import Tool, ToolServices
from server.tools.web import open_web

log = logging.getLogger(__name__)

Factory = Callable[[ToolServices], Awaitable[Tool | None]]
"""Makes a tool; None when the settings leave it without what it needs."""

TOOLS: Final[Mapping[str, Factory]] = {
    "docs": open_docs,
    "web": open_web,
    "sql": open_sql,
}


async def open_tools(services: ToolServices, known: Mapping[str, Factory] = TOOLS) -> tuple[Tool, ...]:
    """The tools that RATCHET_TOOLS names, in its order, without those that are not configured.

    Raises what a factory raises; nothing stays open then.
    """
    names = chosen(services.settings.tools, known)
    opened: list[Tool] = []
    try:
        for name in names:
            tool = await known[name](services)
            if tool is None:
                log.info("the tool %s is not configured and does not run", name)
            else:
                opened.append(tool)
    except BaseException:
        await close_tools(opened)
        raise
    return tuple(opened)


async def close_tools(tools: Iterable[Tool]) -> None:
    """Closes all of them side by side; one that fails is logged and keeps no other from closing."""
    tools = tuple(tools)
    outcomes = await asyncio.gather(*(tool.close() for tool in tools), return_exceptions=True)
    for tool, outcome in zip(tools, outcomes, strict=True):
        if isinstance(outcome, Exception):
            log.warning("the tool %s could not be closed: %s", tool.name, outcome)
