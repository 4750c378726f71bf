"""Rollouts under everything at once: people, two leaders, crashes, repeats, clocks that jump, any evidence."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.rollout.assignment import assign
from server.rollout.commands import Command, draft, obey, start, undo
from server.rollout.decision import decide
from server.rollout.effects import loaded, routing
from server.rollout.errors import RolloutChanged, RolloutNotPossible
from server.rollout.machine import position
from server.rollout.plan import Plan, Stage, Strategy
from server.rollout.types import (
    CONTROLLER,
    Decision,
    Event,
    Finding,
    Guardrail,
    Kind,
    Move,
    Outcome,
    Readiness,
    Rollout,
    Safety,
    State,
    Trigger,
    Verdict,
    Wait,
)
from tests.rollouts import BEGAN, DAY, HOUR, LAN, good

pytestmark = pytest.mark.timeout(600)
"""To find the shortest way to a failure takes far longer than to find that there is none."""
PLANS = (
    Plan(),
    Plan(shadow=None, stages=(Stage(share=0.3, minimum_seconds=0), Stage(share=1))),
    Plan(strategy=Strategy.AT_ONCE, shadow=None, holdback=0.2),
)
USERS = [f"user-{number}" for number in range(12)]
GIVES = {Trigger.ADVANCE, Trigger.PROMOTE, Trigger.RESUME, Trigger.RECOVER}
ODD: list[dict[str, Any]] = [
    {"safety": Safety(pending=1)},
    {"safety": Safety(confirmed=1)},
    {"safety": Safety(dismissed=2)},
    {"readiness": Readiness(1, 2)},
    {"readiness": Readiness(0, 2, "no room.")},
    {"findings": (Finding(Guardrail.FAILURES, "Errors."),)},
    {"mismatch": "Odd."},
    {"samples": 5},
    {"satisfaction": Verdict.UNDECIDED},
    {"quality": Verdict.INFERIOR},
    {"criteria": ()},
    {"version": 1},
]
looks = st.lists(st.sampled_from(ODD), max_size=2).map(lambda odd: {k: v for each in odd for k, v in each.items()})
mostly_good = st.one_of(st.just({}), st.just({}), looks)
spans = st.sampled_from([0.0, 1.0, 60.0, 301.0, HOUR, 2 * HOUR, DAY, 30 * DAY, -30.0, -2 * HOUR])
kinds = st.sampled_from(Kind)


@dataclass
class Store:
    """What Postgres will hold: rollouts, written only over the version that was read, and their events."""

    champions: dict[Kind, str]
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))

    def write(self, move: Move) -> bool:
        stored = self.rollouts.get(move.rollout.rollout_id)
        if move.rollout.version != (stored.version + 1 if stored else 1):
            return False
        self.rollouts[move.rollout.rollout_id] = move.rollout
        self.events[move.rollout.rollout_id].append(move.event)
        if move.rollout.state is State.VERIFIED:
            self.champions[move.rollout.kind] = move.rollout.challenger
        return True

    def under_way(self, kind: Kind) -> Rollout | None:
        active = [each for each in self.rollouts.values() if each.kind is kind and each.is_active]
        assert len(active) <= 1, "two rollouts of a kind are under way"
        return active[0] if active else None

    def last(self, kind: Kind) -> Rollout | None:
        of = [each for each in self.rollouts.values() if each.kind is kind]
        return of[-1] if of else None


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = Store({kind: f"{kind}-0" for kind in Kind})
        self.now = BEGAN
        self.number = 0
        self.peak = defaultdict[str, float](float)
        self.treated = defaultdict[str, set[str]](set)

    @property
    def is_under_way(self) -> bool:
        return any(self.store.under_way(kind) for kind in Kind)

    @property
    def is_verified(self) -> bool:
        return any(last and last.state is State.VERIFIED for last in map(self.store.last, Kind))

    # What happens

    @rule(seconds=spans)
    def time_passes_or_jumps(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @initialize(plan=st.sampled_from(PLANS), looks=st.integers(0, 4))
    def rollouts_are_under_way(self, plan: Plan, looks: int) -> None:
        for kind in Kind:
            self.somebody_starts_one(kind, plan)
            self.things_go_well(kind, looks)

    @rule(kind=kinds, looks=st.just(1))
    def things_go_well(self, kind: Kind, looks: int) -> None:
        for _ in range(looks):
            if stands := self.store.under_way(kind):
                self.now += timedelta(days=2)
                self._take(stands, decide(stands, good(stands), self.now))

    @precondition(lambda self: self.number < 8)
    @rule(kind=kinds, plan=st.sampled_from(PLANS))
    def somebody_starts_one(self, kind: Kind, plan: Plan) -> None:
        self.number += 1
        made = draft(
            rollout_id=str(self.number),
            kind=kind,
            challenger=f"{kind}-{self.number}",
            champion=self.store.champions[kind],
            plan=plan,
            longest_deadline=120,
            actor=LAN,
            reason="New.",
            now=self.now,
        )
        assert self.store.write(made)
        self._start(made.rollout)

    @precondition(lambda self: self.is_verified)
    @rule(kind=kinds)
    def somebody_undoes_the_last(self, kind: Kind) -> None:
        last = self.store.last(kind)
        if last and last.state is State.VERIFIED:
            self.number += 1
            made = undo(last, rollout_id=str(self.number), actor=LAN, reason="Back.", now=self.now)
            assert self.store.write(made)
            self._start(made.rollout)

    @precondition(lambda self: self.is_under_way)
    @rule(kind=kinds, odd=mostly_good, dies=st.booleans())
    def a_leader_looks(self, kind: Kind, odd: dict[str, Any], dies: bool) -> None:
        """It may die before it writes; who follows it decides the same."""
        stands = self._one_under_way(kind)
        decision = self._decide(stands, odd)
        if dies:
            assert decide(stands, good(stands, **odd), self.now) == decision
        self._take(stands, decision)

    @precondition(lambda self: self.is_under_way)
    @rule(kind=kinds, first=mostly_good, second=mostly_good)
    def two_leaders_look(self, kind: Kind, first: dict[str, Any], second: dict[str, Any]) -> None:
        """Both decide on what they read; only one writes."""
        stands = self._one_under_way(kind)
        early, late = self._decide(stands, first), self._decide(stands, second)
        self._take(stands, early)
        if isinstance(early, Move) and isinstance(late, Move):
            assert not self.store.write(late), "two leaders wrote the same version"

    @precondition(lambda self: self.is_under_way)
    @rule(
        kind=kinds,
        trigger=st.sampled_from([Trigger.PAUSE, Trigger.RESUME, Trigger.PROMOTE, Trigger.ROLL_BACK]),
        behind=st.sampled_from([0, 0, 0, 1, None]),
        odd=mostly_good,
        times=st.integers(1, 2),
    )
    def somebody_commands(
        self, kind: Kind, trigger: Trigger, behind: int | None, odd: dict[str, Any], times: int
    ) -> None:
        """Once, or the same message several times."""
        stands = self._one_under_way(kind)
        command = Command(trigger, LAN, "So.", None if behind is None else stands.version - behind)
        changed = 0
        for _ in range(times):
            stands = self.store.rollouts[stands.rollout_id]
            try:
                decision = obey(stands, command, good(stands, **odd), self.now)
            except (RolloutNotPossible, RolloutChanged):
                continue
            changed += isinstance(decision, Move)
            self._take(stands, decision)
        assert changed <= 1, "a repeated command was obeyed twice"

    # What must hold

    @invariant()
    def champions_serve_and_what_serves_is_loaded(self) -> None:
        for kind, champion in self.store.champions.items():
            stands = self.store.under_way(kind)
            if stands is None:
                continue
            shares = routing(stands).shares
            assert abs(sum(shares.values()) - 1) < 1e-9
            assert stands.champion == champion
            needed = stands.plan.holdback
            assert shares[champion] >= needed if stands.plan.compares else sum(shares.values())
            assert set(shares) <= loaded(stands, self.now)

    @invariant()
    def audits_only_grow_and_tell_the_whole_way(self) -> None:
        for rollout_id, events in self.store.events.items():
            assert [event.version for event in events] == list(range(1, len(events) + 1))
            assert events[-1].after == position(self.store.rollouts[rollout_id])

    def teardown(self) -> None:
        """Nothing is stuck: with good evidence, time and a person who resumes, whatever is under way ends."""
        for kind in Kind:
            for _ in range(15):
                stands = self.store.under_way(kind)
                if stands is None:
                    break
                self.now = max(self.now, stands.since) + timedelta(days=2)
                known = good(stands)
                if stands.state is State.PAUSED and stands.causes:
                    command = Command(Trigger.RESUME, LAN, "Cleared.", stands.version)
                    self._take(stands, obey(stands, command, known, self.now))
                else:
                    self._take(stands, decide(stands, known, self.now))
            assert self.store.under_way(kind) is None

    # How it is looked at

    def _one_under_way(self, kind: Kind) -> Rollout:
        return next(filter(None, map(self.store.under_way, (kind, *Kind))))

    def _decide(self, stands: Rollout, odd: dict[str, Any]) -> Decision:
        decision = decide(stands, good(stands, **odd), self.now)
        self._check_safety(stands, decision)
        return decision

    def _start(self, drafted: Rollout) -> None:
        others = tuple(self.store.rollouts.values())
        champion = self.store.champions[drafted.kind]
        try:
            decision = start(
                drafted, good(drafted), champion=champion, others=others, actor=LAN, reason="Go.", now=self.now
            )
        except RolloutNotPossible:
            assert self.store.under_way(drafted.kind)
            back = Command(Trigger.ROLL_BACK, LAN, "Not now.")
            self._take(drafted, obey(drafted, back, good(drafted), self.now))
        else:
            self._take(drafted, decision)

    def _take(self, before: Rollout, decision: Decision) -> None:
        if isinstance(decision, Wait):
            return
        after, event = decision.rollout, decision.event
        assert not before.state.is_final, "something left a final state"
        assert self.store.write(decision)
        assert event.before == position(before)
        self._check_shares(before, after, event)
        self._check_end(before, after, event)

    def _check_safety(self, before: Rollout, decision: Decision) -> None:
        """Reported, the challenger has no users and no shadow after one look, whatever else is known."""
        evidence = decision.evidence if isinstance(decision, Wait) else decision.event.evidence
        after = before if isinstance(decision, Wait) else decision.rollout
        assert evidence is not None
        if (evidence.safety.pending or evidence.safety.confirmed) and before.state is not State.VERIFIED:
            assert _share(after) == 0
            assert routing(after).shadow is None

    def _check_shares(self, before: Rollout, after: Rollout, event: Event) -> None:
        had, has = _share(before), _share(after)
        evidence = event.evidence
        assert evidence is not None
        if has > had:
            assert event.trigger in GIVES
            assert evidence.readiness.everywhere
            assert evidence.safety.pending == evidence.safety.confirmed == 0
            assert (evidence.findings, evidence.mismatch) == ((), "") or not after.plan.compares
            assert evidence.version == before.version
            again = event.trigger in {Trigger.RESUME, Trigger.RECOVER}
            assert (has == self.peak[after.rollout_id]) if again else (has > self.peak[after.rollout_id])
            self.peak[after.rollout_id] = has
            self._check_users(after)
        if has < had and not after.plan.compares and event.actor == CONTROLLER:
            gone = evidence.safety.pending or evidence.safety.confirmed or not evidence.readiness.everywhere
            assert gone, "a return lost its users to what it replaces"
        served = {*routing(before).shares, *([s.release] if (s := routing(before).shadow) else [])}
        assert served <= loaded(after, self.now), "a release is unloaded while calls of it may be under way"

    def _check_users(self, after: Rollout) -> None:
        if after.state is not State.CANARY:
            return
        split = routing(after).split
        of = {u: assign(split, tenant_id="t", user_id=u, session_id="", request_id="r") for u in USERS}
        treated = {user for user, each in of.items() if each.arm == after.challenger}
        assert self.treated[after.rollout_id] <= treated, "a treated user lost the treatment while the share grew"
        assert not any(of[user].held_back for user in treated)
        self.treated[after.rollout_id] = treated

    def _check_end(self, before: Rollout, after: Rollout, event: Event) -> None:
        if after.state is State.VERIFIED:
            assert before.state is State.CANARY
            assert before.is_last_stage
            assert after.undoes if not after.plan.compares else _proven(event)
        if before.state is State.ROLLING_BACK and after.state is State.ROLLED_BACK:
            assert (event.at - before.since).total_seconds() >= before.drain_seconds
        if after.state is State.FAILED:
            of = self.store.events[after.rollout_id]
            assert not any(each.after.state in (State.CANARY, State.SHADOW) for each in of)


def _share(rollout: Rollout) -> float:
    return routing(rollout).shares.get(rollout.challenger, 0.0)


def _proven(event: Event) -> bool:
    assert event.evidence is not None
    criteria = event.evidence.criteria
    return len(criteria) == 4 and all(each.outcome is Outcome.MET for each in criteria)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
