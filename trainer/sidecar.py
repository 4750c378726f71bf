"""The sidecar: takes runs that wait, begins them by itself when they are due, forgets whom the server erased, and
clears away what need not be kept.

One run at a time: it has the machine to itself, as far as its low priority allows. SIGTERM or Ctrl-C ends it once a
checkpoint is written, and the run waits for the next trainer. Nothing of it is a server: it speaks to Postgres alone.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import asyncpg

from trainer import runs, scheduler, upkeep
from trainer.data.forgetting import forget
from trainer.database import connected
from trainer.errors import TrainerError, unforeseen
from trainer.runs import Run
from trainer.settings import POLL, WATCH, TrainerSettings
from trainer.worker import Done, How, Worker

log = logging.getLogger(__name__)

LOOKS: Final = 20
"""How many times as long as a look at the feedback took, the next one waits: Postgres has better to do."""


async def serve(settings: TrainerSettings) -> None:
    """Works until SIGTERM or SIGINT. Raises TrainerError when Postgres can't be used at the start."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        async with connected(settings.database_url) as pool:
            sidecar = Sidecar(pool, settings)
            log.info("trainer started: home %s, schedule %s", settings.home, settings.schedule)
            steps = ((WATCH, sidecar.schedule), (WATCH, sidecar.forget), (WATCH, sidecar.clear))
            async with asyncio.TaskGroup() as tasks:
                for seconds, step in ((POLL, sidecar.work), *steps):
                    tasks.create_task(again(seconds, step))
    log.info("trainer stopped")


class Sidecar:
    """What a trainer does again and again."""

    def __init__(self, pool: asyncpg.Pool, settings: TrainerSettings) -> None:
        self._pool, self._settings = pool, settings
        self._worker = Worker(pool, settings)
        self._rests_until = 0.0

    async def work(self) -> None:
        """Does every run that waits."""
        while run := await runs.claim(self._pool, self._settings.lease):
            log.info("run %s taken: attempt %d, asked for by %s", run.training_id, run.attempts, run.requested_by)
            try:
                done = await self._worker.work(run)
            except asyncio.CancelledError:
                log.info("run %s handed back", run.training_id)
                raise
            tell(run, done)

    async def schedule(self) -> None:
        """Asks for a run when one is due."""
        settings, loop = self._settings, asyncio.get_running_loop()
        if loop.time() < self._rests_until:
            return
        began = loop.time()
        when = (settings.schedule, settings.minimum, settings.hour, datetime.now(UTC))
        asker, found = await scheduler.look(self._pool, settings.tenant, *when)
        self._rests_until = loop.time() + LOOKS * (loop.time() - began)
        if asker and (training_id := await runs.ask_when_due(self._pool, settings.tenant, asker, found.newest)):
            log.info("run %s asked for by %s: at least %d new feedback", training_id, asker, found.unseen)

    async def forget(self) -> None:
        """Rewrites the snapshots that hold erased users."""
        for snapshot in await forget(self._pool, self._settings.training):
            log.info("snapshot %s rewritten without erased users", snapshot)

    async def clear(self) -> None:
        """Clears away what ended runs left, and what was kept long enough."""
        await upkeep.clear(self._pool, self._settings)


def tell(run: Run, done: Done) -> None:
    """A line of the log on what became of a run."""
    result = done.result
    if result is not None:
        release = f", release {result.release}" if result.release else ""
        log.info("run %s ended as %s%s: %s", run.training_id, result.verdict, release, result.summary)
    elif done.how is How.DUPLICATE:
        log.info("run %s is the same as run %s", run.training_id, done.same)
    else:
        level = logging.INFO if done.how is How.CANCELLED else logging.WARNING
        log.log(level, "run %s %s%s", run.training_id, done.how, f": {done.error}" if done.error else "")


async def again(seconds: float, step: Callable[[], Awaitable[None]]) -> None:
    """Does it, and again after a while; what goes wrong is told once until it goes well."""
    said = ""
    while True:
        try:
            await step()
            said = ""
        except Exception as error:  # a trainer that ends trains nothing more: a run of the next hour may go well
            if (sentence := unforeseen(error)) != said:
                log.warning("%s", said := sentence, exc_info=not isinstance(error, TrainerError | OSError))
        await asyncio.sleep(seconds)
