"""What the pages of releases and rollouts make of messages: pure, and nothing that a newer server says breaks it."""

import importlib
import pkgutil
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import intervals, moments, session, words
from console.intervals import Reading
from console.releases import figures
from console.releases.telling import share
from console.rollouts import measures, path, telling
from console.rollouts.deciding import commands
from console.rollouts.starting import numbers
from ratchet.v1 import rollout_pb2 as pb

GOALS = pb.RolloutGoals(gain=0.05, margin=0.02, slower=0.1, failures=0.01, failure_ratio=1.5)
PARTS = st.floats(-3, 3)
ENDS = st.none() | PARTS


@pytest.mark.parametrize("room", [each.name for each in pkgutil.iter_modules(words.__path__)])
def test_both_languages_say_the_same_of_the_same_values(room: str) -> None:
    for key, (english, vietnamese) in importlib.import_module(f"console.words.{room}").WORDS.items():
        places = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, vietnamese)]
        assert places[0] == places[1], key


@given(PARTS, ENDS, ENDS, st.none() | PARTS, st.booleans())
def test_all_that_is_marked_in_a_picture_lies_inside_it_in_the_right_order(
    value: float, lower: float | None, upper: float | None, goal: float | None, zero: bool
) -> None:
    reading = Reading(value, lower, upper, goal, zero=zero)
    scale = intervals.scale(reading)
    marked = sorted(each for each in (value, lower, upper, goal, 0.0 if zero else None) if each is not None)
    places = [scale.place(each) for each in marked]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert scale.low < scale.high


def test_a_picture_marks_the_goal_no_difference_and_the_interval_and_shades_what_is_asked_for() -> None:
    reading = Reading(0.0, -0.1, 0.1, goal=0.1, more=False)
    scale = intervals.scale(reading)
    assert [scale.place(part) for part in (-0.1, 0.0, 0.1)] == [10.94, 50.0, 89.06]
    drawn = intervals.picture(reading, "all of it", "+10 %", "the same")
    assert '<rect class="interval-zone" x="0%" width="89.06%"' in drawn
    assert 'x1="10.94%" x2="89.06%"' in drawn
    assert drawn.count("interval-end") == 2
    assert 'cx="50%"' in drawn
    open_ended = intervals.picture(Reading(0.02, None, 0.03), "n", "", "")
    assert 'class="interval-bar" x1="0%"' in open_ended
    assert open_ended.count("interval-end") == 1
    assert "interval-zone" not in open_ended
    level = intervals.picture(Reading(0.01, 0.0, 0.02, 0.01, zero=False), "n", "1 %", "the same")
    assert "the same" not in level


@pytest.mark.parametrize(
    ("name", "subject", "guardrail", "goal", "more"),
    [
        ("satisfaction", "Satisfaction", False, 0.05, True),
        ("satisfaction", "Satisfaction", True, -0.02, True),
        ("quality", "Quality", False, -0.02, True),
        ("latency", "Mean latency (scoring)", True, 0.1, False),
        ("latency", "Mean time in shadow", True, 0.1, False),
        ("failures", "Failed calls", True, 0.01, False),
        ("failures", "Users with a failure", True, 0.5, False),
        ("shadow", "Rank correlation in shadow", True, 0.1, True),
        ("shadow", "Best candidate in shadow", True, -0.02, True),
    ],
)
def test_each_measure_is_held_against_what_the_plan_asks(
    name: str, subject: str, guardrail: bool, goal: float, more: bool
) -> None:
    asked = measures.asked(pb.RolloutMeasure(name=name, subject=subject, guardrail=guardrail), GOALS)
    assert asked is not None
    assert asked.goal == pytest.approx(goal)
    assert asked.more is more


@pytest.mark.parametrize("name", ["safety", "shares", "something_newer", "", "failures", "shadow"])
def test_what_has_no_limit_that_is_known_is_told_without_a_picture(name: str) -> None:
    measure = pb.RolloutMeasure(name=name, subject="What is new", value=0.5)
    assert measures.reading(measure, GOALS) is None
    assert measures.value(measure)
    assert measures.what(measure) == "What is new"


