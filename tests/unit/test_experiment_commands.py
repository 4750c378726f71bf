"""`ratchet experiment`: what it asks for, what it refuses before it asks, and how it shows an experiment."""

import io
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from rich.console import Console

from cli import experiment as commands
from cli.experiment_view import line, outcome, whole
from cli.main import ratchet
from cli.output import CommandFailed
from ratchet.v1 import experiment_pb2 as pb
from ratchet.v1 import inference_pb2, rollout_pb2

NOTHING: dict[str, Any] = {
    **dict.fromkeys(
        ("method", "temperature", "exploration", "ensemble_weight", "candidates", "minimum_reward", "instructions")
    ),
    **dict.fromkeys(("share", "gain", "margin", "slower", "longest_days")),
    **dict.fromkeys(("variant", "salt", "reason", "request_id"), ""),
    "interface": False,
}
FOUND = pb.GetExperimentResponse(
    experiment=pb.Experiment(
        experiment_id="0193",
        name="warmer",
        kind=pb.EXPERIMENT_KIND_SELECTION,
        variant=pb.ExperimentVariant(name="warm", selection={"temperature": 0.5}),
        state=pb.EXPERIMENT_STATE_RUNNING,
        share=0.2,
        longest_seconds=28 * 86_400,
        version=1,
        creator="lan",
        to_set=["RATCHET_SELECTION_TEMPERATURE=0.5"],
    ),
    look=rollout_pb2.RolloutLook(
        reason="Satisfaction is open.",
        evidence=rollout_pb2.RolloutEvidence(
            days_left=2.5,
            measures=[
                rollout_pb2.RolloutMeasure(
                    name="satisfaction",
                    subject="Satisfaction",
                    value=0.03,
                    lower=-0.01,
                    upper=0.07,
                    state=rollout_pb2.MEASURE_STATE_UNDECIDED,
                )
            ],
        ),
    ),
    events=[pb.ExperimentEvent(version=1, actor="lan", is_person=True, trigger="start", reason="To see.")],
    safety_reports=[rollout_pb2.RolloutSafetyReport(feedback_id="0194", category="dangerous")],
)


def shown(what: Any) -> str:
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_each_kind_is_asked_for_by_its_options(tmp_path: Path) -> None:
    asked = commands._request("a", {**NOTHING, "method": "weighted", "candidates": 8, "share": 0.125, "gain": 0.02})
    assert asked.variant.selection == pb.SelectionVariant(method=inference_pb2.SELECTION_METHOD_WEIGHTED, candidates=8)
    assert (asked.share, asked.goals.gain, asked.HasField("longest_seconds")) == (0.125, 0.02, False)
    assert asked.request_id, "one of its own"
    asked = commands._request("a", {**NOTHING, "interface": True, "variant": "big", "longest_days": 2.0})
    assert (asked.variant.WhichOneof("what"), asked.variant.name) == ("interface", "big")
    assert asked.longest_seconds == 172_800
    (tmp_path / "text").write_text("Ngắn gọn.\n", encoding="utf-8")
    asked = commands._request("a", {**NOTHING, "instructions": f"@{tmp_path / 'text'}"})
    assert asked.variant.prompt.instructions == "Ngắn gọn."


@pytest.mark.parametrize(
    "options", [[], ["--interface", "--candidates=3"], ["--instructions=a", "--method=best"], ["--method=rules"]]
)
def test_what_is_not_of_one_kind_is_refused_before_anything_is_asked(options: list[str]) -> None:
    done = CliRunner().invoke(ratchet, ["experiment", "start", "a", *options, "--address", "127.0.0.1:1"])
    assert done.exit_code == 2


def test_two_kinds_at_once_are_told_from_none() -> None:
    for options, told in (([], "say what to try"), (["--interface", "--candidates=3"], "say one of them only")):
        done = CliRunner().invoke(ratchet, ["experiment", "start", "a", *options, "--address", "127.0.0.1:1"])
        assert told in done.output


