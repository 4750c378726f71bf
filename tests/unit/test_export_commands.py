"""`ratchet export`: what its flags become, what it says, and how it fails. Nothing is converted here."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import models
from cli.main import ratchet
from exporters import further, plan
from exporters.errors import ExportError
from tests.releases import reward_directory
from triton_models import manifest

LATENCY = {"batch_ms": 10.0, "fp32_batch_ms": 20.0, "ratio": 0.5, "rows": 5, "on": "here"}
CPU = {"target": "cpu", "backend": "onnxruntime-python", "precision": "int8", "latency": LATENCY}
KINDS = ("reward", "embedding", "classifier", "policy")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the exporter of each kind was asked, in place of converting anything."""
    found: dict[str, Any] = {}
    directory = reward_directory(tmp_path / "made", variants=(CPU,), parity={"order_kept": 1.0, "pairs_apart": 3743})

    def export(model: str, out: Path, **options: Any) -> manifest.Release:
        options.pop("report")("a stage")
        found.update(model=model, out=out, **options)
        if model == "broken":
            raise ExportError("It can't be exported: this is why.")
        return manifest.read(directory)

    for kind in KINDS:
        module: Any = ModuleType(f"exporters.{kind}")
        setattr(module, f"export_{kind}", export)
        monkeypatch.setitem(sys.modules, f"exporters.{kind}", module)
    return found


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(ratchet, ["export", *arguments])


def test_each_kinds_flags_are_what_its_exporter_takes(asked: dict[str, Any], tmp_path: Path) -> None:
    out = str(tmp_path / "reward-000002")
    common = {"model": "org/model", "out": Path(out), "release_id": "reward-000002", "parent": None}
    encoder = common | {"precision": "int8", "max_length": 512}
    for arguments, expected in (
        (("reward",), encoder),
        (("reward", "--target", "onnx-fp16", "--parent", "p"), encoder | {"targets": ("onnx-fp16",), "parent": "p"}),
        (("embedding", "--pooling", "cls", "--prefix", "q: "), encoder | {"pooling": "cls", "prefix": "q: "}),
        (("classifier", "--labels", "fine,toxic"), encoder | {"names": ("fine", "toxic")}),
        (("policy", "--target", "ctranslate2", "--target", "vllm"), common | {"targets": ("ctranslate2", "vllm")}),
    ):
        asked.clear()
        assert _run(*arguments, "org/model", "--out", out).exit_code == 0
        kind = arguments[0]
        own = {"policy": {"quantization": "int8"}, "embedding": {"pooling": None}, "classifier": {"names": ()}}
        assert asked == {**own.get(kind, {}), **expected}


def test_it_says_what_came_out_and_how_near_it_is(asked: dict[str, Any], tmp_path: Path) -> None:
    done = _run("reward", "org/model", "--out", str(tmp_path / "out"))
    assert done.stdout.splitlines() == [
        f"made is in {tmp_path / 'out'}",
        "  onnxruntime-python, int8, on any CPU, 0.50 x the time of fp32",
        "compared with the model: order_kept 1.0, pairs_apart 3743",
    ]
    assert done.stderr == "", "no terminal, no progress"


