"""Who answers whom, as it was last heard: made anew at each change, asked once a turn. Pure.

A rollout is only followed here once both of its releases are open in this process, or the challenger can't be opened.
Until then its users are outside of it, those of both arms alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from server.deliberation import Judges, Policy
from server.experiments.types import CONTROL, Experiment
from server.rollout import timing
from server.rollout.assignment import BUCKETS, CHAMPION, Assigned, Split, assign
from server.rollout.effects import Routing, routing
from server.rollout.registry import Assignment
from server.rollout.routed import Routed, Shadowed
from server.rollout.trial import Trial
from server.rollout.types import Kind, Rollout, Variation
from server.stages.scoring import Reward
from server.types import Degradation, DegradationReason, Shown, Turn

_FELL_BACK = {
    Kind.POLICY: DegradationReason.POLICY_FELL_BACK,
    Kind.REWARD: DegradationReason.SCORING_FELL_BACK,
}


@dataclass(frozen=True, slots=True)
class Known:
    """What Postgres said: champions, the rollouts under way (one a kind at most), thresholds (0 to 1) by release, the
    experiments under way."""

    champions: Mapping[Kind, str]
    rollouts: Sequence[Rollout] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    experiments: Sequence[Experiment] = ()

    @property
    def wanted(self) -> dict[str, Kind]:
        """The releases that are to be open."""
        found = {name: kind for kind, name in self.champions.items()}
        return found | {name: each.kind for each in self.rollouts for name in (each.champion, each.challenger)}


@dataclass(slots=True)
class Opened:
    """The releases that this process can ask, and why it can't ask others."""

    policies: dict[str, Policy] = field(default_factory=dict)
    rewards: dict[str, Reward] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.policies or name in self.rewards

    def forget(self, wanted: Mapping[str, Kind]) -> None:
        """Lets go of all but these."""
        for names in (self.policies, self.rewards, self.broken):
            for name in names.keys() - wanted.keys():
                names.pop(name)


@dataclass(frozen=True, slots=True)
class Champions:
    """Who answers when no rollout says otherwise."""

    policy: Policy
    reward: Reward


@dataclass(frozen=True, slots=True)
class _Rollout:
    """A rollout that has users. Neither `policy` nor `judges`: the challenger can't be asked; `broken` says why."""

    rollout: Rollout
    split: Split
    policy: Policy | None = None
    judges: Judges | None = None
    broken: str = ""

    @property
    def trial(self) -> Trial:
        """What is tried."""
        return self.rollout

    def give(self, routed: Routed, turn: Turn) -> Routed:
        """`routed` with this rollout's part."""
        rollout, assigned = self.rollout, _assigned(self.split, turn)
        challenger = assigned.arm != CHAMPION
        assignment = Assignment(
            experiment=rollout.rollout_id,
            kind=rollout.kind,
            stage=rollout.stage,
            challenger=challenger,
            release=rollout.challenger if challenger else rollout.champion,
            share=assigned.share,
            propensity=assigned.propensity,
            sticky=assigned.sticky,
            held_back=assigned.held_back,
            timed=routed.timed or not timing.times_scoring(rollout),
            failed=challenger and bool(self.broken),
        )
        routed = replace(routed, assignments=(*routed.assignments, assignment))
        return self._replaced(routed) if challenger else routed

    def _replaced(self, routed: Routed) -> Routed:
        if self.policy is not None:
            return replace(routed, policy=self.policy, champion=routed.policy)
        if self.judges is not None:
            return replace(routed, judges=self.judges)
        rollout = self.rollout
        detail = f"{rollout.champion} answered instead of {rollout.challenger}, which can't be opened: {self.broken}."
        return replace(routed, lost=(*routed.lost, Degradation(_FELL_BACK[rollout.kind], detail)))


@dataclass(frozen=True, slots=True)
class _Varied:
    """An experiment that has users."""

    experiment: Experiment
    split: Split

    @property
    def trial(self) -> Trial:
        """What is tried."""
        return self.experiment

    def give(self, routed: Routed, turn: Turn) -> Routed:
        """`routed` with this experiment's part."""
        experiment, assigned = self.experiment, _assigned(self.split, turn)
        challenger = assigned.arm != CHAMPION
        assignment = Assignment(
            experiment=experiment.experiment_id,
            kind=experiment.kind,
            stage=experiment.stage,
            challenger=challenger,
            release=experiment.variant if challenger else CONTROL,
            share=assigned.share,
            propensity=assigned.propensity,
            sticky=assigned.sticky,
            held_back=False,
            timed=routed.timed or not timing.times_scoring(experiment),
        )
        routed = replace(routed, assignments=(*routed.assignments, assignment))
        if experiment.kind is Variation.INTERFACE:
            shown = Shown(experiment.name, experiment.variant if challenger else "")
            return replace(routed, shown=(*routed.shown, shown))
        return replace(routed, overrides={**routed.overrides, **experiment.overrides}) if challenger else routed


