"""`ratchet train start|list|watch` and `ratchet review` against a server whose runs a test makes up."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from click.testing import CliRunner, Result
from google.protobuf.json_format import MessageToDict

from cli import train_feedback
from cli.main import ratchet
from cli.output import CommandFailed
from ratchet.v1 import training_pb2 as pb
from ratchet.v1 import training_pb2_grpc
from tests.browser.planted_training import PlantedTraining
from trainer import runs
from trainer.errors import TrainerError
from trainer.settings import TrainerSettings

RUN = "0199f000-0000-7000-8000-000000000001"


class Edge:
    """Runs commands as another process would, in a thread."""

    def __init__(self, planted: PlantedTraining, address: str) -> None:
        self.planted, self.address = planted, address

    async def command(self, *arguments: str, **environment: str | None) -> Result:
        where = ["--address", self.address, "--timeout", "20"]
        return await asyncio.to_thread(CliRunner().invoke, ratchet, [*arguments, *where], env=environment)


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    planted, server = PlantedTraining(), grpc.aio.server()
    training_pb2_grpc.add_TrainingServiceServicer_to_server(planted, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Edge(planted, f"127.0.0.1:{port}")
    await server.stop(0)


async def test_a_run_is_asked_for_with_settings_of_a_file_and_of_the_line(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("seeds = 3\n[train]\nlearning_rate = 1e-3\nmax_epochs = 2\n")
    settings = ["--config", str(tmp_path / "settings.toml"), "--set", "learning_rate=3e-5", "--set", "bucket=false"]
    asked = await edge.command("train", "start", "--base", "roberta-base", *settings, "--request-id", RUN, "--json")
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.output)["training_id"] == RUN
    assert json.loads(asked.output)["state"] == "TRAINING_STATE_QUEUED"
    (request,) = edge.planted.started
    train = {"learning_rate": 3e-5, "max_epochs": 2, "bucket": False}
    assert MessageToDict(request.config) == {"base": "roberta-base", "seeds": 3, "train": train}
    for _ in range(2):
        told = await edge.command("train", "start")
        assert (told.exit_code, "QUEUED" in told.output) == (0, True)
    assert len({each.request_id for each in edge.planted.started}) == 3, "each is a run of its own"
    assert dict(edge.planted.started[-1].config) == {}, "the trainer's own settings hold"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.learning_rate=-1", "The setting train.learning_rate can't be used: it must be more than 0, not -1."),
        ("seeds=eleven", "The setting seeds can't be used: it must be a whole number, not 'eleven'."),
        (
            "train.precision=fp8",
            "The setting train.precision can't be used: it must be 'auto', 'fp32' or 'bf16', not 'fp8'",
        ),
        ("lerning_rate=1", "lerning_rate is no setting of a run: did you mean learning_rate?"),
        ("learning_rate", "'learning_rate' sets nothing: write NAME=VALUE, such as train.learning_rate=1e-4."),
    ],
)
async def test_a_setting_that_can_t_be_used_is_told_before_anybody_is_asked(
    edge: Edge, setting: str, said: str
) -> None:
    told = await edge.command("train", "start", "--set", setting)
    assert told.exit_code == 1
    assert said in " ".join(told.output.split())
    assert edge.planted.started == []


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ({"state": pb.TRAINING_STATE_SUCCEEDED, "verdict": pb.TRAINING_VERDICT_NOT_BETTER}, 0),
        ({"state": pb.TRAINING_STATE_FAILED, "error": "The disk is full."}, 3),
        ({"state": pb.TRAINING_STATE_CANCELLED}, 4),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_the_exit_status_of_a_watch_says_how_the_run_ended(
    edge: Edge, ends: dict[str, Any], status: int, options: tuple[str, ...]
) -> None:
    edge.planted.plant(pb.Training(training_id=RUN, **ends))
    assert (await edge.command("train", "watch", RUN, *options)).exit_code == status
    assert (await edge.command("train", "watch", str(uuid4()), *options)).exit_code == 1


async def test_runs_are_listed_by_how_they_stand(edge: Edge) -> None:
    edge.planted.waiting = 1
    for number, state in enumerate((pb.TRAINING_STATE_FAILED, pb.TRAINING_STATE_QUEUED)):
        edge.planted.plant(pb.Training(training_id=RUN[:-1] + str(number), state=state))
    told = (await edge.command("train", "list", "--state", "failed")).output
    assert ("FAILED" in told, "QUEUED" in told) == (True, False)
    assert "1 new feedback waits, a run begins at 1,000." in told


async def test_one_reply_waits_and_two_wait(edge: Edge) -> None:
    for count, said in ((0, "Nothing waits for"), (1, "1 waits for"), (2, "2 wait for")):
        edge.planted.items = {str(n): pb.ReviewItem(item_id=str(n), query="?") for n in range(count)}
        assert f"{said} a judgement." in (await edge.command("review", "list")).output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--id", "x"], "--id goes with --data"),
        (["--id", "x", "--out", "y"], "--out and --id go with --data"),
    ],
)
async def test_options_of_files_are_refused_without_files(edge: Edge, options: list[str], said: str) -> None:
    told = await asyncio.to_thread(CliRunner().invoke, ratchet, ["train", "reward", *options])
    assert (told.exit_code, said in told.output) == (2, True)


def test_a_run_that_is_begun_here_takes_the_settings_of_all_runs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, taken = tmp_path / "all.toml", list[TrainerSettings]()

    def settings(tenant: str, **changes: Any) -> TrainerSettings:
        return TrainerSettings(home=tmp_path, database_url="", tenant=tenant, **changes)

    async def run(_: Any, found: TrainerSettings, **__: Any) -> int:
        taken.append(found)
        return 0

    monkeypatch.setattr(train_feedback, "settings", settings)
    monkeypatch.setattr(train_feedback, "_until_told_to_stop", run)
    for text in ("", "base = 'roberta-base'\ntrain.max_epochs = 2\n", "train.max_epochs = 0\n"):
        file.write_text(text)
        monkeypatch.setenv("RATCHET_TRAINING_CONFIG", str(file) if text else "")
        if text.endswith(" 0\n"):
            with pytest.raises(TrainerError, match="max_epochs"):
                train_feedback.run({}, "default", detach=False, as_json=False)
        else:
            assert train_feedback.run({}, "default", detach=False, as_json=False) == 0
    assert [each.defaults for each in taken] == [{}, {"base": "roberta-base", "train": {"max_epochs": 2}}]


@pytest.mark.parametrize(
    ("layout", "installed", "target"),
    [
        ("python", False, "onnx"),
        ("onnxruntime", True, "onnx-fp16"),
        ("tensorrt", False, "onnx-fp16"),
        ("tensorrt", True, "tensorrt"),
    ],
)
def test_runs_export_what_the_servers_layout_needs_unless_somebody_names_another_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, installed: bool, target: str
) -> None:
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path))
    monkeypatch.setenv("RATCHET_REWARD_LAYOUT", layout)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    found = train_feedback.settings("default", defaults={"train": {"max_epochs": 2}})
    assert found.defaults == {"export": {"target": target}, "train": {"max_epochs": 2}}
    named = train_feedback.settings("default", defaults={"export": {"target": "onnx"}})
    assert named.defaults == {"export": {"target": "onnx"}}


async def test_a_run_that_was_begun_too_often_is_told_as_failed_by_whoever_asks_to_go_on_with_it(
    pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking it buries it: no trainer works at it, and nobody could follow it."""

    @asynccontextmanager
    async def connected(_: str) -> AsyncIterator[asyncpg.Pool]:
        yield pool

    monkeypatch.setattr("trainer.database.connected", connected)
    found = TrainerSettings(home=tmp_path, database_url="", tenant=f"t-{uuid4().hex}")
    training_id = await runs.ask(pool, found.tenant, {}, train_feedback.ASKER)
    for _ in range(runs.MOST_ATTEMPTS):
        assert await runs.claim(pool, -1, training_id) is not None
    with pytest.raises(CommandFailed, match=f"Run {training_id} failed: A trainer began this run 3 times"):
        await train_feedback._run({}, found, detach=False, as_json=False)


@pytest.mark.parametrize(
    ("state", "said"), [("RUNNING", "works at"), ("QUEUED", "works at"), ("SUCCEEDED", "has ended"), ("CANCELLED", "")]
)
def test_a_run_that_can_t_be_taken_is_told_by_how_it_stands(
    capsys: pytest.CaptureFixture[str], state: str, said: str
) -> None:
    if said:
        train_feedback._elsewhere(uuid4(), state, "", as_json=False)
        assert said in capsys.readouterr().out
    else:
        with pytest.raises(CommandFailed, match="was cancelled"):
            train_feedback._elsewhere(uuid4(), state, "", as_json=False)


def test_a_run_that_somebody_else_does_is_told_to_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    training_id = uuid4()
    train_feedback._left(training_id, "RUNNING", "A trainer works at it.", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"training_id": str(training_id), "state": "RUNNING"}
    train_feedback._left(training_id, "RUNNING", "A trainer works at it.", as_json=False)
    assert capsys.readouterr().out == "A trainer works at it.\n"
