"""Says which models a server wants whatever the rollouts want, so that whoever leads, by settings of its own, leaves
them loaded.

By leases on a connection of its own: they end with the server, or when it is cut off from Postgres.
"""

import asyncio
import logging
from collections.abc import Sequence

import asyncpg

from server.patience import doubled, within
from server.rollout.leading import BEAT, LONGEST_RETRY, PATIENCE, connected
from server.storage import leases
from server.storage.database import GONE
from server.trouble import Trouble

log = logging.getLogger(__name__)


class Holder:
    """Holds the leases of `models` from its construction to `close`, as long as Postgres can be reached."""

    def __init__(self, url: str, models: Sequence[str]) -> None:
        self._url, self._names = url, [leases.of_server(model) for model in models]
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Lets go of them."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failures, trouble = 0, Trouble(log, "telling others what this server wants loaded")
        while True:
            try:
                async with connected(self._url) as connection:
                    for name in self._names:
                        await within(PATIENCE, leases.hold(connection, name))
                    failures = 0
                    trouble.works()
                    while True:
                        await asyncio.sleep(BEAT)
                        await within(PATIENCE, connection.fetchval("SELECT 1"))
            except (asyncpg.PostgresError, *GONE) as error:
                failures += 1
                trouble.failed(error)
            except Exception as error:  # a defect of ours must not end what keeps the models up
                failures += 1
                trouble.failed(error, defect=True)
            await asyncio.sleep(doubled(BEAT, failures, LONGEST_RETRY))
