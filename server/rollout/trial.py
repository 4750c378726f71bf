"""What evidence is gathered of: a rollout, whose challenger is a release, or an experiment, whose challenger is a
variant of settings. The same assignment, statistics and guardrails hold for both."""

from collections.abc import Sequence
from typing import Protocol

from server.rollout.plan import Goals, Stage, Waiting
from server.rollout.types import Kind, Variation


class Shares(Protocol):
    """The part of a plan that comparisons need."""

    @property
    def stages(self) -> Sequence[Stage]:
        """Shares of users, one after the other."""

    @property
    def held_back(self) -> int:
        """Buckets that are never the challenger's."""

    @property
    def compares(self) -> bool:
        """Whether there is anybody to compare with."""

    @property
    def goals(self) -> Goals:
        """What the challenger must show."""


class Trial(Protocol):
    """A challenger that has, or had, users."""

    @property
    def experiment(self) -> str:
        """What assignments name it by: a UUIDv7."""

    @property
    def kind(self) -> Kind | Variation:
        """What is tried."""

    @property
    def release(self) -> str | None:
        """The release that is tried; None: none is."""

    @property
    def version(self) -> int:
        """Grows with each change."""

    @property
    def plan(self) -> Shares:
        """How users are split."""

    @property
    def stage(self) -> int:
        """Which one it is in, from 0."""

    @property
    def waiting(self) -> Waiting:
        """How long that lasts."""

    @property
    def is_last_stage(self) -> bool:
        """Whether no stage follows."""