def _assigned(split: Split, turn: Turn) -> Assigned:
    return assign(
        split,
        tenant_id=turn.tenant_id,
        user_id=turn.user_id,
        session_id=turn.session_id,
        request_id=turn.request_id or str(turn.response_id),
    )


class Table:
    """Who answers whom. `basis`: the judges without the rewards that are routed here, its own being the last to fall
    back to. `before`: the champions so far, who go on until a new one is open."""

    def __init__(self, known: Known, opened: Opened, basis: Judges, before: Champions) -> None:
        self._known, self._opened = known, opened
        self._basis = replace(basis, thresholds=known.thresholds)
        # A return, or a rollout of its kind, names its champion; so does its draining.
        routings = {each.kind: routing(each) for each in known.rollouts}
        named = {**known.champions, **{kind: each.champion for kind, each in routings.items()}}
        policy = opened.policies.get(named.get(Kind.POLICY, ""), before.policy)
        reward = opened.rewards.get(named.get(Kind.REWARD, ""), before.reward)
        self.champions = Champions(policy, reward)
        followed = [each for each in known.rollouts if self.follows(each)]
        shadows = tuple(
            shadowed for each in followed if (shadowed := self._shadowed(each, routings[each.kind])) is not None
        )
        self.alone = Routed(policy, self._judges(reward))
        """For who knows of no rollouts."""
        self._plain = replace(self.alone, shadows=shadows, timed=basis.cache is None)
        self._parts: tuple[_Rollout | _Varied, ...] = (
            *(made for each in followed if (made := self._rollout(each, routings[each.kind])) is not None),
            *(_Varied(each, each.split) for each in known.experiments if each.split.treated),
        )
        timed = (timing.part(each.split.treated / BUCKETS) for each in self._parts if timing.times_scoring(each.trial))
        self._timed = max(timed, default=0.0)
        self.has_parts = bool(self._parts or shadows)
        """Whether `of` gives anything but `alone`."""

    def of(self, turn: Turn) -> Routed:
        """Who answers the turn."""
        routed = self._plain
        if self._timed and timing.is_timed(turn.tenant_id, turn.response_id, self._timed):
            routed = replace(routed, timed=True)
        for part in self._parts:
            routed = part.give(routed, turn)
        return routed

    def follows(self, rollout: Rollout) -> bool:
        """Whether users here may be part of the rollout: they are compared with its champion, and no other one."""
        return rollout.champion == self._serving(rollout.kind)

    def _serving(self, kind: Kind) -> str:
        return (self.champions.policy if kind is Kind.POLICY else self.champions.reward).release.id

    def _judges(self, *rewards: Reward) -> Judges:
        ladder = {reward.release.id: reward for reward in (*rewards, *self._basis.rewards)}
        return replace(self._basis, rewards=tuple(ladder.values()))

    def _rollout(self, rollout: Rollout, routes: Routing) -> _Rollout | None:
        name, split = rollout.challenger, routes.split
        if not split.treated:
            return None
        if rollout.kind is Kind.POLICY and name in self._opened.policies:
            return _Rollout(rollout, split, policy=self._opened.policies[name])
        if rollout.kind is Kind.REWARD and name in self._opened.rewards:
            judges = self._judges(self._opened.rewards[name], self.champions.reward)
            return _Rollout(rollout, split, judges=judges)
        broken = self._opened.broken.get(name)
        return _Rollout(rollout, split, broken=broken) if broken else None

    def _shadowed(self, rollout: Rollout, routes: Routing) -> Shadowed | None:
        if routes.shadow is None or rollout.challenger not in self._opened:
            return None
        name, share = rollout.challenger, routes.shadow.share
        if rollout.kind is Kind.POLICY:
            return Shadowed(rollout.rollout_id, rollout.kind, share, policy=self._opened.policies.get(name))
        return Shadowed(rollout.rollout_id, rollout.kind, share, reward=self._opened.rewards.get(name))