class Listing:
    """Experiments as a server lists them, the newest first, two a page."""

    def __init__(self, *found: pb.Experiment) -> None:
        self._found = found

    def ListExperiments(self, request: pb.ListExperimentsRequest, timeout: float) -> pb.ListExperimentsResponse:
        stopped = pb.EXPERIMENT_STATE_STOPPED
        found = [each for each in self._found if not request.active_only or each.state != stopped]
        at = int(request.page_token or 0)
        more = str(at + 2) if at + 2 < len(found) else ""
        return pb.ListExperimentsResponse(experiments=found[at : at + 2], next_page_token=more)


RUNNING, STOPPED = pb.EXPERIMENT_STATE_RUNNING, pb.EXPERIMENT_STATE_STOPPED
LISTED = [
    pb.Experiment(experiment_id="5", name="warmer", state=STOPPED),
    pb.Experiment(experiment_id="4", name="short", state=STOPPED),
    pb.Experiment(experiment_id="3", name="other", state=RUNNING),
    pb.Experiment(experiment_id="2", name="warmer", state=RUNNING),
    pb.Experiment(experiment_id="1", name="short", state=STOPPED),
]


@pytest.mark.parametrize(("named", "found"), [("warmer", "2"), ("short", "4"), ("other", "3"), ("A" * 8, "")])
def test_a_name_is_of_the_newest_that_runs_else_of_the_newest(
    monkeypatch: pytest.MonkeyPatch, named: str, found: str
) -> None:
    monkeypatch.setattr(commands, "stub", lambda _: Listing(*LISTED))
    channel: Any = None
    if found:
        assert commands._id(channel, named, 1.0) == found
        return
    with pytest.raises(CommandFailed, match=r"No experiment is called AAAAAAAA: give an id or a name"):
        commands._id(channel, named, 1.0)


class Stopping:
    """An experiment that can be stopped."""

    def __init__(self) -> None:
        self.found = pb.GetExperimentResponse.FromString(FOUND.SerializeToString())

    def GetExperiment(self, _: pb.GetExperimentRequest, timeout: float) -> pb.GetExperimentResponse:
        return pb.GetExperimentResponse.FromString(self.found.SerializeToString())

    def StopExperiment(self, _: pb.StopExperimentRequest, timeout: float) -> pb.StopExperimentResponse:
        if self.found.experiment.state != STOPPED:
            self.found.experiment.state, self.found.experiment.version = STOPPED, 2
        return pb.StopExperimentResponse(experiment=self.found.experiment)


def test_a_stop_says_what_it_came_to_and_when_it_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stopping()
    monkeypatch.setattr(commands, "stub", lambda _: stub)
    known = "0199f000-0000-7000-8000-00000000000a"
    first, again = (CliRunner().invoke(ratchet, ["experiment", "stop", known]) for _ in range(2))
    for done in (first, again):
        assert (done.exit_code, "It came to: 0 of 1 success criteria were met" in done.output) == (0, True), done.output
    assert ["had stopped already" in done.output for done in (first, again)] == [False, True]


def test_a_stop_does_not_depend_on_what_is_only_told_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stopping()

    def unreadable(*_: Any, **__: Any) -> pb.GetExperimentResponse:
        raise grpc.RpcError

    monkeypatch.setattr(stub, "GetExperiment", unreadable)
    monkeypatch.setattr(commands, "stub", lambda _: stub)
    done = CliRunner().invoke(ratchet, ["experiment", "stop", "0199f000-0000-7000-8000-00000000000a"])
    assert (done.exit_code, stub.found.experiment.state) == (0, STOPPED)


def test_an_id_is_asked_for_as_it_is() -> None:
    channel: Any = None
    known = "0199f000-0000-7000-8000-00000000000A"
    assert commands._id(channel, known, 1.0) == known.lower()


