"""Records on disk that wait for Postgres. Knows files, not rows.

A record is durable when `append` returns: written and fsynced, the directory too. What is appended while an fsync is
under way shares the next one. Records lie in segments, files of bounded size named by the time of their making
(`<UUIDv7>.rows`). Several server processes share a directory: each writes segments of its own and holds their locks
(flock), which the kernel drops with the process; whoever gets the lock of a segment may read and remove it. flock must
work on the volume. Nothing is removed but by `remove`; what can't be read or written to Postgres is set aside.
"""

import asyncio
import errno
import fcntl
import logging
import os
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import uuid_utils

from server.errors import ConfigurationError, LogUnavailable, Overloaded
from server.storage.frames import Piece, frame, pieces

log = logging.getLogger(__name__)

SEGMENT_SIZE = 8 << 20
QUEUE_SIZE = 64 << 20
"""Bytes that may wait for the disk."""
SEGMENT = ".rows"
REFUSED, DAMAGED = "refused", "damaged"
"""Kinds of what is set aside: whole records that Postgres refuses, one a line, and bytes that can't be read."""
_ATTEMPTS = 3

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Segment:
    """A file of which this process holds the lock."""

    path: Path
    file: int
    size: int = 0

    @property
    def made_at(self) -> float:
        """Seconds since the epoch."""
        return _made_at(self.path)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What lies in a spool: bytes that wait, for how many seconds, and the files with what was set aside."""

    waiting: int
    age: float
    aside: tuple[str, ...]


def holdings(directory: Path) -> Holdings:
    """What all processes have in the spool `directory`, which need not exist. Raises OSError."""
    files = [(path, path.stat().st_size) for path in sorted(directory.glob("*")) if _is_ours(path)]
    waiting = [(path, size) for path, size in files if path.suffix == SEGMENT]
    age = max((time.time() - _made_at(path) for path, _ in waiting), default=0.0)
    aside = tuple(path.name for path, _ in files if path.suffix != SEGMENT)
    return Holdings(sum(size for _, size in waiting), age, aside)


class Spool:
    """All file work happens in one thread; the methods are for one event loop. `size` bounds the whole directory."""

    def __init__(self, directory: Path, size: int, segment_size: int = SEGMENT_SIZE) -> None:
        self._directory, self._size = directory, size
        self._segment_size = min(segment_size, max(size // 8, 1))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._queue: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._queued = 0
        self._writing: asyncio.Task[None] | None = None
        self._sealed: list[Segment] = []
        self._current: Segment | None = None

    @property
    def pending(self) -> int:
        """Bytes that wait for Postgres in this process's segments, and for the disk."""
        return self._queued + sum(segment.size for segment in self._own())

    @property
    def age(self) -> float:
        """Seconds since the oldest of these segments was made; 0 when there is none."""
        return max((time.time() - segment.made_at for segment in self._own()), default=0.0)

    async def append(self, payload: bytes) -> None:
        """Returns once the payload is durable. Raises LogUnavailable (disk full or broken), Overloaded."""
        if self._queued + len(payload) > QUEUE_SIZE:
            raise Overloaded("Too many log rows wait for the spool's disk.", retry_after=1.0)
        written = asyncio.get_running_loop().create_future()
        self._queue.append((frame(payload), written))
        self._queued += len(self._queue[-1][0])
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await written

    async def adopt(self) -> int:
        """Takes over the segments that no living process holds; gives how many. Raises ConfigurationError."""
        try:
            return await self._in_thread(self._adopt)
        except OSError as error:
            raise ConfigurationError(
                f"The spool {self._directory} can't be used ({error.strerror or error}): "
                "set RATCHET_SPOOL_DIR to a directory that you may write to."
            ) from error

    async def oldest(self) -> Segment | None:
        """The oldest segment, to which nothing is added any more; None when all is read."""
        return await self._in_thread(self._oldest)

    async def read(self, segment: Segment) -> list[Piece]:
        """What the segment holds, in the order of writing. Raises OSError."""
        return await self._in_thread(lambda: list(pieces(_content(segment))))

    async def set_aside(self, segment: Segment, kind: str, data: Sequence[bytes]) -> None:
        """Keeps what can't go to Postgres in a file `<segment>.<kind>` beside the segment. Raises OSError."""
        path = segment.path.with_suffix(f".{kind}")
        await self._in_thread(lambda: self._keep(path, b"".join(data)))
        log.error("%s holds what of a spooled segment can't go to Postgres: nothing of it is lost", path)

    async def remove(self, segment: Segment) -> None:
        """Deletes a segment whose records are in Postgres. Raises OSError."""
        await self._in_thread(lambda: self._remove(segment))

    async def close(self) -> None:
        """Writes what waits and gives the segments up to other processes. Harmless when called twice."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._own():
            await self._in_thread(self._release)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _own(self) -> list[Segment]:
        return [*self._sealed, self._current] if self._current else self._sealed

    async def _write(self) -> None:
        while self._queue:
            batch = list(self._queue)
            self._queue.clear()
            framed = [each for each, _ in batch]
            kept = 0
            error = LogUnavailable(f"Postgres is away and the spool is full: it may hold {self._size} bytes.")
            try:
                kept = await self._in_thread(partial(self._store, framed))
            except Exception as found:
                log.exception("the spool failed on %d records", len(batch))
                error = LogUnavailable(f"The log row could not be written to the spool: {type(found).__name__}.")
            self._queued -= sum(map(len, framed))
            for index, (_, written) in enumerate(batch):
                _settle(written, None if index < kept else error)

    def _store(self, framed: Sequence[bytes]) -> int:
        """Makes records durable, as many of the first as there is room for; gives how many.

        Raises OSError; the segment then ends with its last whole record.
        """
        fitting = _fitting(framed, self._size - self._used())
        if not fitting:
            return 0
        data = b"".join(fitting)
        segment = self._current = self._current or self._new()
        try:
            _write_all(segment.file, data)
            os.fdatasync(segment.file)
        except OSError:
            # After a failed fsync nothing is known of the file's pages: none is added to it.
            with suppress(OSError):
                os.ftruncate(segment.file, segment.size)
            self._seal()
            raise
        segment.size += len(data)
        if segment.size >= self._segment_size:
            self._seal()
        return len(fitting)

    def _used(self) -> int:
        """Bytes of all files, also of other processes and of what was set aside."""
        if not self._directory.is_dir():
            self._make()
        with os.scandir(self._directory) as entries:
            return sum(_size(entry) for entry in entries)

    def _make(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sync_directory(self._directory.parent)

    def _new(self) -> Segment:
        for _ in range(_ATTEMPTS):
            path = self._directory / f"{uuid_utils.uuid7().hex}{SEGMENT}"
            segment = _locked(path, os.O_CREAT | os.O_EXCL)
            if segment is not None:  # else another process looked for segments to adopt at that very moment
                _sync_directory(self._directory)
                return segment
        raise OSError(errno.EWOULDBLOCK, "the spool's files can't be locked")

    def _seal(self) -> None:
        """Nothing more goes to the segment being written."""
        segment, self._current = self._current, None
        if segment is None:
            return
        if segment.size:
            self._sealed.append(segment)
        else:
            self._discard(segment)

    def _adopt(self) -> int:
        self._make()
        mine = {segment.path.name for segment in self._own()}
        found = [path for path in self._directory.glob(f"*{SEGMENT}") if path.name not in mine and _is_ours(path)]
        adopted = [segment for path in found if (segment := _locked(path)) is not None]
        self._sealed = sorted([*self._sealed, *adopted], key=lambda segment: segment.path.name)
        return len(adopted)

    def _oldest(self) -> Segment | None:
        if not self._sealed:
            self._seal()
        return self._sealed[0] if self._sealed else None

    def _keep(self, path: Path, data: bytes) -> None:
        file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        _sync_directory(self._directory)

    def _remove(self, segment: Segment) -> None:
        self._discard(segment)
        self._sealed.remove(segment)

    def _discard(self, segment: Segment) -> None:
        segment.path.unlink(missing_ok=True)  # while the lock is held
        os.close(segment.file)

    def _release(self) -> None:
        self._seal()
        for segment in self._sealed:
            os.close(segment.file)
        self._sealed = []


def _locked(path: Path, flags: int = 0) -> Segment | None:
    """The segment at `path` with its lock; None when another process has it, or removed the file meanwhile."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(file)
        if found.st_nlink:
            return Segment(path, file, found.st_size)
    except BlockingIOError:
        pass
    os.close(file)
    return None


def _made_at(path: Path) -> float:
    """Seconds since the epoch: the first 48 bits of a UUIDv7 are milliseconds (RFC 9562, 5.7)."""
    return (UUID(path.stem).int >> 80) / 1000


def _fitting(framed: Sequence[bytes], room: int) -> Sequence[bytes]:
    """The first records that need no more than `room` bytes together."""
    return framed[: bisect_right(list(accumulate(map(len, framed))), room)]


def _is_ours(path: Path) -> bool:
    try:
        return UUID(path.stem).hex == path.stem
    except ValueError:
        return False


def _content(segment: Segment) -> bytes:
    """The whole file: of bounded size, by its making."""
    with os.fdopen(os.dup(segment.file), "rb") as file:
        file.seek(0)
        return file.read()


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return 0


def _settle(written: "asyncio.Future[None]", error: Exception | None) -> None:
    if written.done():  # the caller has left
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)
