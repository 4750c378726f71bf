"""What `ratchet rollout` draws, and how plans are written at a terminal."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli import rollout_plan
from cli.output import CommandFailed
from cli.rollout_view import SCALE, View, event_line, interval, line, span
from ratchet.v1 import rollout_pb2 as pb
from server.rollout.plan import Plan, Shadow, Stage, Strategy
from server.rpc.plan_messages import plan_of
from tests.browser import rollout_samples as samples

NOW = 1_772_000_000.0


def drawn(view: View, *, width: int = 100, height: int = 60) -> list[str]:
    """The lines that a terminal of this size shows."""
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return [each.rstrip() for each in capture.get().splitlines()]


def canary(*, fits: bool = False) -> View:
    view = View(fits=fits)
    view.take(samples.canary(NOW), samples.canary_look(NOW), samples.canary_events(NOW))
    return view


def measure(value: float | None, lower: float | None, upper: float | None) -> pb.RolloutMeasure:
    return pb.RolloutMeasure(name="quality", value=value, lower=lower, upper=upper)


# Pictures


@pytest.mark.parametrize(
    ("value", "lower", "upper", "picture"),
    [
        (0.0, -0.05, 0.05, "      ├────●────┤      "),
        (0.1, 0.1, 0.1, "           ┊          ●"),
        (0.06, 0.02, None, "           ┊ ├────●───▶"),
        (-0.3, -0.9, -0.2, "●          ┊           "),
        (0.0, None, None, "◀──────────●──────────▶"),
    ],
)
def test_an_interval_is_drawn_on_its_scale(
    value: float, lower: float | None, upper: float | None, picture: str
) -> None:
    assert interval(measure(value, lower, upper), 0.1).plain == picture


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3).map(sorted), st.floats(0.01, 1))
def test_every_interval_fits_its_scale_and_has_its_value(ends: list[float], reach: float) -> None:
    picture = interval(measure(ends[1], ends[0], ends[2]), reach).plain
    assert (len(picture), picture.count("●")) == (SCALE, 1)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (90, "90 s"), (2700, "45 min"), (9000, "2.5 h"), (259_200, "3 days")]
)
def test_times_are_told_for_people(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_a_rollout_is_drawn_with_its_path_its_evidence_and_its_audit() -> None:
    shown = drawn(canary())
    assert "draft ─ published ─ loaded ─ shadow ─ 10 % ─  50 %  ─ 100 % ─ verified" in shown
    assert any(each.startswith("samples") and each.endswith("143 of at least 200") for each in shown)
    assert any(each.startswith("✓  Quality") for each in shown)
    assert any(each.startswith("–  Latency of the 95 % quantile (end to end)") and "●" in each for each in shown)
    assert shown.index(next(each for each in shown if "Guardrails" in each)) < shown.index("Audit, the newest first")
    told = [
        each for each in shown if any(f"{event.actor}: {event.reason}" in each for event in samples.canary_events(NOW))
    ]
    assert len(told) == len(samples.canary_events(NOW)) > 0


@pytest.mark.parametrize("height", [24, 30, 40])
def test_what_is_drawn_live_fits_the_screen(height: int) -> None:
    shown = drawn(canary(fits=True), width=80, height=height)
    assert len(shown) < height
    assert any("Satisfaction" in each for each in shown)
    assert any(each.startswith("Guardrails  0 missed, 6 met, 1 without") for each in shown) == (height < 40)


def test_a_guardrail_that_is_missed_is_told_also_where_there_is_no_room() -> None:
    view = View(fits=True)
    view.take(samples.paused(NOW), samples.paused_look(NOW), [])
    shown = "\n".join(drawn(view, width=80, height=20))
    assert "2 missed" in shown
    assert "Worse: missed." in shown


def test_a_look_of_before_the_last_change_is_not_told_as_now() -> None:
    rollout, look = samples.canary(NOW), samples.canary_look(NOW)
    look.version = rollout.version - 1
    view = View()
    view.take(rollout, look, [])
    shown = "\n".join(drawn(view, width=120))
    assert "It changed since the last look" in shown
    assert look.reason not in shown
    assert "ready on" not in shown


def test_the_last_stage_names_who_is_held_back() -> None:
    rollout = samples.canary(NOW)
    assert "held back" not in line(rollout).plain
    rollout.stage, rollout.share = len(rollout.plan.stages) - 1, 0.95
    assert "canary 100 %" in line(rollout).plain
    assert ", 95 % of users, 5 % held back" in line(rollout).plain
    rollout.state, rollout.resumes_to = pb.ROLLOUT_STATE_PAUSED, pb.ROLLOUT_STATE_CANARY
    assert "5 % held back" in line(rollout).plain
    rollout.state, rollout.resumes_to = pb.ROLLOUT_STATE_VERIFIED, pb.ROLLOUT_STATE_UNSPECIFIED
    assert "held back" not in line(rollout).plain


def test_a_pause_shows_its_causes_and_where_it_leads_back_to() -> None:
    view = View()
    view.take(samples.paused(NOW), samples.paused_look(NOW), [])
    view.reports = samples.reports(NOW)
    shown = "\n".join(drawn(view, width=120))
    assert "a safety report, since" in shown
    assert "by a person, since" in shown
    assert "1 waiting, 0 confirmed, 1 dismissed" in shown
    assert f"waits     {samples.REPORT}  dangerous" in shown
    assert "paused in canary 10 %" in line(samples.paused(NOW)).plain


def test_what_has_ended_shows_how() -> None:
    for rollout, event in samples.ended(NOW):
        view = View()
        view.take(rollout, None, [event])
        assert drawn(view, width=200)[0].endswith(("verified", "rolled back"))


@pytest.mark.parametrize("state", sorted(pb.RolloutState.values()))
def test_every_state_can_be_drawn_with_nothing_else_known(state: Any) -> None:
    rollout = pb.Rollout(rollout_id="r", challenger="new", champion="old", state=state)
    view = View(fits=True)
    view.take(rollout, pb.RolloutLook(), [pb.RolloutEvent(to_state=state, to_stage=7)])
    assert drawn(view)
    assert line(rollout).plain


def test_nothing_from_elsewhere_acts_on_the_terminal() -> None:
    evil = "\x1b[2Jgone\u202e"
    rollout = samples.canary(NOW)
    rollout.challenger = rollout.creator = evil
    rollout.pauses.add(reason=evil)
    look = samples.canary_look(NOW)
    look.reason = look.evidence.refusal = look.evidence.mismatch = look.evidence.measures[0].subject = evil
    event = pb.RolloutEvent(reason=evil, actor=evil)
    view = View()
    view.take(rollout, look, [event])
    view.reports = [pb.RolloutSafetyReport(category=evil, comment=evil, tenant_id=evil, decided_by=evil)]
    shown = "".join((*drawn(view), line(rollout).plain, event_line(event, rollout.plan).plain))
    assert "\x1b" not in shown
    assert "\u202e" not in shown


# Plans


def asked(*settings: str, file: Path | None = None, **options: Any) -> Plan:
    """The plan that the server makes of what a person wrote."""
    given: dict[str, Any] = {"stages": None, "at_once": False, "no_shadow": False, "holdback": None, "waiting": {}}
    return plan_of(rollout_plan.message(file, settings=settings, **{**given, **options}))


def test_without_options_the_plan_is_the_servers_own() -> None:
    assert asked() == Plan()


def test_options_make_a_plan() -> None:
    quick = {"minimum_samples": 5, "minimum_seconds": 1.0, "longest_seconds": None}
    assert asked(stages=(0.25, 1.0), no_shadow=True, holdback=0.1) == Plan(
        stages=(Stage(share=0.25), Stage(share=1)), shadow=None, holdback=0.1
    )
    assert asked(waiting=quick).stages == tuple(
        Stage(share=share, minimum_samples=5, minimum_seconds=1) for share in (0.1, 0.5, 1)
    )
    assert asked(at_once=True, waiting=quick) == Plan(
        strategy=Strategy.AT_ONCE, stages=(Stage(share=1, minimum_samples=5, minimum_seconds=1),)
    )


def test_single_settings_come_last_and_go_where_they_belong() -> None:
    found = asked("goals.gain=0.03", "shadow.share=0.5", "shadow.minimum_samples=9", "salt=muối", "holdback=0.2")
    assert (found.goals.gain, found.shadow, found.salt) == (0.03, Shadow(share=0.5, minimum_samples=9), "muối")
    assert found.holdback == 0.2
    assert asked("shadow=false").shadow is None


def test_a_plan_is_read_from_a_file_of_either_kind(tmp_path: Path) -> None:
    toml, other = tmp_path / "plan.toml", tmp_path / "plan.json"
    toml.write_text(
        "holdback = 0.2\nshadow = false\n[[stages]]\nshare = 1.0\nminimum_samples = 7\n[goals]\ngain = 0.1\n"
    )
    stages = [{"share": 1.0, "minimum_samples": 7}]
    other.write_text(json.dumps({"holdback": 0.2, "shadow": None, "stages": stages, "goals": {"gain": 0.1}}))
    assert asked(file=toml) == asked(file=other)
    assert asked(file=toml).stages == (Stage(share=1, minimum_samples=7),)


@pytest.mark.parametrize("setting", ["goals", "=1", "goals.=1", "goals.gane=1", "x=1", "stages.0.share=1"])
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(click.UsageError):
        asked(setting, stages=(1.0,))


@pytest.mark.parametrize("text", ["[1]", "{", "null", "holdback = ", "stages = 3"])
def test_a_file_that_holds_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    for suffix in (".json", ".toml"):
        file = tmp_path / f"plan{suffix}"
        file.write_text(text)
        with pytest.raises((CommandFailed, click.UsageError)):
            asked(file=file)
