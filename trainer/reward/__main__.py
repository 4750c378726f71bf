"""The process that trains: a trainer's child, so that the trainer's heartbeat never waits for torch.

Takes the job's file as its argument, tells on standard output how far it is, a JSON document a line, and leaves what
came out in the run's directory. It stops, to go on later, at SIGTERM and when its standard input ends: so it does not
outlive a trainer that was killed.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
from pathlib import Path

from trainer.errors import Cancelled, TrainerError
from trainer.reward import directory, jobs
from trainer.reward.job import BUSY, FAILED, STOPPED, Progress

GRACE = 30.0
"""Seconds that it goes on after its trainer was killed: some work asks nobody whether to stop."""
PATIENCE = 45.0
"""Seconds that the child of a trainer that was killed gets to leave the run's directory: more than `GRACE`."""
NICENESS = 10


def main(arguments: list[str]) -> int:
    """The exit status."""
    os.nice(NICENESS)
    stop = _stop()
    work = jobs.read(Path(arguments[0]))
    try:
        with directory.held(work.job.directory, work.job.training_key or work.job.key, PATIENCE):
            if directory.finished(work.job.directory, work.job.key) is None:
                directory.keep(work.job.directory, jobs.carry_out(work, _tell, stop.is_set))
    except Cancelled:
        return STOPPED
    except TrainerError as error:
        _say({"error": str(error)})
        return BUSY if isinstance(error, directory.Busy) else FAILED
    return 0


def _stop() -> threading.Event:
    """Set once it is time to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to hear

    def wait() -> None:
        while os.read(0, 4096):  # sys.stdin has a lock, which Python wants when it ends
            pass
        stop.set()
        faulthandler.dump_traceback_later(GRACE, exit=True)  # by a clock that no library's work can hold up

    threading.Thread(target=wait, daemon=True).start()
    return stop


def _tell(progress: Progress) -> None:
    found: dict[str, object] = {"stage": str(progress.stage), "share": progress.share}
    if progress.point is not None:
        found |= {"step": progress.point.step, "values": dict(progress.point.values)}
    _say(found)


def _say(found: dict[str, object]) -> None:
    try:
        print(json.dumps(found), flush=True)
    except BrokenPipeError:  # nobody listens any more: standard input has ended, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
