"""What the controller decides on evidence: to go on, to wait, to pause, to go back."""

from dataclasses import replace
from typing import Any

import pytest

from server.rollout.comparison import compare
from server.rollout.decision import decide
from server.rollout.effects import routing
from server.rollout.errors import RolloutNotPossible
from server.rollout.guards import CLOCK_TOLERANCE, NONE
from server.rollout.observed import Failures, Observed, Replies
from server.rollout.plan import Plan, Stage, Strategy
from server.rollout.types import (
    CONTROLLER,
    Cause,
    Criterion,
    CriterionName,
    Finding,
    Guardrail,
    Move,
    Outcome,
    Pause,
    Readiness,
    Rollout,
    Safety,
    State,
    Trigger,
    Verdict,
    Wait,
)
from tests.rollouts import BEGAN, DAY, HOUR, MET, NEW, RETURN, at, good, paused, rollout

S, T = State, Trigger
ERRORS = Finding(Guardrail.FAILURES, "2 % of its calls failed; 1 % may.")
LAST = {"stage": 2}
UNREADY = {"readiness": Readiness(1, 2)}
PENDING, CONFIRMED, DISMISSED = (
    {"safety": Safety(pending=1)},
    {"safety": Safety(confirmed=1)},
    {"safety": Safety(dismissed=2)},
)


def moved(before: Rollout, seconds: float, **evidence: Any) -> Move:
    decision = decide(before, good(before, **evidence), at(seconds))
    assert isinstance(decision, Move), decision.reason
    assert decision.event.actor == CONTROLLER
    return decision


def waits(before: Rollout, seconds: float, **evidence: Any) -> str:
    decision = decide(before, good(before, **evidence), at(seconds))
    assert isinstance(decision, Wait), decision.reason
    return decision.reason


def without(name: CriterionName, *instead: Criterion) -> tuple[Criterion, ...]:
    return (*(criterion for criterion in MET if criterion.name is not name), *instead)


def test_a_good_challenger_walks_all_the_way_by_itself() -> None:
    now, stands = 0.0, rollout(S.PUBLISHED, version=2)
    walked = []
    while not stands.state.is_final:
        now += 2 * DAY
        stands = moved(replace(stands, since=at(now - 1.5 * DAY)), now).rollout
        walked.append((stands.state, routing(stands).shares.get(NEW, 0.0), stands.version))
    assert walked == [
        (S.LOADED, 0.0, 3),
        (S.SHADOW, 0.0, 4),
        (S.CANARY, 0.1, 5),
        (S.CANARY, 0.5, 6),
        (S.CANARY, 0.95, 7),
        (S.VERIFIED, 1.0, 8),
    ]


def test_at_once_goes_from_loaded_to_all_but_the_holdback() -> None:
    plan = Plan(strategy=Strategy.AT_ONCE, shadow=None)
    green = moved(rollout(S.LOADED, plan=plan), 1).rollout
    assert routing(green).shares[NEW] == 0.95
    assert moved(green, DAY + 1).rollout.state is S.VERIFIED


def test_the_reason_of_a_step_has_its_figures() -> None:
    assert (
        moved(rollout(S.CANARY), 2 * HOUR).reason
        == "At 10%: superior in satisfaction and non-inferior in quality after 2 h and 1000 samples."
    )
    assert moved(rollout(S.CANARY, **LAST), 2 * DAY).reason.endswith("samples. All success criteria are met.")
    assert moved(rollout(S.SHADOW), 2 * HOUR).reason == "In shadow for 2 h, 1000 samples, no guardrail broken."
    assert moved(rollout(S.PUBLISHED), 5).reason == "It is ready on 2 of 2 replicas."


@pytest.mark.parametrize(
    ("seconds", "lacks", "says"),
    [
        (HOUR - 1, {}, "60 min of at least 60 min have passed."),
        (HOUR, {"samples": 199}, "There are 199 of at least 200 samples: no verdict yet."),
        (HOUR, {"satisfaction": Verdict.UNDECIDED}, "Satisfaction has no verdict yet."),
        (HOUR, {"quality": Verdict.UNDECIDED}, "Quality has no verdict yet."),
        (HOUR, {"version": 6}, "The evidence was gathered before the last change"),
        (HOUR, {"version": 0}, "What users did is not known yet, or not newly enough"),
    ],
)
def test_a_stage_waits_for_time_samples_and_both_verdicts(seconds: float, lacks: dict[str, Any], says: str) -> None:
    """And with the last of them it goes on, so that each case waits for what it names alone."""
    assert says in waits(rollout(S.CANARY), seconds, **lacks)
    assert moved(rollout(S.CANARY), HOUR).rollout.stage == 1


