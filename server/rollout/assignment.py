"""Who gets which arm: a salted hash puts each user into one of 10,000 buckets, and arms own ranges of buckets. Pure.

Each challenger has a lane of its own and fills it from its start, so that a user who is treated stays treated, by the
same challenger, while shares grow. The last buckets are held back: they stay with the champion whatever the shares.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from server.errors import ConfigurationError

BUCKETS = 10_000
"""The finest share is one of them: 0.01 %."""
CHAMPION = "champion"
"""The arm of whoever is in no challenger's buckets."""


class Unit(StrEnum):
    """What is assigned: the user, or where the request names none its session, or else the request by itself."""

    USER = "user"
    SESSION = "session"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Lane:
    """A challenger's buckets: it has the first `buckets` of a range of `ceiling`, which no other arm ever gets."""

    arm: str
    buckets: int
    ceiling: int

    def __post_init__(self) -> None:
        if not 0 <= self.buckets <= self.ceiling:
            raise ConfigurationError(f"Arm {self.arm} has {self.buckets} buckets; its lane holds 0 to {self.ceiling}.")


@dataclass(frozen=True, slots=True)
class Split:
    """How traffic is split. `salt` decides who is in which bucket: another salt is another, independent draw.

    `holdback` counts the last buckets, which no lane may reach into. Raises ConfigurationError where lanes don't fit.
    """

    salt: str
    lanes: tuple[Lane, ...] = ()
    holdback: int = 0

    def __post_init__(self) -> None:
        arms = [CHAMPION, *(lane.arm for lane in self.lanes)]
        if len(set(arms)) < len(arms):
            raise ConfigurationError(f"Each arm has a name of its own, and none is {CHAMPION}: {', '.join(arms[1:])}.")
        taken = self.holdback + sum(lane.ceiling for lane in self.lanes)
        if self.holdback < 0 or taken > BUCKETS:
            raise ConfigurationError(f"Lanes and a holdback of {self.holdback} do not fit into {BUCKETS} buckets.")

    @property
    def treated(self) -> int:
        """The buckets of all challengers."""
        return sum(lane.buckets for lane in self.lanes)

    def arm_of(self, bucket: int) -> tuple[str, int]:
        """The arm of a bucket, and how many buckets that arm has."""
        start = 0
        for lane in self.lanes:
            if start <= bucket < start + lane.buckets:
                return lane.arm, lane.buckets
            start += lane.ceiling
        return CHAMPION, BUCKETS - self.treated


@dataclass(frozen=True, slots=True)
class Assigned:
    """What is logged with a reply.

    `share` (0 to 1) is what challengers got of all traffic at that time; `propensity` (0 to 1, never 0) is the
    probability of this arm, by which inverse-propensity weights divide. `held_back`: in the champion's arm for good.
    """

    arm: str
    share: float
    propensity: float
    bucket: int
    unit: Unit
    held_back: bool

    @property
    def sticky(self) -> bool:
        """Whether the same caller gets the same arm next time; false where the request named neither user nor session,
        so that its reply says nothing of a user's experience."""
        return self.unit is not Unit.REQUEST


def assign(split: Split, *, tenant_id: str, user_id: str, session_id: str, request_id: str) -> Assigned:
    """The arm of a request. `user_id` and `session_id` may be ""."""
    unit, name = _unit(user_id, session_id, request_id)
    bucket = bucket_of(split.salt, tenant_id, unit, name)
    arm, buckets = split.arm_of(bucket)
    return Assigned(
        arm=arm,
        share=split.treated / BUCKETS,
        propensity=buckets / BUCKETS,
        bucket=bucket,
        unit=unit,
        held_back=bucket >= BUCKETS - split.holdback,
    )


def bucket_of(salt: str, tenant_id: str, unit: Unit, name: str) -> int:
    """The bucket (0 to 9,999) of a unit: the first 64 bits of SHA-256 (FIPS 180-4), scaled.

    Each part goes in with its length, so that no two units share their bytes; every process, version and machine
    agrees. Buckets differ in probability by less than 1e-15.
    """
    digest = hashlib.sha256()
    for part in (salt, tenant_id, unit, name):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(4, "big") + content)
    return int.from_bytes(digest.digest()[:8], "big") * BUCKETS >> 64


def _unit(user_id: str, session_id: str, request_id: str) -> tuple[Unit, str]:
    if user_id:
        return Unit.USER, user_id
    return (Unit.SESSION, session_id) if session_id else (Unit.REQUEST, request_id)
