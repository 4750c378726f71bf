"""Who leads: of all server processes of a database one at a time does what must be done once, as long as it has a lock.

The lock is an advisory one on a connection of its own: Postgres lets go of it when the connection ends, whatever ended
it. Who says nothing on it for long, stopped or stuck, is cut off. A leader that was cut off without noticing may work
beside the next one for a moment; whatever it writes compares versions, so that nothing is done twice.

Of two versions of Ratchet, as while servers are upgraded one by one, the newer one must lead: who can't read what it is
to look after lets go of the lock and leaves it to others for a while.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from server.errors import RatchetError, UnreadableRow, told
from server.patience import doubled, within
from server.storage import leases
from server.storage.database import GONE
from server.trouble import Trouble

log = logging.getLogger(__name__)

LOCK = "ratchet rollouts"
"""The lock's name."""
BEAT = 1.0
"""Seconds between two looks at whether the lock is still held, or free."""
PATIENCE = 5.0
"""Seconds that Postgres may take to answer on the lock's connection, before it counts as lost."""
SILENCE = 15.0
"""Seconds without a beat after which Postgres ends the connection: a process that is stopped keeps its socket."""
LONGEST_RETRY = 5.0
"""Seconds: what is unsafe waits no longer than that once Postgres is back."""
STOP_SECONDS = 5.0
"""What the jobs get to end when the lock is lost."""
UNREADABLE_SECONDS = 5.0
"""How long a job may meet what only a newer version can read, before the lock is let go."""
LEFT_SECONDS = 60.0
"""And how long it is left to others then."""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for locks, which Postgres ends after SILENCE. Raises GONE and PostgresError."""
    silence = {"idle_session_timeout": str(round(SILENCE * 1000))}
    connection = await asyncpg.connect(url, timeout=PATIENCE, command_timeout=PATIENCE, server_settings=silence)
    try:
        yield connection
    finally:
        connection.terminate()  # the locks go with it; a paused Postgres would keep `close` waiting


Job = tuple[Callable[[], Awaitable[object]], float, str]
"""What is to be done, again after so many seconds, and what it is called."""


class Leader:
    """Does the jobs while it has the lock.

    `jobs` makes them anew each time, so that nothing known is from before; what is to be ended with them it puts on the
    stack.
    """

    def __init__(self, url: str, jobs: Callable[[AsyncExitStack], Sequence[Job]]) -> None:
        self._url, self._jobs = url, jobs
        self._trouble = Trouble(log, "keeping track of who leads the rollouts")
        self._troubles: dict[str, Trouble] = {}
        self.leads = False
        """Whether it has the lock, as far as it knows."""

    async def run(self) -> None:
        """For ever; when cancelled, the jobs end and the lock is let go."""
        failures = 0
        while True:
            try:
                await self._serve()
                failures = 0
            except UnreadableRow as error:
                failures = 0
                log.warning("leading is left to a newer server for %.0f s: %s", LEFT_SECONDS, told(error))
                await asyncio.sleep(LEFT_SECONDS)
            except (asyncpg.PostgresError, *GONE) as error:
                failures += 1
                self._trouble.failed(error)
            except Exception as error:  # a defect of ours must not leave the rollouts without anybody who leads
                failures += 1
                self._trouble.failed(error, defect=True)
            await asyncio.sleep(doubled(BEAT, failures, LONGEST_RETRY))

    async def _serve(self) -> None:
        """Waits for the lock and leads until it is lost. Raises GONE and PostgresError when the connection ends,
        UnreadableRow when a newer version is to have it."""
        try:
            async with connected(self._url) as connection:
                while not await within(PATIENCE, leases.own(connection, LOCK)):  # another has it
                    self._trouble.works()
                    await asyncio.sleep(BEAT)
                await self._lead(connection)
        finally:
            self.leads = False

    async def _lead(self, connection: asyncpg.Connection) -> None:
        self.leads = True
        log.info("this process leads the rollouts")
        async with AsyncExitStack() as stack:
            working = [asyncio.create_task(_again(job, self._trouble_of(job))) for job in self._jobs(stack)]
            stack.push_async_callback(_end, working)
            while not any(task.done() for task in working):  # a job goes on for ever, or all are begun anew
                await asyncio.sleep(BEAT)
                await within(PATIENCE, connection.fetchval("SELECT 1"))
                self._trouble.works()
        if unreadable := next(filter(None, map(_unreadable, working)), None):
            raise unreadable

    def _trouble_of(self, job: Job) -> Trouble:
        """The same each time it leads: with Postgres the lead comes and goes, too."""
        return self._troubles.setdefault(job[2], Trouble(log, job[2]))


async def _end(working: Sequence["asyncio.Task[None]"]) -> None:
    log.info("this process no longer leads the rollouts")
    for task in working:
        if task.done() and not _unreadable(task):
            log.error("a job of who leads ended", exc_info=None if task.cancelled() else task.exception())
        task.cancel()
    if working:
        await asyncio.wait(working, timeout=STOP_SECONDS)


def _unreadable(task: "asyncio.Task[None]") -> UnreadableRow | None:
    """What ended the task, if it was that."""
    error = task.exception() if task.done() and not task.cancelled() else None
    return error if isinstance(error, UnreadableRow) else None


async def _again(job: Job, trouble: Trouble) -> None:
    """Does a job for ever. What fails is told to `trouble`, and tried again, each time after twice the wait.

    Raises UnreadableRow where that goes on for UNREADABLE_SECONDS.
    """
    work, every, _ = job
    loop = asyncio.get_running_loop()
    failures, met = 0, math.inf
    while True:
        try:
            await work()
            failures, met = 0, math.inf
            trouble.works()
        except UnreadableRow as error:
            failures, met = failures + 1, min(met, loop.time())
            if loop.time() - met >= UNREADABLE_SECONDS:
                raise
            trouble.failed(error)
        except (RatchetError, asyncpg.PostgresError, *GONE) as error:
            failures += 1
            trouble.failed(error)
        except Exception as error:  # a defect of ours must not end what keeps rollouts safe
            failures += 1
            trouble.failed(error, defect=True)
        await asyncio.sleep(doubled(every, failures, max(every, LONGEST_RETRY)))
