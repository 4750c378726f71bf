"""Further processes beside the launcher's, each kept running by a task of its own."""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from server import scrape
from server.notice import StopNotice, before

log = logging.getLogger(__name__)

RESTART_DELAYS = (0.5, 1.0, 2.0, 5.0, 10.0)
URGENT_SECONDS = 10.0
"""What a process gets to end after the second notice; then it is killed."""
Process = asyncio.subprocess.Process


@dataclass(frozen=True, slots=True)
class Program:
    """A module to run by its name. `job` is the first line of its standard input, where there is one. It inherits the
    `descriptors`; what it prints goes to `log`, else to where ours goes."""

    module: str
    arguments: tuple[str, ...] = ()
    job: str = ""
    descriptors: tuple[int, ...] = ()
    log: Path | None = None


class Worker:
    """Runs `program` until `notice` is given, again when it ends by itself.

    Its standard input stays open: a line there is the first notice, its end the second, or the first when we are gone.
    It gets `seconds` to end after the first.
    """

    def __init__(
        self, name: str, program: Program, seconds: float, notice: StopNotice, on_event: Callable[[str], None]
    ) -> None:
        self._name, self._program, self._seconds = name, program, seconds
        self._notice, self._on_event = notice, on_event
        self._task = asyncio.create_task(self._keep(), name=name)

    async def ended(self) -> None:
        """Returns once the process has ended after the notice."""
        await asyncio.wait([self._task])

    async def _keep(self) -> None:
        for attempt in count():
            delay = RESTART_DELAYS[min(attempt, len(RESTART_DELAYS) - 1)]
            try:
                how = await self._run()
            except OSError as error:
                how = f"can't be started ({error})"
            if self._notice.given.is_set():
                return
            place = f" ({self._program.log} says more)" if self._program.log else ""
            self._on_event(f"{self._name} {how}{place}; starting it again in {delay} s")
            await before(self._notice.given, asyncio.sleep(delay))

    async def _run(self) -> str:
        """From its start to its end; gives how it ended."""
        process = await _start(self._program)
        ending = asyncio.ensure_future(process.wait())
        if not await before(self._notice.given, ending):
            await self._end(process, ending)
        scrape.forget(process.pid)
        return f"ended with {await ending}"

    async def _end(self, process: Process, ending: "asyncio.Future[int]") -> None:
        _say(process, "stop")
        if await before(self._notice.urgent, ending, self._seconds):
            return
        assert process.stdin is not None
        process.stdin.close()
        if not await before(asyncio.Event(), ending, URGENT_SECONDS):
            log.warning("%s hangs and is killed", self._name)
            process.kill()
            await ending


async def _start(program: Program) -> Process:
    with ExitStack() as files:
        output = files.enter_context(program.log.open("ab")) if program.log else None
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", program.module, *program.arguments],
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=program.descriptors,
            start_new_session=True,
        )
    if program.job:
        _say(process, program.job)
    return process


def _say(process: Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
