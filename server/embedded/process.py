"""Starting one process of an embedded part: through the shim, in a group of its own, its output in a log file."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.embedded.account import Account
from server.embedded.layout import Layout
from server.embedded.orphans import MARK

SHIM = Path(__file__).with_name("shim.py")
LOG_LIMIT_BYTES = 5 << 20
TROUBLE = re.compile(r"\b(FATAL|PANIC|error)\b", re.IGNORECASE)

Stops = tuple[tuple[signal.Signals, float], ...]
"""The signals to end a process, in order, and the seconds that each may take."""


@dataclass(frozen=True, slots=True)
class Command:
    """`argv[0]` is an absolute path; `orphaned` is the signal the kernel sends when Ratchet dies."""

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str]
    account: Account | None = None
    orphaned: signal.Signals = signal.SIGTERM


def plain_environment(layout: Layout) -> dict[str, str]:
    """Little more than a path, and the mark by which a later start finds what was left behind."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **kept, MARK: str(layout.home)}


async def spawn(command: Command, log: Path) -> asyncio.subprocess.Process:
    """A process whose death signal hangs on the calling thread: call from the thread that lives as long as Ratchet."""
    who = command.account
    shim = [str(SHIM), int(command.orphaned), os.getpid(), who.uid if who else -1, who.gid if who else -1]
    output = await asyncio.to_thread(_open_log, log)
    try:
        return await asyncio.create_subprocess_exec(
            *[sys.executable, "-I", "-S", *map(str, shim), *command.argv],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=command.cwd,
            env=dict(command.environment),
            start_new_session=True,
        )
    finally:
        os.close(output)


async def run(command: Command, log: Path) -> int:
    """Runs to the end; the exit status. Cancelled, it takes the process along."""
    process = await spawn(command, log)
    try:
        return await process.wait()
    except asyncio.CancelledError:
        kill_group(process.pid)
        await process.wait()
        raise


def kill_group(group: int) -> None:
    """Kills what is left of a process group, such as Triton's stubs after tritonserver."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def rotate(log: Path) -> None:
    """Keeps one older file once the log has passed LOG_LIMIT_BYTES."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))


def last_line(log: Path, after: int = 0) -> str:
    """The last line about an error, else the last that says something, of what was written beyond byte `after`.

    At most 300 characters.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(after, log.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if TROUBLE.search(line)] or lines
    return telling[-1][:300] if telling else ""


def _open_log(log: Path) -> int:
    return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
