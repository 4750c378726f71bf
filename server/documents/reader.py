"""Reads documents in a process of its own, one after the other: the event loop's side of `server.documents.worker`."""

import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.documents.formats import Format
from server.documents.worker import REQUEST, RESPONSE
from server.errors import DeadlineExceeded, DocumentUnreadable, Overloaded

log = logging.getLogger(__name__)

SECONDS = 20.0
"""What reading one document may take."""
IDLE_SECONDS = 60.0
"""After so long without a document the process ends, and the next one starts another."""
MOST_WAITING = 8
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Source:
    """A document as it was sent. `name` may be a path or a URI; "" for `title`: its own."""

    tenant: str
    name: str
    content: bytes
    format: Format | None = None
    title: str = ""


@dataclass(frozen=True, slots=True)
class ReadPassage:
    """A passage with its words, as `server.documents.words.vector` writes them."""

    title: str
    text: str
    words: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a document says."""

    format: Format
    title: str
    passages: tuple[ReadPassage, ...]


class Reader:
    """Starts the process when there is something to read. `close` ends it."""

    def __init__(self, seconds: float = SECONDS, waiting: int = MOST_WAITING) -> None:
        self._seconds, self._limit = seconds, waiting
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def read(self, source: Source, timeout: float) -> Reading:
        """The document's passages, within `timeout` seconds.

        Raises DocumentUnreadable, DeadlineExceeded, or Overloaded when many documents wait already.
        """
        if self._waiting >= self._limit:
            raise Overloaded("Many documents are being read.", retry_after=1.0)
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout), self._turn:
                answer = await self._ask(source)
        except TimeoutError as error:
            raise DeadlineExceeded("The time of the call was over before the document was read.") from error
        finally:
            self._waiting -= 1
        return await asyncio.to_thread(_reading, answer, source.name)

    async def close(self) -> None:
        """Ends the process, whatever it reads."""
        if self._idle is not None:
            self._idle.cancel()
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, source: Source) -> bytes:
        if self._idle is not None:
            self._idle.cancel()
        try:
            process = self._process = await self._started()
            answer = await self._exchange(process, source)
        except BaseException:
            await self.close()  # whatever it was doing, nobody waits for it
            raise
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest)
        return answer

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.documents.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=_ROOT,
            env={"LANG": "C.UTF-8", **environment},
        )

    async def _exchange(self, process: asyncio.subprocess.Process, source: Source) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        head = {
            "name": source.name,
            "format": source.format.value if source.format else "",
            "title": source.title,
            "tenant": source.tenant,
            "seconds": self._seconds,
        }
        packed = json.dumps(head).encode()
        try:
            process.stdin.write(REQUEST.pack(len(packed), len(source.content)) + packed + source.content)
            await process.stdin.drain()
            (length,) = RESPONSE.unpack(await process.stdout.readexactly(RESPONSE.size))
            return await process.stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            late = await process.wait() == -signal.SIGALRM
            what = f"takes more than {self._seconds:g} seconds" if late else "takes too much memory"
            raise DocumentUnreadable(f"The document {what} to read: split or simplify it.") from error

    def _rest(self) -> None:
        """Ends the idle process; it is reaped by the event loop."""
        if self._process is not None and not self._turn.locked():
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process = None


def _reading(answer: bytes, name: str) -> Reading:
    found = json.loads(answer)
    if "defect" in found:
        log.error("the parser failed on %r:\n%s", name, found["defect"])
    if "unreadable" in found:
        raise DocumentUnreadable(found["unreadable"])
    return Reading(Format(found["kind"]), found["title"], tuple(ReadPassage(*each) for each in found["passages"]))