def test_evidence_that_says_nothing_passes_nothing() -> None:
    for state in S:
        before = rollout(state, resumes_to=S.CANARY if state is S.PAUSED else None)
        nothing = type(good(before))(rollout_id="0193", version=7)
        decision = decide(before, nothing, at(1))
        assert isinstance(decision, Wait) or decision.event.trigger is T.SUSPEND, state


@pytest.mark.parametrize("name", CriterionName)
def test_verified_needs_each_success_criterion(name: CriterionName) -> None:
    last = rollout(S.CANARY, **LAST)
    for outcome in (Outcome.UNDECIDED, Outcome.MISSED):
        lacking = without(name, Criterion(name, outcome, "It is +2 % of +5 %."))
        assert waits(last, 2 * DAY, criteria=lacking) == "It is +2 % of +5 %."
        beside = (*MET, Criterion(name, outcome, "Of stages: +2 %."), *MET)
        assert waits(last, 2 * DAY, criteria=beside) == "Of stages: +2 %."
    assert waits(last, 2 * DAY, criteria=without(name)) == f"The criterion {name} was not looked at."
    assert moved(last, 2 * DAY).rollout.state is S.VERIFIED


@pytest.mark.parametrize(
    ("before", "lacks", "says"),
    [
        (rollout(S.CANARY), {"satisfaction": Verdict.UNDECIDED}, "7 days, and still: Satisfaction has no verdict yet."),
        (rollout(S.CANARY), {"samples": 3}, "7 days, and still: There are 3 of"),
        (rollout(S.CANARY, **LAST), {"criteria": ()}, "14 days, and still: The criterion satisfaction was not"),
        (rollout(S.SHADOW), {"samples": 3}, "24 h, and still: There are 3 of"),
    ],
)
def test_at_its_longest_time_it_goes_back(before: Rollout, lacks: dict[str, Any], says: str) -> None:
    longest = before.waiting.longest_seconds
    waits(before, longest - 1, **lacks)
    back = moved(before, longest, **lacks)
    assert back.rollout.state is S.ROLLING_BACK
    assert says in back.reason


def test_what_is_proven_at_its_longest_time_goes_on() -> None:
    """The leader may have been away for days."""
    assert moved(rollout(S.CANARY), 8 * DAY).rollout.stage == 1


@pytest.mark.parametrize("before", [rollout(S.SHADOW), rollout(S.CANARY), rollout(S.CANARY, **LAST), paused()])
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"findings": (ERRORS,)}, "2 % of its calls failed; 1 % may."),
        ({"satisfaction": Verdict.INFERIOR}, "Satisfaction is worse than the champion's."),
        ({"quality": Verdict.INFERIOR}, "Quality is worse than the champion's."),
        (CONFIRMED, "1 safety report on reward-000008 confirmed: roll it back."),
    ],
)
def test_what_is_worse_rolls_back_at_once(before: Rollout, bad: dict[str, Any], says: str) -> None:
    """Whatever the time, the samples, and the age of the evidence; the old release has all users from then on."""
    back = moved(before, 0, samples=0, version=3, **bad)
    assert (back.rollout.state, back.reason) == (S.ROLLING_BACK, says)
    assert NEW not in routing(back.rollout).shares


@pytest.mark.parametrize("before", [rollout(S.SHADOW), rollout(S.CANARY), rollout(S.CANARY, **LAST), paused()])
@pytest.mark.parametrize(
    ("odd", "cause"),
    [
        (PENDING, Cause.SAFETY),
        (UNREADY, Cause.UNREADY),
        ({"mismatch": "10 % were planned, 12 % came."}, Cause.SAMPLE_RATIO),
    ],
)
def test_what_is_doubtful_takes_all_traffic_back_at_once_and_pauses(
    before: Rollout, odd: dict[str, Any], cause: Cause
) -> None:
    pause = moved(before, 5, version=3, **odd).rollout
    assert pause.state is S.PAUSED
    assert cause in pause.causes
    assert routing(pause).shares == {pause.champion: 1.0}
    assert routing(pause).shadow is None


def test_a_person_must_resume_after_a_safety_report_even_when_it_was_dismissed() -> None:
    before = paused(Cause.SAFETY)
    for safety in (PENDING, DISMISSED):
        assert waits(before, 9 * DAY, **safety).startswith("It is paused until a person resumes it")
    assert moved(before, 1, **CONFIRMED).rollout.state is S.ROLLING_BACK


def test_a_pause_has_no_longest_time() -> None:
    waits(paused(), 80 * DAY, satisfaction=Verdict.UNDECIDED)


