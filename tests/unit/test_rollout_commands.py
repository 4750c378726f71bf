"""What people may do with a rollout, in each state of it."""

from typing import Any

import pytest

from server.errors import Conflict
from server.rollout.commands import Command, draft, obey, start, undo
from server.rollout.effects import routing
from server.rollout.errors import RolloutChanged, RolloutNotPossible
from server.rollout.plan import Plan, Strategy
from server.rollout.types import (
    Actor,
    Cause,
    Evidence,
    Finding,
    Guardrail,
    Kind,
    Move,
    Readiness,
    Rollout,
    Safety,
    State,
    Trigger,
    Verdict,
    Wait,
)
from tests.rollouts import BEGAN, DAY, HOUR, LAN, NEW, OLD, RETURN, at, good, paused, rollout

S, T = State, Trigger
NOTHING: dict[str, Any] = {
    "samples": 0,
    "satisfaction": Verdict.UNDECIDED,
    "quality": Verdict.UNDECIDED,
    "criteria": (),
}


def drafted(**changes: Any) -> Move:
    values: dict[str, Any] = {
        "rollout_id": "0193",
        "kind": Kind.REWARD,
        "challenger": NEW,
        "champion": OLD,
        "plan": Plan(),
        "longest_deadline": 120.0,
        "actor": LAN,
        "reason": "It is better in training.",
        "now": BEGAN,
    }
    return draft(**values | changes)


def started(before: Rollout, *others: Rollout, champion: str = OLD, evidence: Evidence | None = None) -> Move:
    decision = start(
        before, evidence or good(before), champion=champion, others=others, actor=LAN, reason="Now.", now=at(5)
    )
    assert isinstance(decision, Move)
    return decision


def obeyed(before: Rollout, trigger: Trigger, seen: int | None = 7, **evidence: Any) -> Rollout:
    decision = obey(before, Command(trigger, LAN, "I say so.", seen), good(before, **evidence), at(5))
    assert isinstance(decision, Move), decision.reason
    assert (decision.event.actor, decision.event.reason) == (LAN, "I say so.")
    return decision.rollout


def unchanged(before: Rollout, trigger: Trigger) -> str:
    decision = obey(before, Command(trigger, LAN, "Again.", 6), good(before), at(5))
    assert isinstance(decision, Wait)
    return decision.reason


def refused(before: Rollout, trigger: Trigger, seen: int | None = 7, **evidence: Any) -> str:
    with pytest.raises((RolloutNotPossible, RolloutChanged)) as error:
        obey(before, Command(trigger, LAN, "I say so.", seen), good(before, **evidence), at(5))
    return str(error.value)


def test_a_draft_waits_and_changes_nothing_for_users() -> None:
    made = drafted()
    assert (made.rollout.state, made.rollout.version, made.rollout.drain_seconds) == (S.DRAFT, 1, 130)
    assert (made.event.version, made.event.before, made.event.trigger) == (1, None, T.DRAFT)
    assert routing(made.rollout).shares == {OLD: 1.0}


def test_without_a_salt_each_rollout_draws_other_users_and_with_one_the_same() -> None:
    salts = [drafted(rollout_id=name, kind=kind).rollout.plan.salt for name in "ab" for kind in Kind]
    assert salts == ["reward:a", "policy:a", "reward:b", "policy:b"]
    assert drafted(plan=Plan(salt="mine")).rollout.plan.salt == "mine"


def test_a_release_does_not_challenge_itself() -> None:
    with pytest.raises(RolloutNotPossible, match="reward-000007 is the champion already"):
        drafted(challenger=OLD)


def test_a_start_needs_a_published_release_without_open_safety_reports() -> None:
    before = drafted().rollout
    assert started(before).rollout.state is S.PUBLISHED
    with pytest.raises(RolloutNotPossible, match="reward-000008 is not published: publish it first"):
        started(before, evidence=good(before, published=False))
    with pytest.raises(RolloutNotPossible, match="waiting for a person"):
        started(before, evidence=good(before, safety=Safety(pending=1)))


def test_started_it_goes_against_who_is_the_champion_by_then() -> None:
    assert started(drafted().rollout, champion="reward-000009").rollout.champion == "reward-000009"
    with pytest.raises(RolloutNotPossible, match="is the champion already"):
        started(drafted().rollout, champion=NEW)


@pytest.mark.parametrize("state", [state for state in S if state is not S.DRAFT and not state.is_final])
def test_each_kind_has_one_rollout_under_way_and_the_kinds_do_not_wait_for_each_other(state: State) -> None:
    before = drafted().rollout
    same = rollout(state, rollout_id="0190")
    with pytest.raises(RolloutNotPossible, match=r"Rollout 0190 of reward-000008 is under way.*wait for it"):
        started(before, same)
    other = rollout(state, rollout_id="0190", kind=Kind.POLICY)
    assert started(before, other, before).rollout.state is S.PUBLISHED


