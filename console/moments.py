"""Moments as the visitor's clock and language show them."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp
from nicegui import ui

from console import session
from console.words import t

_SECONDS = 3.0
_STEPS = ((86_400, "days"), (3600, "hours"), (60, "minutes"))


async def zone() -> tzinfo:
    """Where the visitor's browser is. UTC when it does not say."""
    try:
        name = await ui.run_javascript("Intl.DateTimeFormat().resolvedOptions().timeZone", timeout=_SECONDS)
        return ZoneInfo(str(name))
    except (TimeoutError, ValueError, OSError, KeyError):
        return UTC


def of(stamp: Timestamp) -> datetime:
    """A message's moment, in UTC."""
    return stamp.ToDatetime(tzinfo=UTC)


def written(moment: datetime, where: tzinfo) -> str:
    """Day and minute: `22 Nov 2026, 14:05` or `22/11/2026 14:05`."""
    pattern = "%d/%m/%Y %H:%M" if session.language() == "vi" else "%-d %b %Y, %H:%M"
    return moment.astimezone(where).strftime(pattern)


def ago(moment: datetime, now: datetime) -> str:
    """How long that has been: the largest unit only."""
    seconds = max(0.0, (now - moment).total_seconds())
    for size, name in _STEPS:
        if seconds >= size:
            return t(f"moments.{name}", n=int(seconds // size))
    return t("moments.now")


def span(seconds: float) -> str:
    """A length of time: `90 s`, `10 min`, `6 h`, `14 d`."""
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return t(f"moments.{name}", n=int(seconds // size))
    return t("moments.s", n=f"{seconds:g}")


def length(seconds: float) -> str:
    """How long something took or takes, in its two largest units: `42 s`, `1 h`, `1 h 24 min`, `3 d 2 h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return t("moments.s", n=whole)
    sizes = ((86_400, "d"), (3600, "h"), (60, "min"))
    first = next(place for place, (size, _) in enumerate(sizes) if whole >= size)
    words = []
    for size, name in sizes[first : first + 2]:
        if whole >= size:
            words.append(t(f"moments.{name}", n=whole // size))
        whole %= size
    return " ".join(words)
