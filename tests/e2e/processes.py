"""The processes of a whole Ratchet, which come and go while a test looks at them."""

from collections.abc import Callable

import psutil


def below(pid: int, fits: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """The descendants of `pid` that `fits` holds of; one that ends meanwhile is none."""
    return [each for each in psutil.Process(pid).children(recursive=True) if _alive_and(fits, each)]


def first_named(pid: int, name: str) -> psutil.Process:
    """The one whose children the others are: Postgres's first process, say."""
    (found,) = below(pid, lambda each: each.name() == name and each.parents()[0].name() != name)
    return found


def has_ended(process: psutil.Process) -> bool:
    """Whether it does nothing any more, reaped or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _alive_and(fits: Callable[[psutil.Process], bool], process: psutil.Process) -> bool:
    try:
        return fits(process)
    except (psutil.NoSuchProcess, IndexError):  # no parents: it has just ended
        return False
