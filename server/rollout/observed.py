"""What was observed of a rollout: replies, ratings, failed calls, reports. Columns and values; nothing here judges.

Nobody's name is in it: `unit` is 63 bits of the digest of a user (or session) that erasures go by, `reply` 62 random
bits of a reply's id (RFC 9562, 5.7). A request without user and session is assigned by itself, and a unit by itself:
one below 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from server.rollout.statistics.boundary import Floats
from server.rollout.statistics.outcomes import Flags, Ints

TOTAL = "end to end"
"""The name of a reply's whole time, beside those of stages."""
_REPLY_BITS, _UNIT_BITS = 62, 63

Row = tuple[int, int, int, bool, float, bool, float | None, Mapping[str, float]]
"""Of a reply: reply, unit, stage, challenger, share, failed, quality, seconds by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Replies:
    """One row a reply. All columns have one length.

    `challenger` is the arm that was assigned, whoever answered; `share` (0 to 1) what challengers got of all traffic
    then; `failed`: the assigned release did not do its work. `quality` (0 to 1) and `seconds` (above 0) are NaN where
    they are not known.
    """

    reply: Ints
    unit: Ints
    stage: Ints
    challenger: Flags
    share: Floats
    failed: Flags
    quality: Floats
    seconds: Mapping[str, Floats]

    @classmethod
    def of(cls, rows: Sequence[Row], names: Sequence[str]) -> Self:
        """Columns of rows; `names` are those of the times."""
        reply, unit, stage, challenger, share, failed, quality, seconds = zip(*rows, strict=True) if rows else ((),) * 8
        return cls(
            reply=np.array(reply, dtype=np.int64),
            unit=np.array(unit, dtype=np.int64),
            stage=np.array(stage, dtype=np.int64),
            challenger=np.array(challenger, dtype=bool),
            share=np.array(share, dtype=np.float64),
            failed=np.array(failed, dtype=bool),
            quality=np.array([np.nan if each is None else each for each in quality], dtype=np.float64),
            seconds={name: _seconds([each.get(name) for each in seconds]) for name in names},
        )

    @classmethod
    def join(cls, parts: Sequence["Replies"]) -> Self:
        """All of them in one; there is one at least, and all have the same names of times."""
        columns = {
            each.name: np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(cls)
            if each.name != "seconds"
        }
        seconds = {name: np.concatenate([part.seconds[name] for part in parts]) for name in parts[0].seconds}
        return cls(**columns, seconds=seconds)

    def where(self, kept: Flags) -> "Replies":
        """Only those rows."""
        columns = {each.name: getattr(self, each.name)[kept] for each in fields(self) if each.name != "seconds"}
        return Replies(**columns, seconds={name: values[kept] for name, values in self.seconds.items()})

    def __len__(self) -> int:
        return len(self.reply)


@dataclass(frozen=True, slots=True)
class Rating:
    """The present satisfaction (0 to 1) that one feedback says; None: it says none, or was withdrawn. `at`: when its
    reply was given, in ms since 1970. It need be of no reply of the trial: who reads it can't tell."""

    feedback_id: UUID
    reply: int
    value: float | None
    at: int = 0


@dataclass(frozen=True, slots=True)
class Failures:
    """So many calls of one unit that gave no reply at all and were somebody's failure; 0: all that is known is that it
    came."""

    unit: int
    stage: int
    challenger: bool
    calls: int


@dataclass(frozen=True, slots=True)
class Report:
    """A safety report on a reply of the challenger. `confirmed`: None while it waits for a person. `unit` and `stage`
    are None while the reply's row waits in a spool, `unit` also of a caller without a name."""

    feedback_id: UUID
    confirmed: bool | None
    unit: int | None = None
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """All that is known of a rollout at one moment. `users`: the part of its users (0 to 1) whose replies and failures
    are in it; of reports all are."""

    replies: Replies
    ratings: Sequence[Rating] = ()
    failures: Sequence[Failures] = ()
    reports: Sequence[Report] = ()
    users: float = 1.0


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the log has been read: all that transactions below `below` wrote, but for those of `open`, which had not
    ended by then.

    Rows that came out of a dump name transactions of another Postgres, which this one may be years away from: those
    below `ahead` were read as well.
    """

    below: int = 0
    open: tuple[int, ...] = ()
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What came since the mark that was asked for, up to the next one, `mark`: each row is told once.

    `ratings` are those whose feedback changed; `failures` are all, each time. `more`: there is more already, to be
    asked for from `mark` on. `again`: some of the replies may have been told before.
    """

    mark: Mark
    replies: Replies
    ratings: Sequence[Rating] = ()
    failures: Sequence[Failures] = ()
    more: bool = False
    again: bool = False


def key_of_reply(response_id: UUID) -> int:
    """The random bits of a UUIDv7."""
    return response_id.int & ((1 << _REPLY_BITS) - 1)


def key_of_unit(digest: bytes) -> int:
    """The first bits of a digest of 8 bytes or more."""
    return int.from_bytes(digest[:8], "big") >> (64 - _UNIT_BITS)


def unit_of_nobody(key: int) -> int:
    """The unit of one request by nobody in particular, of any whole number that is its own."""
    return ~(key & ((1 << _REPLY_BITS) - 1))


def _seconds(values: Sequence[float | None]) -> NDArray[np.float64]:
    found = np.array([np.nan if each is None else each for each in values], dtype=np.float64)
    return np.where(np.isfinite(found) & (found > 0), found, np.nan)
