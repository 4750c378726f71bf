"""Which way a rollout may go from where it stands, and who may move it."""

import itertools
from dataclasses import replace

import pytest

from server.rollout.errors import RolloutNotPossible
from server.rollout.guards import Look, span
from server.rollout.machine import TRANSITIONS, find, move
from server.rollout.plan import Plan
from server.rollout.types import CONTROLLER, Cause, Position, Rollout, Safety, State, Trigger
from tests.rollouts import BEGAN, DAY, HOUR, LAN, NEW, OLD, at, good, paused, rollout

S, T = State, Trigger
BEFORE, ANSWERING = {S.PUBLISHED, S.LOADED}, {S.SHADOW, S.CANARY}
ALLOWED = {
    (S.DRAFT, T.START): {S.PUBLISHED},
    (S.DRAFT, T.ROLL_BACK): {S.ROLLED_BACK},
    (S.PUBLISHED, T.ADVANCE): {S.LOADED},
    (S.PUBLISHED, T.FAIL): {S.FAILED},
    (S.PUBLISHED, T.PAUSE): {S.PAUSED},
    (S.PUBLISHED, T.ROLL_BACK): {S.ROLLING_BACK},
    (S.LOADED, T.ADVANCE): {S.SHADOW, S.CANARY},
    (S.LOADED, T.FAIL): {S.FAILED},
    (S.LOADED, T.PAUSE): {S.PAUSED},
    (S.LOADED, T.ROLL_BACK): {S.ROLLING_BACK},
    (S.SHADOW, T.ADVANCE): {S.CANARY},
    (S.SHADOW, T.PROMOTE): {S.CANARY},
    (S.SHADOW, T.PAUSE): {S.PAUSED},
    (S.SHADOW, T.SUSPEND): {S.PAUSED},
    (S.SHADOW, T.ROLL_BACK): {S.ROLLING_BACK},
    (S.CANARY, T.ADVANCE): {S.CANARY, S.VERIFIED},
    (S.CANARY, T.PROMOTE): {S.CANARY, S.VERIFIED},
    (S.CANARY, T.PAUSE): {S.PAUSED},
    (S.CANARY, T.SUSPEND): {S.PAUSED},
    (S.CANARY, T.ROLL_BACK): {S.ROLLING_BACK},
    (S.PAUSED, T.PAUSE): {S.PAUSED},
    (S.PAUSED, T.SUSPEND): {S.PAUSED},
    (S.PAUSED, T.RESUME): BEFORE | ANSWERING,
    (S.PAUSED, T.RECOVER): ANSWERING,
    (S.PAUSED, T.ROLL_BACK): {S.ROLLING_BACK},
    (S.ROLLING_BACK, T.DRAIN): {S.ROLLED_BACK},
    **{(s, T.SET_CLOCK): {s} for s in (*BEFORE, *ANSWERING, S.PAUSED, S.ROLLING_BACK)},
}
"""Written out once more: a row that slips into the table, or out of it, shows here."""


def variants(state: State) -> list[Rollout]:
    """Rollouts in a state with every plan and place that rows of the table may tell apart."""
    plans = [Plan(salt="s"), Plan(salt="s", shadow=None)]
    backs = [*BEFORE, *ANSWERING] if state is S.PAUSED else [None]
    return [
        rollout(state, plan=plan, stage=stage, resumes_to=back)
        for plan, stage, back in itertools.product(plans, (0, 2), backs)
    ]


@pytest.mark.parametrize("state", State)
def test_the_table_is_what_it_is_meant_to_be_and_all_else_is_refused_with_a_sentence(state: State) -> None:
    for trigger in Trigger:
        targets = set()
        for each in variants(state):
            try:
                targets.add(find(each, trigger).target)
            except RolloutNotPossible as error:
                assert str(error).endswith("."), error  # noqa: PT017 - most are refused
        assert targets == ALLOWED.get((state, trigger), set()), trigger


@pytest.mark.parametrize("state", State)
def test_no_two_rows_of_the_table_hold_at_once(state: State) -> None:
    for each, trigger in itertools.product(variants(state), Trigger):
        rows = [row for row in TRANSITIONS if (row.source, row.trigger) == (state, trigger) and row.when(each)]
        assert len(rows) <= 1, trigger


def test_nothing_leaves_a_final_state() -> None:
    assert {row.source for row in TRANSITIONS}.isdisjoint({S.VERIFIED, S.ROLLED_BACK, S.FAILED})


def test_every_state_but_the_final_ones_leads_to_an_end() -> None:
    leads = {state: {row.target for row in TRANSITIONS if row.source is state} for state in State}
    reached = {state for state in State if state.is_final}
    for _ in State:
        reached |= {state for state, targets in leads.items() if targets & reached}
    assert reached == set(State)


def test_a_move_makes_the_next_version_and_the_event_that_says_why() -> None:
    before = rollout(S.CANARY)
    known = good(before)
    made = move(Look(before, known, at(2 * HOUR)), T.ADVANCE, CONTROLLER, "It is better.")
    assert (made.rollout.state, made.rollout.stage, made.rollout.version) == (S.CANARY, 1, 8)
    assert (made.rollout.since, made.rollout.served) == (at(2 * HOUR), 0)
    event = made.event
    assert (event.rollout_id, event.version, event.at, event.actor) == ("0193", 8, at(2 * HOUR), CONTROLLER)
    assert (event.trigger, event.reason, event.evidence) == (T.ADVANCE, "It is better.", known)
    assert (event.before, event.after) == (Position(S.CANARY, 0), Position(S.CANARY, 1))
    assert made.reason == "It is better."


