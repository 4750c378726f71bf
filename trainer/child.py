"""Runs the process that trains, and listens to it."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from trainer.errors import Cancelled, TrainerError
from trainer.points import Point
from trainer.reward.directory import Busy
from trainer.reward.job import BUSY, FAILED, STOPPED, Progress, Stage, Tell

CHECKOUT: Final = Path(__file__).resolve().parents[1]
LONGEST_LINE: Final = 1 << 20
LONGEST_LOG: Final = 1 << 20
"""Bytes of what earlier processes said, beyond which it goes."""


class Crashed(TrainerError):
    """The process that trains died."""


async def train(job: Path, log: Path, tell: Tell, patience: float) -> None:
    """Trains until the job's result is in its directory. Cancelled, it lets the process stop first, for `patience`
    seconds.

    Raises Cancelled when somebody else stopped the process, Crashed when it died, Busy when another one works at the
    job, TrainerError with what it said.
    """
    with log.open("ab") as errors:
        if errors.tell() > LONGEST_LOG:
            errors.truncate(0)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "trainer.reward", str(job)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=LONGEST_LINE,
            start_new_session=True,  # Ctrl-C is for the trainer
            env=os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"},
            cwd=CHECKOUT,
        )
    try:
        said = await _listen(process, tell)
        status = await process.wait()
    finally:
        await _end(process, patience)
    if status == STOPPED:
        raise Cancelled("The process that trains was asked to stop.")
    if status == BUSY:
        raise Busy(said)
    if status == FAILED:
        raise TrainerError(said)
    if status:
        raise Crashed(_death(status, log))


async def _listen(process: asyncio.subprocess.Process, tell: Tell) -> str:
    """Hands on what it tells, until it has nothing more to; gives the error that it told of."""
    assert process.stdout is not None
    said = ""
    async for line in process.stdout:
        with suppress(ValueError, KeyError):  # what a library prints is no word of its own
            found = json.loads(line)
            if "error" in found:
                said = found["error"]
                continue
            point = Point(found["step"], found["values"]) if "step" in found else None
            tell(Progress(Stage(found["stage"]), found["share"], point))
    return said


async def _end(process: asyncio.subprocess.Process, patience: float) -> None:
    """Sees to it that no process is left."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(patience):
            await asyncio.gather(process.wait(), _drain(process))
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _drain(process: asyncio.subprocess.Process) -> None:
    """A full pipe would keep it from ending."""
    assert process.stdout is not None
    while await process.stdout.read(LONGEST_LINE):
        pass


def _death(status: int, log: Path) -> str:
    if status == -signal.SIGKILL:
        how = "was killed, which the system does when memory runs out"
    elif status < 0:
        how = f"was ended by {signal.Signals(-status).name}"
    else:
        how = f"ended with status {status}"
    return f"The process that trains {how}; its last words are in {log}."
