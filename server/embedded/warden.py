"""Outlives Ratchet for a moment to clear up after it: the last resort when the parent is killed with -9.

Run as a script with `python -I -S`, so it imports nothing of the project. Arguments: pid of Ratchet, prefix of its
segments in /dev/shm. It reads lines: `+PID` and `-PID` for process groups to mind, `bye` for an orderly end. The kernel
has already asked the parts to stop (see shim.py) when Ratchet dies; what is still there after a grace is killed, with
its children.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 5.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the kernel keeps it


def listen(parent: int) -> set[int] | None:
    """The groups to clear when the parent is gone; None after an orderly end."""
    groups: set[int] = set()
    watched = [0]
    with suppress(OSError, AttributeError):  # kernels before 5.3: the end of the pipe alone must tell
        watched.append(os.pidfd_open(parent))
    pending = b""
    while True:
        ready, _, _ = select.select(watched, [], [])
        data = os.read(0, 4096) if 0 in ready else b""
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if line == b"bye":
                return None
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
        if not data:
            return groups


def alive(group: int) -> bool:
    """Whether the process group has a member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def clear(groups: set[int]) -> None:
    """Waits for the groups to end, at most GRACE_SECONDS, then kills what is left."""
    deadline = time.monotonic() + GRACE_SECONDS
    while any(alive(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def sweep(prefix: str) -> None:
    """Removes the segments that crashed stubs leave."""
    for segment in SHARED_MEMORY.glob(prefix + "*"):
        with suppress(OSError):
            segment.unlink()


if __name__ == "__main__":
    orphans = listen(int(sys.argv[1]))
    if orphans is not None:
        clear(orphans)
        sweep(sys.argv[2])
