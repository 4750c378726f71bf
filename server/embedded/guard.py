"""Ratchet's end of the warden: tells it which process groups to clear should Ratchet be killed."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from server.embedded.layout import Layout
from server.embedded.process import plain_environment

WARDEN = Path(__file__).with_name("warden.py")


class Guard:
    """Between `start` and `stop` the warden watches; without it (killed, or not yet started) the rest still works."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts the warden."""
        self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-I", "-S", str(WARDEN), str(os.getpid()), self._layout.shm_prefix],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd="/",
            env=plain_environment(self._layout),
            start_new_session=True,
        )

    def mind(self, group: int) -> None:
        """From now on the process group is cleared should Ratchet be killed."""
        self._say(f"+{group}")

    def forget(self, group: int) -> None:
        """The process group is gone: its number may come to belong to others."""
        self._say(f"-{group}")

    async def stop(self) -> None:
        """Ends the warden without it touching anything."""
        if self._process is None or self._process.stdin is None:
            return
        self._say("bye")
        self._process.stdin.close()
        with suppress(ConnectionError):
            await self._process.stdin.wait_closed()
        await self._process.wait()
        self._process = None

    def _say(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n".encode())
