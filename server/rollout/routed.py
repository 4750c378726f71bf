"""Which releases answer one turn: resolved once, at its top, and the same until its end. What decides it lives in
`server.rollout.routes`; without rollouts, as in replays and tests, `FixedRoutes` does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from server.deliberation import Judges, Policy
from server.rollout.registry import Assignment
from server.rollout.types import Kind
from server.stages.scoring import Reward
from server.types import Degradation, Shown, Turn


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A release that answers a share (0 to 1) of requests beside the champion, unseen: `policy` or `reward` by kind."""

    rollout_id: str
    kind: Kind
    share: float
    policy: Policy | None = None
    reward: Reward | None = None


@dataclass(frozen=True, slots=True)
class Routed:
    """Who draws and who judges a turn.

    `champion` draws where `policy`, a challenger, gives nothing at all; None: `policy` is the champion itself. The
    judges' ladder goes from the assigned reward over the champion to the one to fall back to. `assignments`: the
    experiments that the turn is part of. `lost`: where an assigned release could not even be asked. `overrides`: the
    settings, by name, that experiments put in place of those in force. `shown`: what the caller's user interface shows.
    `timed`: the reward is asked about every text, whatever the cache knows (`timing`).
    """

    policy: Policy
    judges: Judges
    champion: Policy | None = None
    assignments: tuple[Assignment, ...] = ()
    shadows: tuple[Shadowed, ...] = ()
    lost: tuple[Degradation, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    shown: tuple[Shown, ...] = ()
    timed: bool = False


class Router(Protocol):
    """What the request path needs of the routes."""

    def of(self, turn: Turn) -> Routed:
        """Who answers the turn. Neither waits nor fails."""

    def failed(self, turn: Turn, assignments: Sequence[Assignment], reason: str) -> None:
        """Notes that the turn got no reply, for the reason that its caller was told. Does not wait."""


class FixedRoutes:
    """`Router` with one release of each kind and no rollout."""

    def __init__(self, policy: Policy, judges: Judges) -> None:
        self._routed = Routed(policy, judges)

    def of(self, turn: Turn) -> Routed:
        """The same for every turn."""
        del turn
        return self._routed

    def failed(self, turn: Turn, assignments: Sequence[Assignment], reason: str) -> None:
        """Nothing: there are no experiments."""