@pytest.mark.parametrize(
    ("name", "subject", "value", "words"),
    [
        ("satisfaction", "", 0.0612, "+6.1 %"),
        ("latency", "", -0.03, "-3.0 %"),
        ("failures", "Failed calls", 0.0021, "0.21 %"),
        ("failures", "Users with a failure", 1.3, "+130.0 %"),
        ("shares", "Shares of users", 0.498, "49.80 %"),
        ("safety", "Safety reports", 2, "2"),
    ],
)
def test_figures_are_written_as_what_they_are(name: str, subject: str, value: float, words: str) -> None:
    assert measures.value(pb.RolloutMeasure(name=name, subject=subject, value=value)) == words


def test_no_figure_is_never_nought() -> None:
    assert measures.value(pb.RolloutMeasure(name="satisfaction")) == "no figure yet"
    assert measures.interval(pb.RolloutMeasure(name="satisfaction", value=0.1)) == ""
    assert measures.interval(pb.RolloutMeasure(name="satisfaction", value=0.1, lower=0.05)) == "+5.0 % to ?"
    assert measures.value(pb.RolloutMeasure(name="satisfaction", value=0.0)) == "0.0 %"


def test_subjects_are_told_in_the_visitors_words() -> None:
    told = [
        measures.what(pb.RolloutMeasure(subject=subject))
        for subject in ("Mean latency (end to end)", "Latency of the 95 % quantile (scoring)", " (x)")
    ]
    assert told == ["Mean (end to end)", "95 % quantile (scoring)", " (x)"]


def test_several_measures_of_a_name_are_as_the_worst_of_them() -> None:
    met, missed, neither = pb.MEASURE_STATE_MET, pb.MEASURE_STATE_MISSED, pb.MEASURE_STATE_UNDECIDED
    found = [("latency", met), ("latency", neither), ("safety", met), ("quality", neither), ("quality", missed)]
    merged = measures.merged([pb.RolloutMeasure(name=name, state=state) for name, state in found])
    assert [(each.name, each.state) for each in merged] == [("latency", neither), ("safety", met), ("quality", missed)]


def test_guardrails_are_said_to_hold_once_each_of_them_can_be_judged() -> None:
    met, missed, neither = pb.MEASURE_STATE_MET, pb.MEASURE_STATE_MISSED, pb.MEASURE_STATE_UNDECIDED
    told = [
        measures.guardrails([pb.RolloutMeasure(name="quality", state=state, guardrail=True) for state in states])
        for states in ((neither, neither), (met, neither), (met, met), (met, missed, missed))
    ]
    assert [(words_, tone) for words_, tone, _ in told] == [
        ("No guardrail can be judged yet", "plain"),
        ("No guardrail is broken so far; 1 of 2 can be judged", "plain"),
        ("No guardrail is broken", "good"),
        ("Broken: Quality", "bad"),
    ]


def plan(*shares: float, shadow: bool = True) -> pb.RolloutPlan:
    return pb.RolloutPlan(stages=[pb.RolloutStage(share=each) for each in shares], no_shadow=not shadow)


def standings(rollout: pb.Rollout, *events: pb.RolloutEvent) -> str:
    """One letter a step."""
    return "".join(step.standing[0] for step in path.steps(rollout, events))


@pytest.mark.parametrize(
    ("state", "stage", "shadow", "expected"),
    [
        (pb.ROLLOUT_STATE_DRAFT, 0, True, "aaaaa"),
        (pb.ROLLOUT_STATE_PUBLISHED, 0, True, "naaaa"),
        (pb.ROLLOUT_STATE_SHADOW, 0, True, "dnaaa"),
        (pb.ROLLOUT_STATE_CANARY, 0, True, "ddnaa"),
        (pb.ROLLOUT_STATE_CANARY, 1, True, "dddna"),
        (pb.ROLLOUT_STATE_CANARY, 1, False, "ddna"),
        (pb.ROLLOUT_STATE_VERIFIED, 1, True, "ddddd"),
        (pb.ROLLOUT_STATE_VERIFIED, 1, False, "dddd"),
        (99, 0, True, "aaaaa"),
    ],
)
def test_the_path_says_what_is_behind_and_what_is_ahead(state: int, stage: int, shadow: bool, expected: str) -> None:
    rollout = pb.Rollout(stage=stage, plan=plan(0.1, 1.0, shadow=shadow))
    rollout.state = state  # type: ignore[assignment]
    assert standings(rollout) == expected


