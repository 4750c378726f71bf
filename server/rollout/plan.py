"""What a rollout is to do: its stages, how long each waits, what takes it back, what lets it through. Frozen, checked.

Unknown keys are refused. All times are in seconds, all shares from 0 to 1.
"""

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from server.errors import InvalidRequest, Violation
from server.rollout.assignment import BUCKETS

_HOUR, _DAY = 3600.0, 86_400.0
_LONGEST = 90 * _DAY
_MOST_STAGES = 20


class Strategy(StrEnum):
    """GRADUAL: a canary whose share grows. AT_ONCE: blue-green, all but the holdback in one step.

    RETURN: at once, without a holdback, back to a release that was the champion before; a person asked for it, so it
    need not prove itself better again. Only `server.rollout.commands.undo` makes one.
    """

    GRADUAL = "gradual"
    AT_ONCE = "at_once"
    RETURN = "return"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Waiting(_Part):
    """How long a state lasts: until there are enough samples and it was long enough, and never past the longest time.

    Samples are rated users of the smaller arm; in shadow, requests that the challenger answered as well.
    """

    minimum_samples: int = Field(default=200, ge=1, le=10**9, description="Fewer give no verdict.")
    minimum_seconds: float = Field(default=_HOUR, ge=0, le=_LONGEST, description="Seconds that it lasts at least.")
    longest_seconds: float = Field(default=7 * _DAY, gt=0, le=_LONGEST, description="Seconds after which it goes back.")

    @model_validator(mode="after")
    def _in_order(self) -> "Waiting":
        if self.longest_seconds <= self.minimum_seconds:
            raise ValueError(
                f"longest_seconds ({self.longest_seconds:g}) must be more than minimum_seconds"
                f" ({self.minimum_seconds:g}), or nothing could ever pass"
            )
        return self


class Stage(Waiting):
    """A share of the traffic, and how long it is held."""

    share: float = Field(ge=1 / BUCKETS, le=1, description="What the challenger gets; 1 is all but the holdback.")

    @property
    def buckets(self) -> int:
        """The share in buckets."""
        return round(self.share * BUCKETS)


class Shadow(Waiting):
    """The challenger answers beside the champion, and nobody sees it. `share` of the requests bounds what it costs."""

    share: float = Field(default=0.1, gt=0, le=1, description="Of the requests, how many the shadow answers as well.")
    minimum_seconds: float = Field(default=600.0, ge=0, le=_LONGEST, description="Seconds that it lasts at least.")
    longest_seconds: float = Field(default=_DAY, gt=0, le=_LONGEST, description="Seconds after which it goes back.")


class Goals(_Part):
    """What a challenger must show, as parts of the champion's: 0.05 is 5 %.

    The success criteria ask for `gain` in satisfaction, no safety incident, quality within `margin`, latency within
    `slower`. The guardrails ask for satisfaction and quality within `margin`, latency within `slower`, and for few
    failed calls, fallbacks that the challenger caused included.
    """

    gain: float = Field(default=0.05, ge=0, le=10, description="Rise of satisfaction to be verified.")
    margin: float = Field(default=0.02, ge=0, le=1, description="Fall that still counts as no worse.")
    slower: float = Field(default=0.10, ge=0, le=10, description="Rise of latency, end to end and by stage, at most.")
    quantile: float = Field(default=0.95, ge=0.5, le=0.999, description="Of latency, looked at beside its mean.")
    failures: float = Field(default=0.01, gt=0, le=1, description="Share of its calls that may fail.")
    failure_ratio: float = Field(default=1.5, ge=1, le=100, description="Times the champion's users with a failure.")


def _stages(before: dict[str, Any]) -> tuple[Stage, ...]:
    all_of_it = Stage(share=1, minimum_seconds=_DAY, longest_seconds=14 * _DAY)
    match before.get("strategy"):
        case Strategy.AT_ONCE:
            return (all_of_it,)
        case Strategy.RETURN:
            return (Stage(share=1, minimum_samples=1, minimum_seconds=600, longest_seconds=_DAY),)
        case _:
            return (Stage(share=0.1), Stage(share=0.5), all_of_it)


class Plan(_Part):
    """A rollout's plan. The defaults: shadow on a tenth of the requests, then 10, 50 and 100 % with 5 % held back."""

    strategy: Strategy = Strategy.GRADUAL
    stages: tuple[Stage, ...] = Field(default_factory=_stages)
    shadow: Shadow | None = Field(default=Shadow(), description="None: users are the first to see it.")
    holdback: float = Field(
        default=0.05, ge=0, le=0.5, description="Share of users who keep the champion until the end."
    )
    salt: str = Field(
        default="", max_length=200, description="Decides which users come first; empty: drawn for this rollout."
    )
    goals: Goals = Goals()
    load_seconds: float = Field(
        default=600.0, gt=0, le=_DAY, description="Seconds to be ready on all replicas, or it failed."
    )
    unready_seconds: float = Field(
        default=300.0, gt=0, le=_DAY, description="Seconds unready after which it goes back."
    )

    @property
    def held_back(self) -> int:
        """The holdback in buckets."""
        return round(self.holdback * BUCKETS)

    @property
    def compares(self) -> bool:
        """Whether it must prove itself against the champion."""
        return self.strategy is not Strategy.RETURN

    @field_validator("stages")
    @classmethod
    def _growing(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if not 0 < len(stages) <= _MOST_STAGES:
            raise ValueError(f"there must be 1 to {_MOST_STAGES} stages, not {len(stages)}")
        shares = [stage.buckets for stage in stages]
        if shares[-1] != BUCKETS:
            raise ValueError("the last stage must have a share of 100 %: a rollout ends with all users or goes back")
        if any(after <= before for before, after in pairwise(shares)):
            raise ValueError("each stage must have a larger share than the one before")
        return stages

    @model_validator(mode="after")
    def _fits(self) -> "Plan":
        if self.strategy is not Strategy.GRADUAL and len(self.stages) > 1:
            raise ValueError(f"the strategy {self.strategy} has one stage, with a share of 100 %")
        if self.compares != (self.held_back > 0):
            raise ValueError(
                f"a holdback of at least {100 / BUCKETS:g} % is needed: without users of the champion nothing compares"
                if self.compares
                else "a return has no holdback: all users go back at once"
            )
        if not self.compares and self.shadow:
            raise ValueError("a return has no shadow: the release was the champion before")
        most = BUCKETS - self.held_back
        if too_large := [stage.share for stage in self.stages[:-1] if stage.buckets >= most]:
            raise ValueError(
                f"a stage of {100 * too_large[0]:g} % reaches into the holdback of {100 * self.holdback:g} %"
            )
        return self


def read(values: Mapping[str, Any]) -> Plan:
    """A plan as people write it. Raises InvalidRequest, which names each field that is wrong, such as
    `stages.0.share`."""
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest([_violation(each) for each in error.errors() if each["type"] != _CONSEQUENCE]) from None


_CONSEQUENCE = "default_factory_not_called"
"""What pydantic says of the stages when the strategy, which they depend on, is wrong."""


def _violation(error: Mapping[str, Any]) -> Violation:
    text = str(error["msg"]).removeprefix("Value error, ")
    return Violation(".".join(map(str, error["loc"])), text[:1].lower() + text[1:])