def test_unready_on_a_replica_it_stops_and_goes_on_when_it_is_back() -> None:
    stopped = moved(rollout(S.CANARY, stage=1), 100, **UNREADY).rollout
    assert "1 of 2 replicas" in waits(stopped, 200, **UNREADY)
    again = moved(stopped, 220).rollout
    assert (again.state, again.stage, again.served, again.lost) == (S.CANARY, 1, 100, 120)
    assert routing(again).shares[NEW] == 0.5


def test_unready_for_too_long_it_goes_back() -> None:
    stopped = paused(Cause.UNREADY)
    refusing = {"readiness": Readiness(1, 2, "no room: 3 GiB are free, it needs 5 GiB.")}
    waits(stopped, 299, **refusing)
    back = moved(stopped, 300, **refusing)
    assert back.reason.startswith("Unready for 5 min: reward-000008 is ready on 1 of 2 replicas: no room")
    assert back.rollout.state is S.ROLLING_BACK


def test_what_is_unready_again_and_again_does_not_outlive_its_longest_time() -> None:
    """Two hours of every three it is away, and each look finds it so; after 7 days it goes back all the same."""
    stands, now, events = rollout(S.CANARY), 0.0, 0
    while stands.state is not S.ROLLING_BACK:
        now += 2 * HOUR if stands.state is S.PAUSED else HOUR
        away = UNREADY if stands.state is S.CANARY else {}
        decision = decide(stands, good(stands, satisfaction=Verdict.UNDECIDED, **away), at(now))
        assert isinstance(decision, Move)
        stands, events = decision.rollout, events + 1
        assert events < 200
    assert 7 * DAY <= now < 7.2 * DAY
    assert "7 days, and still: reward-000008 is ready on 1 of 2" in decision.reason


def test_a_pause_by_a_person_is_not_ended_by_a_replica_that_comes_back() -> None:
    both = moved(paused(Cause.PERSON), 5, **UNREADY).rollout
    assert "until a person resumes" in waits(both, 10)
    assert "until a person resumes" in waits(both, 10 * HOUR, **UNREADY)
    assert routing(both).shares == {both.champion: 1.0}


def test_each_cause_pauses_once() -> None:
    before = paused(Cause.SAFETY)
    assert "until a person resumes" in waits(before, 5, **PENDING)


def test_before_it_answers_nothing_is_suspended() -> None:
    for state in (S.PUBLISHED, S.LOADED):
        assert "waiting for a person" in waits(rollout(state), 5, **PENDING)
        assert "until a person" in waits(paused(resumes_to=state), 5, **UNREADY, **PENDING)


@pytest.mark.parametrize("state", [S.PUBLISHED, S.LOADED])
def test_what_can_not_be_loaded_fails_with_the_reason_and_never_took_traffic(state: State) -> None:
    torn = Readiness(0, 2, "weights.onnx was altered: its SHA-256 is not the manifest's.")
    failed = moved(rollout(state), 5, readiness=torn)
    assert failed.rollout.state is S.FAILED
    assert failed.reason.endswith("weights.onnx was altered: its SHA-256 is not the manifest's.")
    waits(rollout(state), 599, **UNREADY)
    slow = moved(rollout(state), 600, **UNREADY)
    assert (slow.rollout.state, slow.event.trigger) == (S.FAILED, T.FAIL)
    assert slow.reason == "It took longer than 10 min to load: reward-000008 is ready on 1 of 2 replicas."
    assert moved(rollout(state), 5, **CONFIRMED).rollout.state is S.FAILED


def test_with_no_replica_nothing_is_ready() -> None:
    assert "0 of 0 replicas" in waits(rollout(S.PUBLISHED), 5, readiness=Readiness(0, 0))


def test_rolling_back_waits_for_the_longest_call_whatever_else_is_known() -> None:
    before = rollout(S.ROLLING_BACK)
    assert "129 s of 130 s" in waits(before, 129, **PENDING, findings=(ERRORS,))
    assert moved(before, 130, version=1).rollout.state is S.ROLLED_BACK


@pytest.mark.parametrize("state", [S.DRAFT, S.VERIFIED, S.ROLLED_BACK, S.FAILED])
def test_drafts_and_what_has_ended_are_left_alone(state: State) -> None:
    for evidence in ({}, PENDING, CONFIRMED, UNREADY, {"findings": (ERRORS,)}):
        waits(rollout(state), 9 * DAY, **evidence)


def test_a_return_needs_no_proof_but_time_in_which_nothing_broke() -> None:
    back = rollout(S.CANARY, plan=RETURN, undoes="0192")
    nothing = {"samples": 0, "satisfaction": Verdict.UNDECIDED, "quality": Verdict.UNDECIDED, "criteria": ()}
    assert routing(back).shares == {NEW: 1.0}
    waits(back, 599, **nothing)
    verified = moved(back, 600, **nothing)
    assert (verified.rollout.state, verified.reason) == (S.VERIFIED, "No guardrail broke in 10 min.")
    assert moved(back, 600, **nothing | PENDING).rollout.state is S.PAUSED