@pytest.mark.parametrize("state", [S.DRAFT, S.VERIFIED, S.ROLLED_BACK, S.FAILED])
def test_drafts_and_what_has_ended_are_in_nobodys_way(state: State) -> None:
    assert started(drafted().rollout, rollout(state, rollout_id="0190")).rollout.state is S.PUBLISHED


def test_a_start_that_is_repeated_changes_nothing_and_what_ended_does_not_start_again() -> None:
    running = rollout(S.CANARY)
    again = start(running, good(running), champion=OLD, others=(), actor=LAN, reason="", now=at(5))
    assert isinstance(again, Wait)
    for state in (S.VERIFIED, S.ROLLED_BACK, S.FAILED):
        with pytest.raises(RolloutNotPossible, match="can't be started"):
            started(rollout(state), champion="reward-000009")


@pytest.mark.parametrize("state", [S.PUBLISHED, S.LOADED, S.SHADOW, S.CANARY])
def test_a_pause_holds_what_users_get_and_a_resume_goes_on_from_there(state: State) -> None:
    before = rollout(state)
    held = obeyed(before, T.PAUSE, None)
    assert (held.state, held.resumes_to, held.causes) == (S.PAUSED, state, frozenset({Cause.PERSON}))
    assert routing(held) == routing(before)
    resumed = obeyed(held, T.RESUME, held.version)
    assert (resumed.state, resumed.version) == (state, 9)
    assert routing(resumed) == routing(before)


def test_a_person_may_join_the_pause_of_the_controller() -> None:
    held = obeyed(paused(Cause.UNREADY), T.PAUSE, None)
    assert held.causes == {Cause.UNREADY, Cause.PERSON}
    assert unchanged(held, T.PAUSE) == "It is paused already."


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ({"safety": Safety(pending=1)}, "waiting for a person"),
        ({"safety": Safety(confirmed=1)}, "roll it back"),
        ({"readiness": Readiness(1, 2)}, "1 of 2 replicas"),
        ({"mismatch": "10 % were planned, 12 % came."}, "12 % came"),
        ({"findings": (Finding(Guardrail.LATENCY, "It is 25 % slower."),)}, "25 % slower"),
        ({"quality": Verdict.INFERIOR}, "Quality is worse"),
        ({"version": 6}, "before the last change"),
    ],
)
@pytest.mark.parametrize(
    ("before", "trigger"),
    [
        (paused(), T.RESUME),
        (rollout(S.SHADOW), T.PROMOTE),
        (rollout(S.CANARY), T.PROMOTE),
        (rollout(S.CANARY, stage=2), T.PROMOTE),
    ],
)
def test_nobody_gives_users_what_something_speaks_against(
    before: Rollout, trigger: Trigger, lacks: dict[str, Any], says: str
) -> None:
    assert says in refused(before, trigger, **lacks)


def test_promote_skips_the_waiting_for_time_samples_and_verdicts() -> None:
    canary = obeyed(rollout(S.SHADOW), T.PROMOTE, **NOTHING)
    assert (canary.state, canary.stage) == (S.CANARY, 0)
    assert obeyed(rollout(S.CANARY), T.PROMOTE, **NOTHING).stage == 1


def test_promote_does_not_skip_the_success_criteria() -> None:
    last = rollout(S.CANARY, stage=2)
    assert "Satisfaction has no verdict yet." in refused(last, T.PROMOTE, **NOTHING)
    assert "criterion" in refused(last, T.PROMOTE, criteria=())
    assert obeyed(last, T.PROMOTE).state is S.VERIFIED


def test_promote_of_a_return_ends_it() -> None:
    back = rollout(S.CANARY, plan=RETURN, undoes="0192")
    assert obeyed(back, T.PROMOTE, **NOTHING).state is S.VERIFIED


def test_whether_a_return_whose_calls_fail_stays_is_for_a_person() -> None:
    failing = {**NOTHING, "findings": (Finding(Guardrail.FAILURES, "Errors."),)}
    back = rollout(S.CANARY, plan=RETURN, undoes="0192")
    assert obeyed(back, T.PROMOTE, **failing).state is S.VERIFIED
    assert obeyed(paused(plan=RETURN, undoes="0192"), T.RESUME, **failing).state is S.CANARY
    assert obeyed(back, T.ROLL_BACK, **failing).state is S.ROLLING_BACK


@pytest.mark.parametrize("cause", Cause)
def test_promote_never_ends_a_pause(cause: Cause) -> None:
    assert refused(paused(cause), T.PROMOTE) == "It is paused: resume it first."


@pytest.mark.parametrize("state", [S.PUBLISHED, S.LOADED, S.SHADOW, S.CANARY])
@pytest.mark.parametrize("seen", [None, 7])
def test_rolling_back_works_from_everything_under_way_whatever_the_evidence(state: State, seen: int | None) -> None:
    for before in (rollout(state), paused(Cause.SAFETY, state)):
        back = obeyed(before, T.ROLL_BACK, seen, version=2, safety=Safety(pending=1), published=False)
        assert back.state is S.ROLLING_BACK
        assert routing(back).shares == {OLD: 1.0}


