"""A Postgres that answers nothing: all its processes stopped by SIGSTOP, as a frozen machine or a hung disk would."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """The Postgres whose first process is `pid`, paused; it goes on in any case."""
    _signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, signum: int) -> None:
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        first = psutil.Process(pid)
        for process in [first, *first.children(recursive=True)]:
            os.kill(process.pid, signum)