def test_a_return_is_never_undone_by_its_own_failures_but_waits_for_a_person_with_its_users() -> None:
    """Two failed calls of the first two users are more than nothing, and no reason to bring the worse release back."""
    observed = Observed(Replies.of((), ("end to end",)), failures=[Failures(unit, 0, True, 1) for unit in range(2)])
    back = rollout(S.CANARY, plan=RETURN, undoes="0192")
    found = compare(back, observed, 1.0)
    assert found.findings
    for seconds in (1, 600, 30 * DAY):
        reason = waits(back, seconds, findings=found.findings)
    assert "Users with half of their calls failed: 100 %" in reason
    assert reason.endswith("a person can promote it or roll it back.")
    assert routing(back).shares == {NEW: 1.0}
    unread = {"unread": "What users did can't be read for 6 min: Postgres is away.", "version": NONE}
    waits(back, 30 * DAY, **unread)


def test_a_failing_return_recovers_from_what_else_paused_it() -> None:
    stands = paused(Cause.UNREADY, plan=RETURN, undoes="0192")
    assert moved(stands, 10, findings=(ERRORS,)).rollout.state is S.CANARY


def test_a_clock_that_went_back_begins_the_waiting_anew_instead_of_stopping_it_for_as_long() -> None:
    before = rollout(S.ROLLING_BACK)
    waits(before, -CLOCK_TOLERANCE)
    anew = moved(before, -DAY)
    assert (anew.event.trigger, anew.rollout.state, anew.rollout.since) == (T.SET_CLOCK, S.ROLLING_BACK, at(-DAY))
    assert moved(anew.rollout, 131 - DAY).rollout.state is S.ROLLED_BACK


def test_a_clock_that_went_back_moves_the_beginning_of_pauses_too() -> None:
    later = Pause(Cause.UNREADY, BEGAN, "Away.")
    anew = moved(rollout(S.PAUSED, resumes_to=S.CANARY, pauses=(later,), served=60.0), -DAY, **UNREADY).rollout
    assert (anew.pauses[0].since, anew.served) == (at(-DAY), 60)


def test_a_clock_that_jumps_ahead_promotes_nothing_without_samples_and_a_verdict() -> None:
    assert moved(rollout(S.CANARY), 1000 * DAY, samples=0).rollout.state is S.ROLLING_BACK
    assert moved(rollout(S.CANARY), 1000 * DAY, satisfaction=Verdict.UNDECIDED).rollout.state is S.ROLLING_BACK


def test_the_same_look_decides_the_same() -> None:
    """So a leader that died before it wrote is followed by one that writes the same."""
    before = rollout(S.CANARY)
    assert decide(before, good(before), at(DAY)) == decide(before, good(before), at(DAY))


def test_a_stage_with_its_own_numbers_waits_by_them() -> None:
    plan = Plan(stages=(Stage(share=0.2, minimum_samples=10, minimum_seconds=0, longest_seconds=60), Stage(share=1)))
    assert moved(rollout(S.CANARY, plan=plan), 0, samples=10).rollout.stage == 1
    assert moved(rollout(S.CANARY, plan=plan), 60, samples=9).rollout.state is S.ROLLING_BACK


def test_shadow_is_skipped_only_where_the_plan_has_none() -> None:
    assert moved(rollout(S.LOADED), 1).rollout.state is S.SHADOW
    assert moved(rollout(S.LOADED, plan=Plan(shadow=None)), 1).rollout.state is S.CANARY


def test_errors_of_the_machine_are_never_raised_by_evidence() -> None:
    """Every state under every mixture of what can go wrong decides something."""
    mixtures: list[dict[str, Any]] = [
        PENDING,
        CONFIRMED,
        UNREADY,
        {"mismatch": "Odd."},
        {"findings": (ERRORS,)},
        {"version": 1},
        {},
    ]
    backs = (S.PUBLISHED, S.LOADED, S.SHADOW, S.CANARY)
    stands = [rollout(state) for state in S if state is not S.PAUSED]
    stands += [paused(cause, back) for cause in (Cause.PERSON, Cause.SAFETY) for back in backs]
    stands += [paused(Cause.UNREADY, back) for back in (S.SHADOW, S.CANARY)]
    for before in stands:
        for left in mixtures:
            for right in mixtures:
                try:
                    assert decide(before, good(before, **{**left, **right}), at(DAY)).reason
                except RolloutNotPossible as error:  # pragma: no cover
                    pytest.fail(f"{before.state}: {error}")
