"""A Valkey of a test's own, that can be killed and started again."""

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path
from urllib.parse import quote

from server.embedded.valkey import find_binary


class OwnValkey:
    """Keeps what SAVE wrote, and nothing else."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="valkey-", dir="/tmp"))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """For redis-py."""
        return f"unix://{quote(str(self._home / 'socket'))}"

    async def start(self) -> None:
        """Serves, with what was saved."""
        (self._home / "socket").unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": self._home / "socket",
            "save": "",
            "dir": self._home,
            "loglevel": "warning",
        }
        flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        self._process = await asyncio.create_subprocess_exec(find_binary(), *flags, stdout=asyncio.subprocess.DEVNULL)
        while True:
            try:
                _, writer = await asyncio.open_unix_connection(str(self._home / "socket"))
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                return

    async def kill(self) -> None:
        """Ends at once, as if the machine had failed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._process = None

    async def pause(self, seconds: float) -> None:
        """Answers nobody for a while."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        """Loses what was saved."""
        (self._home / "dump.rdb").unlink(missing_ok=True)

    async def close(self) -> None:
        """Leaves nothing."""
        await self.kill()
        shutil.rmtree(self._home, ignore_errors=True)