def test_a_pause_is_shown_where_it_leads_back_to_and_a_way_back_where_it_had_come_to() -> None:
    paused = pb.Rollout(state=pb.ROLLOUT_STATE_PAUSED, resumes_to=pb.ROLLOUT_STATE_CANARY, stage=1, plan=plan(0.1, 1.0))
    assert standings(paused) == "dddpa"
    gone = pb.Rollout(state=pb.ROLLOUT_STATE_ROLLED_BACK, stage=0, plan=plan(0.1, 1.0))
    reached = pb.RolloutEvent(to_state=pb.ROLLOUT_STATE_CANARY, to_stage=1)
    suspended = pb.RolloutEvent(to_state=pb.ROLLOUT_STATE_PAUSED, to_stage=1)
    assert standings(gone, suspended, reached) == "dddba"
    left = pb.RolloutEvent(from_state=pb.ROLLOUT_STATE_CANARY, to_state=pb.ROLLOUT_STATE_ROLLED_BACK)
    assert standings(gone, left) == "ddbaa", "all that is known of it"
    assert standings(gone) == "aaaaa"


def test_a_step_that_a_person_did_not_wait_for_says_who_and_what_there_was() -> None:
    shadow, canary = pb.ROLLOUT_STATE_SHADOW, pb.ROLLOUT_STATE_CANARY
    by_lan = pb.RolloutEvent(trigger="promote", from_state=shadow, to_state=canary, actor="Lan", is_person=True)
    by_lan.evidence.samples = 0
    unseen = pb.RolloutEvent(trigger="promote", from_state=canary, to_state=canary, to_stage=1)
    unseen.actor, unseen.is_person = "Minh", True
    rollout = pb.Rollout(state=canary, stage=1, plan=plan(0.1, 1.0))
    rollout.plan.shadow.waiting.minimum_samples = 200
    told = path.steps(rollout, [unseen, by_lan])
    assert "".join(step.standing[0] for step in told) == "dppna"
    assert [step.note for step in told[1:3]] == ["promoted by Lan with 0 of 200 samples", "promoted by Minh"]
    went_on = pb.RolloutEvent(trigger="advance", from_state=shadow, to_state=canary)
    assert standings(rollout, went_on) == "dddna"
    rollout.state = pb.ROLLOUT_STATE_ROLLED_BACK
    assert standings(rollout, unseen, by_lan) == "dppba"
    rollout.state = pb.ROLLOUT_STATE_VERIFIED
    assert standings(rollout, by_lan) == "dpddd"


def test_how_it_ended_is_told_by_what_decided_it_not_by_what_followed() -> None:
    canary, leaving, gone = pb.ROLLOUT_STATE_CANARY, pb.ROLLOUT_STATE_ROLLING_BACK, pb.ROLLOUT_STATE_ROLLED_BACK
    promoted = pb.RolloutEvent(version=5, from_state=canary, to_state=canary, is_person=True, actor="Lan")
    back = pb.RolloutEvent(version=6, from_state=canary, to_state=leaving, is_person=True, actor="Lan", reason="No.")
    clock = pb.RolloutEvent(version=7, from_state=leaving, to_state=leaving, actor="controller")
    drained = pb.RolloutEvent(version=8, from_state=leaving, to_state=gone, actor="controller")
    assert telling.ending([drained, clock, back, promoted]) == back
    assert telling.ended_by(back) == "Rolled back (Lan)"
    discarded = pb.RolloutEvent(
        version=2, from_state=pb.ROLLOUT_STATE_DRAFT, to_state=gone, is_person=True, actor="Lan"
    )
    assert telling.ending([discarded]) == discarded
    failed = pb.RolloutEvent(version=3, from_state=pb.ROLLOUT_STATE_PUBLISHED, to_state=pb.ROLLOUT_STATE_FAILED)
    assert telling.ended_by(failed) == "Failed (controller)"
    assert telling.ending([promoted]) is None


