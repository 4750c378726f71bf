"""A trained release gets what GPUs need, and stays the release that it was. Graphs of a few nodes stand in for models,
and the fp16 graph for a plan of it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import calibrating, engine, further, graph, plan
from exporters.errors import ExportError
from tests.releases import reward_directory
from tests.unit.test_plan import H200, TensorRT
from triton_models import contract, golden, manifest
from triton_models.config import Options, render
from triton_models.manifest import Release, ReleaseError

KEPT = ("id", "parent", "base_model", "serializer", "outputs", "calibration", "threshold", "data_snapshot", "metrics")
METRICS = {"pairwise_accuracy": 0.8, "run": "7f", "verdict": "BETTER"}
CPU = {"target": "cpu", "backend": "onnxruntime-python", "precision": "int8", "tolerance": {"logit": 0.01}}
HALF = {"target": "gpu", "backend": "onnxruntime", "precision": "fp16", "file": contract.HALF_GRAPH,
        "tolerance": {"logit": 0.02}}  # fmt: skip
ROWS = ((2, 7, 3), (2, 8, 9, 3), (2, 3))


def _graph(path: Path, scale: float, temperature: float = 1.0) -> None:
    """logit: `scale` times the sum of a row's ids; score: as rewards have it."""
    names = (contract.INPUT_IDS, contract.ATTENTION_MASK, contract.TOKEN_TYPE_IDS)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"]) for name in names]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in ("score", "logit")]
    given = {"scale": scale, "score_temperature": temperature}
    constants = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in given.items()]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    nodes = [
        helper.make_node("Mul", [contract.INPUT_IDS, contract.ATTENTION_MASK], ["known"]),
        helper.make_node("Add", ["known", contract.TOKEN_TYPE_IDS], ["typed"]),
        helper.make_node("Cast", ["typed"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axis"], ["sum"]),
        helper.make_node("Mul", ["sum", "scale"], ["logit"]),
        helper.make_node("Div", ["logit", "score_temperature"], ["score_logit"]),
        helper.make_node("Sigmoid", ["score_logit"], ["score"]),
    ]
    made = helper.make_graph(nodes, "reward", inputs, outputs, constants)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def _release(home: Path, *, half: bool, scale: float = 0.1, temperature: float = 1.0, **fields: Any) -> Release:
    """As an export writes it, of a model that is its `scale`."""
    given = {"variants": (CPU, HALF) if half else (CPU,), "batching": "bucketed" if half else "ragged"}
    reward_directory(home, **given, calibration={"temperature": temperature}, **fields)
    for name in ("1/model.onnx", *([contract.HALF_GRAPH] if half else [])):
        _graph(home / name, scale, temperature)
    known = np.array([[scale * sum(row)] for row in ROWS], dtype=np.float32)
    golden.write(home, golden.Rows(ROWS, {"logit": known}))
    return manifest.write(home, manifest.read(home))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """As a trainer beside CPUs makes it: exported first, calibrated afterwards."""
    _release(tmp_path / "reward-000007", half=False, data_snapshot="5" * 64)
    fields = {"threshold": 0.71, "parent": "reward-000006", "metrics": METRICS}
    calibrating.calibrated(tmp_path / "reward-000007", tmp_path / "trained", temperature=2.5, **fields)
    return tmp_path / "trained"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the exporter was asked; a model is the scale of its graph, as a text."""
    asked: list[dict[str, Any]] = []

    def export(model: str, out: Path, *, targets: tuple[str, ...], **given: Any) -> Release:
        asked.append(given | {"targets": targets})
        named = {name: given[name] for name in ("threshold", "parent", "base_model", "data_snapshot", "metrics")}
        made = _release(out, half="onnx-fp16" in targets, scale=float(model), temperature=given["temperature"], **named)
        return manifest.write(out, replace(made, id=given["release_id"]))

    monkeypatch.setattr(further, "export_reward", export)
    return asked


def test_the_model_behind_a_release_gives_it_a_graph_for_gpus(
    trained: Path, tmp_path: Path, exported: list[dict[str, Any]]
) -> None:
    before = manifest.read(trained)
    made = further.alike("0.1", trained, tmp_path / "both", targets=("onnx-fp16",))
    assert manifest.verify(tmp_path / "both") == made
    assert [getattr(made, name) for name in KEPT] == [getattr(before, name) for name in KEPT]
    assert (made.id, made.calibration, made.threshold) == ("reward-000007", {"temperature": 2.5}, 0.71)
    (asked,) = exported
    assert (asked["precision"], asked["max_length"], asked["token_type_ids"]) == ("int8", 16, True)
    assert "model.fp16.onnx" in render(made, Options(layout="onnxruntime"))
    with pytest.raises(ReleaseError, match="--like DIR --target tensorrt` makes one of the model behind it"):
        render(before, Options(layout="tensorrt"))
    with pytest.raises(ReleaseError, match="`ratchet export plan DIR` makes one of its fp16 graph"):
        render(made, Options(layout="tensorrt"))


@pytest.mark.usefixtures("exported")
def test_another_model_is_not_the_one_behind_it(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^0\.11 is not the model behind reward-000007: it answers .* otherwise\.$"):
        further.alike("0.11", trained, tmp_path / "out", targets=("onnx-fp16",))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("exported")
def test_what_there_is_nothing_to_keep_of_or_to_tell_it_by_is_refused(trained: Path, tmp_path: Path) -> None:
    bare, made = tmp_path / "bare", manifest.read(trained)
    shutil.copytree(trained, bare)
    (bare / golden.FILE).unlink()
    manifest.write(bare, made)
    with pytest.raises(ExportError, match="reward-000007 holds no golden answers to compare with"):
        further.alike("0.1", bare, tmp_path / "out", targets=())
    spec = {**made.serializer, "labels": ["bad", "good"]}
    manifest.write(bare, replace(made, kind="classifier", serializer=spec, outputs=("probabilities",)))
    with pytest.raises(ExportError, match="of the kind classifier"):
        further.alike("0.1", bare, tmp_path / "out", targets=())
    (bare / "1" / "model.onnx").write_bytes(b"torn")
    with pytest.raises(ExportError, match="was altered"):
        further.alike("0.1", bare, tmp_path / "out", targets=())
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes that plans were built for."""
    asked: list[Any] = []

    def build(api: Any, source: Path, to: Path, shapes: Any) -> None:
        asked.append(shapes)
        to.write_bytes(source.read_bytes())

    monkeypatch.setattr(plan, "require", lambda: (TensorRT(), H200))
    monkeypatch.setattr(plan, "build", build)
    monkeypatch.setattr(engine, "opened", _opened(lambda outputs: outputs))
    return asked


def _opened(change: Callable[[Any], Any]) -> Any:
    """Opens a plan as what it is here; rows have no types, so that a row's ids alone are summed."""

    def opened(api: Any, source: Path, shapes: Any, outputs: Any) -> graph.Runner:
        run = graph.opened(source)
        return lambda rows: change(run(replace(rows, token_type_ids=np.zeros_like(rows.input_ids))))

    return opened


def test_a_trained_release_gets_a_plan_and_stays_what_it_was(tmp_path: Path, tensorrt: list[Any]) -> None:
    fields = {"threshold": 0.71, "parent": "reward-000006", "metrics": METRICS, "data_snapshot": "5" * 64}
    before = _release(tmp_path / "reward-000007", half=True, temperature=2.5, **fields)
    told: list[str] = []
    made = further.with_plan(tmp_path / "reward-000007", tmp_path / "out", told.append)
    assert manifest.verify(tmp_path / "out") == made
    assert [getattr(made, name) for name in KEPT] == [getattr(before, name) for name in KEPT]
    assert (tensorrt, told) == ([plan.profiles(16)], ["building a TensorRT plan for NVIDIA H200"])
    assert made.variants[:2] == before.variants
    built = made.variants[2]
    assert (built["backend"], built["file"], built["profiles"]) == ("tensorrt", "1/model.cc90.plan", 2)
    assert (built["tolerance"], built["latency"]) == (HALF["tolerance"], None)
    assert 'value: "model.cc90.plan"' in render(made, Options(layout="tensorrt"))
    again = further.with_plan(tmp_path / "out", tmp_path / "again")
    assert len(again.variants) == 3, "it takes the place of the one for this kind of GPU"


def test_a_plan_that_answers_otherwise_is_refused_and_nothing_is_left(
    tmp_path: Path, tensorrt: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _release(tmp_path / "reward-000007", half=True, temperature=2.5)
    monkeypatch.setattr(engine, "opened", _opened(lambda outputs: [each[::-1] for each in outputs]))
    with pytest.raises(ExportError, match="answers the golden inputs of reward-000007 wrongly: logit is off by"):
        further.with_plan(tmp_path / "reward-000007", tmp_path / "out")
    assert tensorrt
    assert [each.name for each in tmp_path.iterdir()] == ["reward-000007"]


def test_without_a_graph_for_gpus_there_is_nothing_to_make_a_plan_of(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"fp16 graph: `ratchet export reward MODEL --like DIR --target onnx-fp16`"):
        further.with_plan(trained, tmp_path / "out")