def test_for_programs_it_prints_the_manifest_alone(asked: dict[str, Any], tmp_path: Path) -> None:
    printed = json.loads(_run("reward", "org/model", "--out", str(tmp_path / "out"), "--json").stdout)
    assert (printed["id"], printed["variants"][0]["precision"]) == ("made", "int8")
    assert printed["path"] == str(tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_what_serving_starts_to_convert_a_model_is_this_command(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    started: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        started.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    models._convert(kind, "org/model", tmp_path / "releases" / "out", f"{kind}-0123456789")
    ((python, module, name, *arguments),) = started
    assert (python, module, name) == (sys.executable, "-m", "cli.main")
    assert CliRunner().invoke(ratchet, arguments).exit_code == 0
    assert (asked["model"], asked["release_id"]) == ("org/model", f"{kind}-0123456789")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_can_not_be_exported_ends_it_with_one_sentence(
    asked: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    done = _run(kind, "broken", "--out", str(tmp_path / "out"), "--json")
    assert done.exit_code == 1
    assert (done.stdout, done.stderr) == ("", "ratchet: It can't be exported: this is why.\n")


def test_a_target_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert _run("policy", "m", "--out", str(tmp_path), "--target", "onnx").exit_code == 2
    assert _run("reward", "m", "--out", str(tmp_path), "--target", "vllm").exit_code == 2


def test_an_installation_that_can_only_serve_is_told_how_to_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = _run("reward", "m", "--out", str(tmp_path / "out"))
    assert (done.exit_code, done.stderr) == (
        1,
        "ratchet: Exporting needs torch and transformers: run `./run setup train` once.\n",
    )


PLANNED = ("--gpu", "NVIDIA H200", "--compute-capability", "9.0", "--tensorrt", "10.9.0")


def test_without_a_plan_its_command_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = reward_directory(tmp_path / "reward-1")
    monkeypatch.setattr(plan, "script", lambda release, to: f"trtexec {release} {to}\n")
    assert _run("plan", str(source)).stdout == f"trtexec {source} model.plan\n"
    assert json.loads(_run("plan", str(source), "--json").stdout) == {"script": f"trtexec {source} model.plan\n"}
    assert "--gpu goes with --built" in _run("plan", str(source), "--gpu", "x").stderr


def test_with_a_place_for_it_a_plan_is_built_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, given = reward_directory(tmp_path / "reward-1"), []

    def with_plan(*arguments: Any) -> manifest.Release:
        given.extend(arguments[:2])
        return manifest.read(source)

    monkeypatch.setattr(further, "with_plan", with_plan)
    done = _run("plan", str(source), "--out", str(tmp_path / "out"))
    assert (done.exit_code, given) == (0, [source, tmp_path / "out"])
    assert done.stdout.startswith("reward-1 is in ")


def test_a_release_is_made_again_for_other_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, given = reward_directory(tmp_path / "reward-1"), dict[str, Any]()

    def alike(*arguments: Any, **options: Any) -> manifest.Release:
        given.update(options, arguments=arguments)
        return manifest.read(source)

    monkeypatch.setattr(further, "alike", alike)
    to = ("reward", "org/model", "--like", str(source), "--out", str(tmp_path / "out"), "--target", "onnx-fp16")
    assert _run(*to).exit_code == 0
    assert given["arguments"] == ("org/model", source, tmp_path / "out")
    assert given["targets"] == ("onnx-fp16",)
    given.clear()
    for flags in (("--id", "other"), ("--precision", "int8"), ("--max-length", "512"), ("--parent", "p")):
        done = _run(*to, *flags)
        assert (done.exit_code, f"{flags[0]} goes without --like" in done.stderr) == (2, True)
    assert not given


def test_a_plan_that_was_built_elsewhere_is_taken_with_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, given = reward_directory(tmp_path / "reward-1"), []

    def adopted(*arguments: Any) -> manifest.Release:
        given.extend(arguments)
        return manifest.read(source)

    monkeypatch.setattr(plan, "adopted", adopted)
    built, out = str(tmp_path / "model.plan"), str(tmp_path / "out")
    assert _run("plan", str(source), "--built", built, *PLANNED, "--out", out).exit_code == 0
    assert given == [source, Path(out), Path(built), plan.Built("NVIDIA H200", "9.0", "10.9.0")]
    assert "--built goes with --out" in _run("plan", str(source), "--built", built, *PLANNED).stderr
    wrong = [*PLANNED[:3], "nine", *PLANNED[4:]]
    assert "two numbers, such as 9.0" in _run("plan", str(source), "--built", built, *wrong, "--out", out).stderr


def test_a_release_without_an_fp16_graph_has_no_command(tmp_path: Path) -> None:
    done = _run("plan", str(reward_directory(tmp_path / "reward-1")))
    assert (done.exit_code, done.stderr) == (
        1,
        "ratchet: reward-1 holds no fp16 graph: `ratchet export reward MODEL --like DIR --target onnx-fp16` makes one "
        "of the model behind it.\n",
    )
