"""What an earlier Ratchet of the same home left running or lying about. Call only with the home's lock held."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from server.embedded.layout import Layout
from server.embedded.warden import sweep

MARK = "RATCHET_EMBEDDED_HOME"
"""An environment variable that every embedded part carries, with the home as its value."""
GRACE_SECONDS = 5.0


def end(layout: Layout) -> int:
    """Ends the left-over processes and removes their shared memory; how many processes there were. Blocks."""
    found = list(_left_over(layout))
    remaining = _end(found, signal.SIGINT, GRACE_SECONDS, layout)
    if not _end(remaining, signal.SIGKILL, GRACE_SECONDS, layout):
        # Nobody runs on the data, whatever these files say: their pid may be a zombie that nobody reaps (process 1 of
        # many containers does not), or another process by now, and Postgres would refuse to start.
        (layout.postgres_data / "postmaster.pid").unlink(missing_ok=True)
        for leftover in layout.postgres_socket.glob(".s.PGSQL.*"):
            leftover.unlink()
    sweep(layout.shm_prefix)
    return len(found)


def _end(pids: list[int], signum: signal.Signals, seconds: float, layout: Layout) -> list[int]:
    """Signals the processes and waits; those that are still there after `seconds`."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
    deadline = time.monotonic() + seconds
    while pids and time.monotonic() < deadline:
        time.sleep(0.02)
        pids = [pid for pid in pids if _belongs(Path(f"/proc/{pid}"), layout)]
    return pids


def _left_over(layout: Layout) -> Iterator[int]:
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid() and _belongs(process, layout):
            yield int(process.name)


def _belongs(process: Path, layout: Layout) -> bool:
    try:
        # Postgres writes its title over its environment; its working directory tells instead.
        if (process / "comm").read_text().strip() == "postgres":
            return (process / "cwd").readlink() == layout.postgres_data
        return f"{MARK}={layout.home}".encode() in (process / "environ").read_bytes().split(b"\0")
    except OSError:  # ended meanwhile, or not ours to read
        return False
