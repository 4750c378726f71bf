"""A run's own directory: whose it is, who works in it, and what came out of it.

job.json     what a trainer hands to the process that trains (see jobs.py)
run.json     what is trained there, its key
lock         held by the process that works at it
candidate/   the release that it would be, while it is judged (see candidates.py)
seed-N/      checkpoints, metrics.jsonl and the model of one seed (see loop.py)
report.json, report.html
result.json  what came out, and of which run: beside what it was judged; written last
"""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError
from trainer.reward.findings import Outcome, Reason, ReviewItem
from trainer.reward.job import Result
from triton_models.manifest import write_whole

OURS, LOCK, RESULT, REPORT, PAGE = "run.json", "lock", "result.json", "report.json", "report.html"
JOB = "job.json"


class Busy(TrainerError):
    """Another process works in the directory."""


@contextmanager
def held(directory: Path, key: str, patience: float = 0.0) -> Iterator[None]:
    """Keeps every other process from working in `directory`, where `key` is trained; it is made where it is missing.

    Waits `patience` seconds for one that does. Raises Busy when it stays, TrainerError when something else is trained
    there.
    """
    if not belongs(directory, key):
        raise TrainerError(
            f"{directory} is of another run (other data, settings, base model, or version of the code): "
            "choose another directory, or remove it."
        )
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("w") as lock:
        _lock(lock.fileno(), directory, patience)
        write_whole(directory / OURS, json.dumps({"key": key}).encode())
        yield


def clear(directory: Path, patience: float) -> None:
    """Removes it once nobody works in it, for whom it waits `patience` seconds. Raises Busy."""
    with (directory / LOCK).open("a") as lock:
        _lock(lock.fileno(), directory, patience)
        shutil.rmtree(directory)


def belongs(directory: Path, key: str) -> bool:
    """Whether `key` is what is trained in `directory`, or nothing is yet."""
    if not directory.exists():
        return True
    if not directory.is_dir():
        return False
    try:
        found: object = json.loads((directory / OURS).read_bytes())
    except (OSError, ValueError):
        return all(file.name in (LOCK, JOB) for file in directory.iterdir())
    return found == {"key": key}


def _lock(descriptor: int, directory: Path, patience: float) -> None:
    ends = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends:
                raise Busy(f"Another process works at the run in {directory}.") from None
            time.sleep(0.1)
        else:
            return


def keep(directory: Path, result: Result) -> None:
    """Writes the report, and then what came out."""
    if result.report is not None:
        write_whole(directory / REPORT, json.dumps(result.report, ensure_ascii=False, allow_nan=False).encode())
        write_whole(directory / PAGE, (result.html or "").encode())
    short = asdict(replace(result, report=None, html=None))
    write_whole(directory / RESULT, json.dumps(short, ensure_ascii=False, allow_nan=False).encode())


def finished(directory: Path, run: str = "") -> Result | None:
    """What `keep` wrote; None where no run ended yet, or not whole, or another one than `run`."""
    try:
        found: dict[str, Any] = json.loads((directory / RESULT).read_bytes())
        if run and found["run"] != run:
            return None
        report = json.loads((directory / REPORT).read_bytes()) if (directory / REPORT).exists() else None
        page = (directory / PAGE).read_text() if report is not None else None
        review = tuple(_item(each) for each in found.pop("review"))
        values = {field.name: found[field.name] for field in fields(Result) if field.name in found}
        values |= {"verdict": Outcome(found["verdict"]), "reasons": tuple(found["reasons"])}
        return Result(**{**values, "report": report, "html": page, "review": review})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _item(found: dict[str, Any]) -> ReviewItem:
    return ReviewItem(**{**found, "users": tuple(found["users"]), "reason": Reason(found["reason"])})
