"""What the log is told of work that is done for ever and fails: the first time, once a minute, and that it is over.

A Postgres that is slow or away fails a dozen kinds of work every few seconds: told each time, they would hide the rest.
"""

import logging
import math
import time
from collections.abc import Callable

from server.errors import told

EVERY = 60.0
"""Seconds between two lines that one kind of work failed."""


class Trouble:
    """Of one kind of work: `what`, as the subject of a sentence. `now` gives seconds."""

    def __init__(self, log: logging.Logger, what: str, now: Callable[[], float] = time.monotonic) -> None:
        self._log, self._what, self._now = log, what, now
        self._told_at = -math.inf
        self._told = self._told_defect = False
        self._failures = 0

    def failed(self, error: BaseException, *, defect: bool = False) -> None:
        """It failed once more. A defect of ours is told with where it is, and at once after what is none."""
        self._failures += 1
        passed = self._now() - self._told_at
        if passed < EVERY and (self._told_defect or not defect):
            return
        often = f" {self._failures} times in {passed:.0f} s" if self._failures > 1 else ""
        where = error if defect else None
        self._log.log(
            logging.ERROR if defect else logging.WARNING,
            "%s failed%s and is tried again: %s",
            self._what,
            often,
            told(error),
            exc_info=where,
        )
        self._told_at, self._told, self._told_defect, self._failures = self._now(), True, defect, 0

    def works(self) -> None:
        """It did what it should."""
        if self._told:
            self._log.info("%s works again", self._what)
            self._told = self._told_defect = False
        if self._now() - self._told_at >= EVERY:
            self._failures = 0
