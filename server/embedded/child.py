"""A supervised child: started, watched, restarted with backoff on the same address, stopped in bounded time."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from server.embedded import process
from server.embedded.errors import ChildFailed, DiskFull
from server.embedded.guard import Guard
from server.embedded.process import Command, Stops

State = Literal["starting", "running", "restarting", "failed", "stopped", "external"]
POLL_SECONDS = 0.02
FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
SETTLED_SECONDS = 60.0
"""A child that lived this long starts its backoff afresh."""
FAILED_AFTER = 5
"""After so many restarts in a row that failed, the state says `failed`; the attempts go on."""


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """What `ratchet doctor` shows of a part. `address`: a socket or host:port; an external part has no pid or log."""

    name: str
    state: State
    address: str
    version: str = ""
    pid: int | None = None
    restarts: int = 0
    log: Path | None = None
    last_error: str = ""


class Service(Protocol):
    """What a child runs."""

    name: str
    version: str
    stops: Stops

    @property
    def address(self) -> str:
        """Socket or host:port; stays the same over restarts."""

    async def prepare(self) -> None:
        """Everything the command needs, at the first start."""

    def command(self) -> Command:
        """How to start it; may be asked again."""

    async def ready(self) -> bool:
        """Whether it answers now. Sets `version`. Never raises for a part that is still coming up."""

    async def tidy(self) -> None:
        """Removes what a dead process left behind."""

    async def relocate(self) -> bool:
        """After a first start that failed: whether a new address was needed and taken, so that trying again helps."""


class Child:
    """`changed` is awaited after each change of state, `restarted` after the child is back."""

    def __init__(
        self,
        service: Service,
        log: Path,
        guard: Guard,
        changed: Callable[[str], Awaitable[None]],
        restarted: Callable[[str], Coroutine[None, None, None]],
    ) -> None:
        self.service, self.log = service, log
        self._guard, self._changed, self._restarted = guard, changed, restarted
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._state: State = "stopped"
        self._restarts = 0
        self._last_error = ""

    def status(self) -> ChildStatus:
        """What is known now, without asking the child."""
        pid = self._process.pid if self._process and self._process.returncode is None else None
        return ChildStatus(
            self.service.name,
            self._state,
            self.service.address,
            self.service.version,
            pid,
            self._restarts,
            self.log,
            self._last_error,
        )

    async def start(self, timeout: float) -> None:
        """Until the child is ready. Raises ChildFailed, or what the service's preparation raises."""
        began = time.monotonic()
        self._state = "starting"
        await asyncio.to_thread(process.rotate, self.log)
        await self.service.prepare()
        try:
            await self._launch(timeout)
        except ChildFailed:
            if not await self.service.relocate():
                raise
            await self._launch(timeout)
        await self._enter("running", f"ready in {time.monotonic() - began:.1f} s")
        self._watcher = asyncio.create_task(self._watch(timeout), name=f"watch {self.service.name}")

    async def stop(self) -> None:
        """Ends the watch and the child: each of the service's signals in turn, then SIGKILL for the whole group."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            self._watcher = None
        if self._process is not None:
            await self._end(self._process)
            await self.service.tidy()
            self._process = None
        self._state = "stopped"

    async def _launch(self, timeout: float) -> None:
        """One attempt: spawn, wait until ready. Leaves nothing running when it fails."""
        offset = await asyncio.to_thread(_size, self.log)
        child = self._process = await process.spawn(self.service.command(), self.log)
        self._guard.mind(child.pid)
        try:
            async with asyncio.timeout(timeout):
                how = await self._until_ready(child)
        except TimeoutError:
            how = f"was not ready after {timeout:.0f} s"
        except asyncio.CancelledError:
            await self._end(child)
            raise
        if how:
            await self._end(child)
            await self.service.tidy()
            words = await asyncio.to_thread(process.last_line, self.log, offset)
            if "No space left on device" in words:
                raise await asyncio.to_thread(DiskFull, self.log.parent)
            raise ChildFailed(self.service.name, how, words, self.log)

    async def _until_ready(self, child: asyncio.subprocess.Process) -> str:
        """Empty once ready, else how the child ended."""
        exited = asyncio.create_task(child.wait())
        try:
            while not await self.service.ready():
                done, _ = await asyncio.wait([exited], timeout=POLL_SECONDS)
                if done:
                    return f"ended with status {exited.result()}"
        finally:
            exited.cancel()
        return ""

    async def _watch(self, timeout: float) -> None:
        hook: asyncio.Task[None] | None = None
        delay = FIRST_DELAY
        try:
            while self._process is not None:
                since = time.monotonic()
                code = await self._process.wait()
                await _cancel(hook)
                await self._bury(code)
                settled = time.monotonic() - since > SETTLED_SECONDS
                delay = await self._revive(timeout, FIRST_DELAY if settled else delay)
                hook = asyncio.create_task(self._restarted(self.service.name))
        finally:
            await _cancel(hook)

    async def _bury(self, code: int) -> None:
        assert self._process is not None
        process.kill_group(self._process.pid)
        self._guard.forget(self._process.pid)
        self._restarts += 1
        self._last_error = f"ended with status {code}"
        await self._enter("restarting", f"ended with status {code}, starting it again")
        await self.service.tidy()

    async def _revive(self, timeout: float, delay: float) -> float:
        """Tries until the child is back, waiting longer each time; gives the delay to begin with next time."""
        attempts = 0
        while True:
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)
            try:
                await self._launch(timeout)
            except (ChildFailed, DiskFull, OSError) as error:
                attempts += 1
                self._last_error = str(error)
                await self._enter("failed" if attempts >= FAILED_AFTER else "restarting", str(error))
                continue
            await self._enter("running", "is back")
            return delay

    async def _end(self, child: asyncio.subprocess.Process) -> None:
        for signum, seconds in self.service.stops:
            if child.returncode is not None:
                break
            with suppress(ProcessLookupError):
                os.kill(child.pid, signum)
            with suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), seconds)
        process.kill_group(child.pid)
        await child.wait()
        self._guard.forget(child.pid)

    async def _enter(self, state: State, what: str) -> None:
        self._state = state
        await self._changed(f"{self.service.name} {self.service.version} {what}".replace("  ", " "))


async def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # reported by the hook's owner


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0