def test_a_draft_that_is_rolled_back_is_gone_at_once() -> None:
    assert obeyed(rollout(), T.ROLL_BACK).state is S.ROLLED_BACK


@pytest.mark.parametrize(
    ("before", "trigger", "says"),
    [
        (paused(), T.PAUSE, "It is paused already."),
        (rollout(S.CANARY), T.RESUME, "It is not paused."),
        (rollout(S.ROLLING_BACK), T.ROLL_BACK, "It is rolling back already."),
        (rollout(S.ROLLED_BACK), T.ROLL_BACK, "It was rolled back already."),
        (rollout(S.FAILED), T.ROLL_BACK, "It failed, and never took traffic."),
    ],
)
def test_a_command_that_finds_it_done_changes_nothing_and_says_so(before: Rollout, trigger: Trigger, says: str) -> None:
    assert unchanged(before, trigger) == says


def test_a_promotion_sent_twice_is_one() -> None:
    once = obeyed(rollout(S.CANARY), T.PROMOTE, 7)
    assert refused(once, T.PROMOTE, 7) == "The rollout is at version 8, no longer at 7: look at it again."


def test_what_gives_traffic_names_the_version_that_the_person_saw() -> None:
    assert "name the version" in refused(rollout(S.CANARY), T.PROMOTE, None)
    assert "name the version" in refused(paused(), T.RESUME, None)
    assert "no longer at 6" in refused(rollout(S.CANARY), T.PAUSE, 6)
    assert issubclass(RolloutChanged, Conflict)


@pytest.mark.parametrize("trigger", [T.START, T.ADVANCE, T.SUSPEND, T.DRAIN, T.SET_CLOCK])
def test_other_triggers_are_no_commands(trigger: Trigger) -> None:
    assert "no command" in refused(rollout(S.CANARY), trigger)


def test_a_verified_rollout_is_undone_by_one_that_takes_the_former_champion_back() -> None:
    verified = rollout(S.VERIFIED, stage=2)
    assert "start a rollout that takes reward-000007 back" in refused(verified, T.ROLL_BACK)
    made = undo(verified, rollout_id="0194", actor=LAN, reason="Users complain.", now=at(DAY)).rollout
    assert (made.challenger, made.champion, made.undoes) == (OLD, NEW, "0193")
    assert (made.plan.strategy, made.drain_seconds) == (Strategy.RETURN, 130)
    assert started(made, verified, champion=NEW).rollout.state is S.PUBLISHED


def test_only_what_is_verified_and_still_the_champion_is_undone() -> None:
    with pytest.raises(RolloutNotPossible, match="anything before is rolled back"):
        undo(rollout(S.CANARY), rollout_id="0194", actor=LAN, reason="", now=at(HOUR))
    made = undo(rollout(S.VERIFIED), rollout_id="0194", actor=LAN, reason="", now=at(HOUR)).rollout
    with pytest.raises(RolloutNotPossible, match="reward-000008 is no longer the champion"):
        started(made, champion="reward-000009")


def test_nobody_gets_round_the_criteria_by_planning_a_return() -> None:
    with pytest.raises(RolloutNotPossible, match="Only undoing"):
        drafted(plan=RETURN)
    with pytest.raises(RolloutNotPossible, match="Only undoing"):
        undo(rollout(S.VERIFIED), rollout_id="1", plan=Plan(), actor=Actor("x", is_person=True), reason="", now=BEGAN)


COMMANDS = (T.START, T.PAUSE, T.RESUME, T.PROMOTE, T.ROLL_BACK)
MATRIX = {
    S.DRAFT: "moves refused refused refused moves",
    S.PUBLISHED: "done moves done refused moves",
    S.LOADED: "done moves done refused moves",
    S.SHADOW: "done moves done moves moves",
    S.CANARY: "done moves done moves moves",
    S.PAUSED: "done moves moves refused moves",
    S.ROLLING_BACK: "done refused refused refused done",
    S.VERIFIED: "refused refused refused refused refused",
    S.ROLLED_BACK: "refused refused refused refused done",
    S.FAILED: "refused refused refused refused done",
}
"""What each command does in each state, as docs/rollouts.md has it."""


@pytest.mark.parametrize(
    ("state", "trigger", "expected"),
    [(state, *each) for state, row in MATRIX.items() for each in zip(COMMANDS, row.split(), strict=True)],
)
def test_each_command_has_its_meaning_in_each_state(state: State, trigger: Trigger, expected: str) -> None:
    before = paused(Cause.UNREADY) if state is S.PAUSED else rollout(state)
    champion = NEW if state is S.VERIFIED else OLD
    try:
        if trigger is T.START:
            decision = start(before, good(before), champion=champion, others=(before,), actor=LAN, reason="", now=at(5))
        else:
            decision = obey(before, Command(trigger, LAN, "", 7), good(before), at(5))
    except RolloutNotPossible:
        assert expected == "refused"
    else:
        assert expected == ("moves" if isinstance(decision, Move) else "done")
