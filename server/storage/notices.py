"""Hears what Postgres says by NOTIFY, on a connection of its own: no pool's connection is kept from its work."""

import asyncio
import logging
from collections.abc import Callable

import asyncpg

from server.patience import doubled
from server.storage.database import GONE
from server.trouble import Trouble

log = logging.getLogger(__name__)

PATIENCE = 10.0
LONGEST_RETRY = 10.0


async def listen(url: str, channel: str, heard: Callable[[], None]) -> None:
    """Calls `heard` at each notice on the channel, and whenever it may have missed some. For ever."""
    failures, trouble = 0, Trouble(log, "listening to Postgres")
    while True:
        try:
            await _listen(url, channel, heard, trouble)
            failures = 0
        except (asyncpg.PostgresError, *GONE) as error:
            failures += 1
            trouble.failed(error)
        await asyncio.sleep(doubled(0.25, failures, LONGEST_RETRY))


async def _listen(url: str, channel: str, heard: Callable[[], None], trouble: Trouble) -> None:
    """Until the connection ends."""
    ended = asyncio.Event()
    connection = await asyncpg.connect(url, timeout=PATIENCE, command_timeout=PATIENCE)
    try:
        connection.add_termination_listener(lambda _: ended.set())
        await connection.add_listener(channel, lambda *_: heard())
        trouble.works()
        heard()
        await ended.wait()
    finally:
        connection.terminate()  # nothing is left to say; a paused Postgres would keep `close` waiting