def test_a_file_that_is_not_there_is_said() -> None:
    done = CliRunner().invoke(ratchet, ["experiment", "start", "a", "--instructions=@/none", "--address=127.0.0.1:1"])
    assert done.exit_code == 1
    assert "/none can't be read" in done.output


def test_an_experiment_is_shown_with_its_evidence_and_what_to_set() -> None:
    told = shown(whole(FOUND))
    for words in ("warmer: warm  running", "20 %", "RATCHET_SELECTION_TEMPERATURE=0.5", "Satisfaction is open.", "2.5"):
        assert words in told
    assert "├" in told
    assert "start     lan: To see." in told
    assert "0194" in told


def test_one_that_stopped_says_why_with_what_was_seen_then() -> None:
    found = pb.GetExperimentResponse.FromString(FOUND.SerializeToString())
    found.experiment.state, found.experiment.reason = pb.EXPERIMENT_STATE_STOPPED, "It is slow."
    stop = pb.ExperimentEvent(version=2, actor="controller", trigger="stop", evidence=FOUND.look.evidence)
    del found.events[:]
    found.events.append(stop)
    found.ClearField("look")
    told = shown(whole(found))
    for words in ("stopped", "It is slow.", "nobody; was for 20 %", "├", "0 of 1 success criteria were met, 0 missed"):
        assert words in told
    assert "after it began" not in told
    assert "was for 20 % of users" in line(found.experiment).plain
    assert line(found.experiment).plain.endswith(" by lan: It is slow.")
    found.experiment.reason = "a\nb " * 99
    assert line(found.experiment).plain.endswith("…")
    assert "\n" not in line(found.experiment).plain


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ((), "nothing, for too little was seen for any figure."),
        (("MET", "MET"), "all 2 success criteria were met."),
        (("MET", "MISSED", "UNDECIDED"), "1 of 3 success criteria were met, 1 missed; the rest had no verdict."),
    ],
)
def test_what_it_came_to_is_told_by_its_criteria(states: tuple[str, ...], told: str) -> None:
    found = pb.GetExperimentResponse(experiment=pb.Experiment(state=pb.EXPERIMENT_STATE_STOPPED))
    found.look.evidence.measures.add(name="failures", guardrail=True, value=1.0)
    for state in states:
        value = rollout_pb2.MeasureState.Value(f"MEASURE_STATE_{state}")
        found.look.evidence.measures.add(name="quality", value=0.1, state=value)
    assert outcome(found) == told


def test_what_to_set_is_written_for_a_shell() -> None:
    found = pb.GetExperimentResponse(experiment=FOUND.experiment)
    found.experiment.to_set[:] = ["RATCHET_INSTRUCTIONS=Trả lời thật ngắn; 'gọn'=1."]
    assert """RATCHET_INSTRUCTIONS='Trả lời thật ngắn; '"'"'gọn'"'"'=1.'""" in shown(whole(found))


def test_now_names_the_criteria_whose_sentences_the_table_tells() -> None:
    found = pb.GetExperimentResponse.FromString(FOUND.SerializeToString())
    measures = found.look.evidence.measures
    measures[0].sentence = "Satisfaction is open."
    measures.add(name="quality", subject="Quality", sentence="Quality is open, too.")
    measures.add(name="safety", subject="Safety reports", sentence="Met.", state=rollout_pb2.MEASURE_STATE_MET)
    found.look.evidence.samples = 1234
    found.look.reason = "Satisfaction is open. Quality is open, too."
    told = shown(whole(found))
    assert "2 of 3 success criteria are not met yet: Satisfaction, Quality." in told
    assert "1,234 rated users in the smaller arm" in told
    assert "is open" not in told


def test_a_line_has_the_whole_id_and_no_control_characters() -> None:
    found = pb.Experiment.FromString(FOUND.experiment.SerializeToString())
    found.creator = "a\x1b[31mb"
    told = line(found).plain
    assert told.startswith("0193  running")
    assert "\x1b" not in told
