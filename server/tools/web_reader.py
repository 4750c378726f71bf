"""A process that reads pages from the web, so that a hostile one costs a process and not the server.

It has little memory, no settings of ours in its environment, and is killed when a page takes too long.
"""

import asyncio
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from server.tools.tool import ToolFailed
from server.tools.web_page import Page, Reading, Unreadable, read

log = logging.getLogger(__name__)

MEMORY: Final = 1 << 30
"""Bytes of address space that the process may take."""
START_SECONDS: Final = 30.0
ALARM_SECONDS: Final = 60
WAITING: Final = 32
"""Pages that may wait for the process; more are turned away."""
_READY: Final = b"ready\n"
_WARM_UP: Final = Page("", "text/html", "", "", b"<html><body><p>Ready.</p></body></html>")
Process = asyncio.subprocess.Process


@dataclass(frozen=True, slots=True)
class _Job:
    order: bytes
    body: bytes
    done: asyncio.Future[Reading]


class Reader:
    """Reads one page after the other in a process of its own, started now and again after it had to be killed."""

    def __init__(self, most: int, seconds: float, command: Sequence[str] = ()) -> None:
        """`most` bytes of a page count once it is unpacked; `seconds` is what a page may take. `command`: for tests."""
        self._most, self._seconds = most, seconds
        self._command = tuple(command) or (sys.executable, "-I", "-m", __name__)
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(WAITING)
        self._task = asyncio.create_task(self._work(), name="reading web pages")

    async def read(self, page: Page, query: str, characters: int) -> Reading:
        """See `web_page.read`. Raises ToolFailed."""
        fields = {
            "url": page.url,
            "content_type": page.content_type,
            "charset": page.charset,
            "encoding": page.encoding,
        }
        asked = {"query": query, "most": self._most, "characters": characters}
        order = json.dumps({"page": fields, "asked": asked, "size": len(page.body)})
        done: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        try:
            self._jobs.put_nowait(_Job(f"{order}\n".encode(), page.body, done))
        except asyncio.QueueFull:
            raise ToolFailed("Too many pages of the web wait to be read.") from None
        return await done

    async def close(self) -> None:
        """Ends the process; what still waits fails."""
        self._task.cancel()
        await asyncio.wait([self._task])
        while not self._jobs.empty():
            _fail(self._jobs.get_nowait(), "The web tool is closed.")

    async def _work(self) -> None:
        process: Process | None = None
        try:
            while True:
                process = process or await self._start()
                job = await self._jobs.get()
                left = job.done.done()
                try:
                    served = left or (process is not None and await self._serve(process, job))
                finally:
                    _fail(job, "The page could not be read within its time and memory.")  # unless it was
                if not served:
                    await _end(process)
                    process = None
        finally:
            await _end(process)

    async def _start(self) -> Process | None:
        """A process that is ready; None, and why in the log, when none can be had."""
        pipe, void = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process: Process | None = None
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, stderr=void, env={}, cwd="/", start_new_session=True
            )
            assert process.stdout is not None
            async with asyncio.timeout(START_SECONDS):
                if await process.stdout.readline() == _READY:
                    return process
            log.warning("the process that reads web pages ended at once")
        except (OSError, TimeoutError) as error:
            log.warning("the process that reads web pages can't be started: %s", error or "it takes too long")
        except asyncio.CancelledError:
            await _end(process)
            raise
        await _end(process)
        return None

    async def _serve(self, process: Process, job: _Job) -> bool:
        """Whether the process answered the job."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._seconds):
                process.stdin.writelines((job.order, job.body))
                await process.stdin.drain()
                answer = json.loads(await process.stdout.readline())
            error = answer.pop("error", "")
            reading = None if error else Reading(**answer)
        except (OSError, TimeoutError, ValueError, TypeError, AttributeError):  # killed, late, or out of its mind
            return False
        if reading is None:
            _fail(job, f"The page can't be read: {error}.")
        elif not job.done.done():
            job.done.set_result(reading)
        return True


def _fail(job: _Job, why: str) -> None:
    if not job.done.done():
        job.done.set_exception(ToolFailed(why))


async def _end(process: Process | None) -> None:
    if process is None:
        return
    if process.returncode is None:
        process.kill()
    await process.wait()


def main() -> None:
    """The process: orders, each a line and a body, on standard input; readings, a line each, on what was the output."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    read(_WARM_UP, "", len(_WARM_UP.body), 1)  # imports and compiles, which the first page need not wait for
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        answers.write(_READY)
        answers.flush()
        for line in sys.stdin.buffer:
            order = json.loads(line)
            signal.alarm(ALARM_SECONDS)  # ends this process also where nobody is left to kill it
            answer = _answer(order, sys.stdin.buffer.read(order["size"]))
            signal.alarm(0)
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()


def _answer(order: dict[str, Any], body: bytes) -> dict[str, Any]:
    try:
        return asdict(read(Page(**order["page"], body=body), **order["asked"]))
    except Unreadable as error:
        return {"error": str(error)}
    except Exception as error:  # parsers of foreign pages may fail in any way
        return {"error": f"reading it failed ({type(error).__name__})"}


if __name__ == "__main__":
    main()