def test_a_guard_that_objects_stops_a_move_whoever_makes_it() -> None:
    before = rollout(S.SHADOW)
    reported = good(before, safety=Safety(pending=2))
    with pytest.raises(RolloutNotPossible, match="2 safety reports on reward-000008 waiting for a person"):
        move(Look(before, reported, BEGAN), T.PROMOTE, LAN, "I like it.")


@pytest.mark.parametrize("trigger", [T.ADVANCE, T.SUSPEND, T.RECOVER, T.FAIL, T.DRAIN, T.SET_CLOCK, T.DRAFT])
def test_a_person_has_no_triggers_of_the_controller(trigger: Trigger) -> None:
    before = rollout(S.CANARY)
    with pytest.raises(RolloutNotPossible, match="lan can't"):
        move(Look(before, good(before), at(DAY)), trigger, LAN, "")


@pytest.mark.parametrize("trigger", [T.START, T.PROMOTE, T.PAUSE, T.RESUME, T.DRAFT])
def test_the_controller_has_no_triggers_of_people(trigger: Trigger) -> None:
    before = rollout(S.CANARY)
    with pytest.raises(RolloutNotPossible, match="controller can't"):
        move(Look(before, good(before), at(DAY)), trigger, CONTROLLER, "")


def test_evidence_of_another_rollout_is_a_defect() -> None:
    with pytest.raises(ValueError, match="another rollout"):
        Look(rollout(), good(rollout(rollout_id="other")), BEGAN)


def test_time_in_a_pause_does_not_count_and_time_before_it_does() -> None:
    """An hour in the stage, a day's pause, half an hour more: an hour and a half."""
    before = rollout(S.CANARY)
    pause = move(Look(before, good(before), at(HOUR)), T.PAUSE, LAN, "Lunch.", Cause.PERSON).rollout
    assert pause.elapsed(at(DAY)) == HOUR
    resumed = move(Look(pause, good(pause), at(DAY)), T.RESUME, LAN, "Back.").rollout
    assert (resumed.state, resumed.stage, resumed.pauses, resumed.resumes_to) == (S.CANARY, 0, (), None)
    assert resumed.elapsed(at(DAY + HOUR / 2)) == 1.5 * HOUR
    assert resumed.lost == 0


def test_a_clock_before_the_state_began_counts_for_nothing() -> None:
    assert rollout(S.CANARY).elapsed(at(-DAY)) == 0
    assert rollout(S.CANARY, served=60.0).elapsed(at(-DAY)) == 60


def test_a_pause_for_another_reason_joins_the_first() -> None:
    first = paused(Cause.PERSON, served=5.0)
    both = move(Look(first, good(first), at(60)), T.SUSPEND, CONTROLLER, "Reported.", Cause.SAFETY).rollout
    assert [(pause.cause, pause.since) for pause in both.pauses] == [(Cause.PERSON, BEGAN), (Cause.SAFETY, at(60))]
    assert (both.resumes_to, both.served, both.since) == (S.CANARY, 5.0, BEGAN)


@pytest.mark.parametrize(
    ("before", "trigger", "says"),
    [
        (rollout(S.VERIFIED), T.ROLL_BACK, f"{NEW} is the champion now: start a rollout that takes {OLD} back."),
        (rollout(S.PUBLISHED), T.PROMOTE, "It is being loaded, which can't be skipped."),
        (paused(), T.PROMOTE, "It is paused: resume it first."),
        (rollout(S.DRAFT), T.PAUSE, "It has not been started."),
        (rollout(S.ROLLING_BACK), T.PAUSE, "the champion has all traffic already."),
        (rollout(S.ROLLED_BACK), T.RESUME, "A rollout that is rolled back can't be resumed."),
        (rollout(S.FAILED), T.START, "A rollout that has failed can't be started."),
    ],
)
def test_what_can_not_be_done_is_refused_with_what_would_help(before: Rollout, trigger: Trigger, says: str) -> None:
    with pytest.raises(RolloutNotPossible) as refused:
        move(Look(before, good(before), at(DAY)), trigger, LAN, "")
    assert str(refused.value).endswith(says)


def test_a_safety_pause_is_resumed_only_once_every_report_is_dismissed() -> None:
    before = paused(Cause.SAFETY)
    for safety in (Safety(pending=1, dismissed=3), Safety(confirmed=1)):
        with pytest.raises(RolloutNotPossible, match="safety report"):
            move(Look(before, good(before, safety=safety), at(9)), T.RESUME, LAN, "Go on.")
    cleared = good(before, safety=Safety(dismissed=4))
    assert move(Look(before, cleared, at(9)), T.RESUME, LAN, "Go on.").rollout.state is S.CANARY


def test_nothing_is_given_on_evidence_of_an_earlier_version() -> None:
    before = paused()
    stale = replace(good(before), version=before.version - 1)
    with pytest.raises(RolloutNotPossible, match="before the last change"):
        move(Look(before, stale, at(9)), T.RESUME, LAN, "Go on.")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (90, "90 s"), (119.6, "120 s"), (2700, "45 min"), (9000, "2.5 h"), (604_800, "7 days")],
)
def test_times_are_told_as_people_say_them(seconds: float, text: str) -> None:
    assert span(seconds) == text
