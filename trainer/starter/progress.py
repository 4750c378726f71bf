"""Progress bars on a terminal, silence elsewhere; also for loops that run in child processes."""

import queue
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_outbox: list[Any] = []
"""In a child process: the one queue to the parent."""


def post_to(outbox: Any) -> None:
    """Makes `track` in this process report (label, done, total) to `outbox` instead of drawing."""
    _outbox.append(outbox)


def track(items: Sequence[T], label: str) -> Iterator[T]:
    """Yields the items in order and moves a bar along."""
    if not _outbox:
        with _bars() as progress:
            yield from progress.track(items, description=label)
        return
    for done, item in enumerate(items, 1):
        yield item
        if done % 10 == 0 or done == len(items):
            _outbox[-1].put((label, done, len(items)))


def watch(inbox: Any, children: Sequence["Future[Any]"]) -> None:
    """Draws what the children report until all are done."""
    with _bars() as progress:
        tasks: dict[str, Any] = {}
        while not all(child.done() for child in children):
            try:
                label, done, total = inbox.get(timeout=0.5)
            except queue.Empty:
                continue
            if label not in tasks:
                tasks[label] = progress.add_task(label, total=total)
            progress.update(tasks[label], completed=done)


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