def test_what_may_be_asked_for_is_what_the_state_allows() -> None:
    expected = {
        pb.ROLLOUT_STATE_DRAFT: ["start", "discard"],
        pb.ROLLOUT_STATE_PUBLISHED: ["pause", "roll_back"],
        pb.ROLLOUT_STATE_LOADED: ["pause", "roll_back"],
        pb.ROLLOUT_STATE_SHADOW: ["promote", "pause", "roll_back"],
        pb.ROLLOUT_STATE_CANARY: ["promote", "pause", "roll_back"],
        pb.ROLLOUT_STATE_PAUSED: ["resume", "roll_back"],
        pb.ROLLOUT_STATE_VERIFIED: ["undo"],
    }
    for state in pb.RolloutState.values():
        offered = [command.name for command in commands(pb.Rollout(state=state))]
        assert offered == expected.get(state, []), pb.RolloutState.Name(state)


def test_a_pause_by_people_alone_leaves_users_what_they_have() -> None:
    person, safety = pb.ROLLOUT_PAUSE_CAUSE_PERSON, pb.ROLLOUT_PAUSE_CAUSE_SAFETY
    for causes, words_ in (([person], "Its users keep it"), ([person, safety], "has all users meanwhile")):
        rollout = pb.Rollout(state=pb.ROLLOUT_STATE_PAUSED, pauses=[pb.RolloutPause(cause=each) for each in causes])
        assert words_ in telling.what_happens(rollout)


def test_a_state_that_is_new_to_us_is_said_to_be_so() -> None:
    rollout = pb.Rollout()
    rollout.state = 77  # type: ignore[assignment]
    assert telling.state(rollout)[0] == "Unknown"
    assert telling.what_happens(rollout) == ""
    assert telling.trigger(pb.RolloutEvent(trigger="turn_over")) == "Turn over"
    assert telling.cause(pb.RolloutPause()) == "Another reason"


@pytest.mark.parametrize(
    ("days", "words_"), [(0.02, "under an hour"), (0.5, "12 h"), (3.4, "3.4 days"), (41.2, "41 days")]
)
def test_days_left_are_as_exact_as_a_guess_may_be(days: float, words_: str) -> None:
    assert telling.days(pb.RolloutEvidence(days_left=days)) == words_
    assert telling.days(pb.RolloutEvidence()) == ""


@pytest.mark.parametrize(
    ("seconds", "words_"), [(-5, "0 s"), (59.9, "59 s"), (3600, "1 h"), (86_400 * 7, "7 d"), (90_061, "1 d 1 h")]
)
def test_lengths_of_time_in_two_units(seconds: float, words_: str) -> None:
    assert moments.length(seconds) == words_


@pytest.mark.parametrize(("part", "words_"), [(0.1, "10 %"), (1.0, "100 %"), (0.125, "12.5 %"), (0.0001, "0.01 %")])
def test_shares_have_no_more_digits_than_they_need(part: float, words_: str) -> None:
    assert share(part) == words_


def test_numbers_are_read_as_people_of_both_languages_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert numbers("10,50, 100", "x") == [10, 50, 100]
    assert numbers("2.5 %", "x") == [2.5]
    assert numbers("  ", "x") == []
    monkeypatch.setattr(session, "language", lambda: "vi")
    assert numbers(" 5; 12,5 %, 100%", "x") == [5, 12.5, 100]


def test_what_is_no_number_is_said_to_be_none() -> None:
    for wrong in ("ten", "5, x", "nan", "inf", "-1"):
        with pytest.raises(ValueError, match="x: this is no number"):
            numbers(wrong, "x")


def test_nested_figures_are_told_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"int8": {"regret": 0.004, "best": True}, "rows": 48.0, "tiny": 1.5e-6, "words": ["a", 0.5]}
    told = dict(figures.flat(found))
    assert told == {
        "int8.regret": "0.0040",
        "int8.best": "True",
        "rows": "48",
        "tiny": "1.5 × 10⁻⁶",
        "words": "a; 0.5000",
    }
    monkeypatch.setattr(session, "language", lambda: "vi")
    vietnamese = dict(figures.flat({"tiny": -1.54e-12, "words": [0.25]}))
    assert vietnamese == {"tiny": "-1,5 × 10⁻¹²", "words": "0,2500"}
