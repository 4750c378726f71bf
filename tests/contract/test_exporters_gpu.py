"""What is exported for GPUs, as far as a machine without one goes: the fp16 graph runs here, a plan is stood in for."""

import ctypes
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file

from exporters import calibrating, engine, graph, half, latency, plan, variants
from exporters.errors import ExportError
from exporters.latency import Latency
from exporters.reward import _Scores, export_reward
from exporters.variants import Reference
from tests import tiny_models
from tests.unit.test_plan import H200, TensorRT, _release
from triton_models import contract, golden, manifest
from triton_models.manifest import Release
from triton_models.serializer import Encoded, Serializer

FAST = Latency(1, 2, 5, "here")


@dataclass(frozen=True)
class Exported:
    """A release with all variants; what stands in for a plan is the fp16 graph, run by ONNX Runtime."""

    path: Path
    release: Release

    def rows(self) -> tuple[golden.Rows, Encoded]:
        found = golden.read(self.path, self.release)
        assert isinstance(found, golden.Rows)
        return found, Serializer.load(self.path, self.release.serializer).pad(found.rows)

    def reference(self, home: Path) -> Reference:
        """The fp32 graph, alone in another release's folder, with its own answers to the golden rows."""
        target = home / contract.VERSION / "model.onnx"
        target.parent.mkdir()
        target.write_bytes((self.path / contract.VERSION / "model.onnx").read_bytes())
        rows = self.rows()[1]
        return Reference(target, rows, (8,) * 4, graph.run_onnx(target, rows, (8,) * 4), _Scores(1.0, 0.6))


def _spread(checkpoint: Path) -> Path:
    """The same model with scores from near 0 to near 1: those of a random one are all alike, and no order to keep."""
    weights = load_file(checkpoint / "model.safetensors")
    weights["classifier.weight"][0] *= 30
    weights["classifier.bias"][0] = -0.63 * 30
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    return checkpoint


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    home = tmp_path_factory.mktemp("gpu")
    api, asked = TensorRT(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "require", lambda: (api, H200))
        patch.setattr(plan, "build", lambda api, source, to, shapes: to.write_bytes(source.read_bytes()))
        patch.setattr(engine, "opened", lambda api, source, *of: asked.append(of) or graph.opened(source))
        patch.setattr(latency, "compare", lambda converted, fp32, rows, on: Latency(1, 2, rows, on))
        release = export_reward(
            _spread(tiny_models.bert(home / "hf", labels=5)),
            home / "reward-gpu",
            release_id="reward-gpu",
            precision="fp32",
            targets=("tensorrt",),
            max_length=96,
        )
    assert asked == [(plan.profiles(96), release.outputs)]
    return Exported(home / "reward-gpu", release)


def test_a_release_holds_a_graph_for_each_target_with_parity_of_its_own(exported: Exported) -> None:
    assert manifest.verify(exported.path) == exported.release
    cpu, fp16, built = exported.release.variants
    assert [each["backend"] for each in exported.release.variants] == ["onnxruntime-python", "onnxruntime", "tensorrt"]
    assert [each["precision"] for each in exported.release.variants] == ["fp32", "fp16", "fp16"]
    assert {fp16["file"], built["file"]} <= exported.release.files.keys()
    assert (built["gpu"], built["compute_capability"], built["tensorrt"]) == ("NVIDIA H200", "9.0", "10.9.0.34")
    for each in (fp16, built):
        assert each["parity"]["order_kept"] >= 0.99
        assert each["parity"]["best_of_5_regret"] <= 0.01
        assert each["tolerance"]["logit"] >= cpu["tolerance"]["logit"]
    assert fp16["latency"] is None, "there is no GPU here to measure on"
    assert built["latency"]["rows"] == 5
    assert exported.release.batching == "bucketed"


def test_golden_answers_find_the_right_graph_right_and_another_wrong(exported: Exported) -> None:
    """Both graphs, each within its own tolerance; rows that are mixed up are found out at once."""
    known, rows = exported.rows()
    head = _Scores(1.0, 0.6)
    for variant, file in zip(exported.release.variants[:2], ("1/model.onnx", contract.HALF_GRAPH), strict=True):
        outputs = graph.run_onnx(exported.path / file, rows)
        served = head.served(outputs, finished=variant["precision"] == "fp16") | {"score": outputs[0]}
        assert golden.complaints(exported.release, known, served, variant["tolerance"]) == ()
        mixed = {name: values[::-1] for name, values in served.items()}
        assert golden.complaints(exported.release, known, mixed, variant["tolerance"])
    assert known.answers.keys() == {"logit", "aspects"}
    assert ((known.answers["aspects"] > 0) & (known.answers["aspects"] < 1)).all()


def test_the_fp16_graph_keeps_its_ends_in_fp32_and_finishes_the_aspects(exported: Exported) -> None:
    rows = exported.rows()[1]
    session = onnxruntime.InferenceSession(exported.path / contract.HALF_GRAPH, providers=["CPUExecutionProvider"])
    assert {each.type for each in session.get_inputs()} == {"tensor(int64)"}
    assert {each.type for each in session.get_outputs()} == {"tensor(float)"}
    plain, cast = (graph.run_onnx(exported.path / name, rows) for name in ("1/model.onnx", contract.HALF_GRAPH))
    assert cast[0] == pytest.approx(plain[0], abs=1e-2)
    assert cast[2] == pytest.approx(variants.sigmoid(plain[2]), abs=2e-3)
    assert len(np.unique(cast[1])) == len(np.unique(plain[1])), "logits of fp16 would make ties"
    constants = onnx.load(exported.path / contract.HALF_GRAPH).graph.initializer
    floats = {each.name for each in constants if each.data_type == TensorProto.FLOAT}
    assert {each for each in floats if each.startswith("inner")} == {"inner.classifier.weight", "inner.classifier.bias"}


def test_both_graphs_get_a_new_temperature_and_a_plan_does_not(exported: Exported, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(exported.path, plain)
    (plain / exported.release.variants[2]["file"]).unlink()
    manifest.write(plain, replace(exported.release, variants=exported.release.variants[:2]))
    made = calibrating.calibrated(plain, tmp_path / "out", temperature=3.0)
    for name in ("1/model.onnx", contract.HALF_GRAPH):
        score, logit, _ = graph.run_onnx(tmp_path / "out" / name, exported.rows()[1])
        assert score == pytest.approx(variants.sigmoid(logit / 3), abs=1e-5)
    known = golden.read(tmp_path / "out", made)
    assert isinstance(known, golden.Rows)
    served = _Scores(3.0, 0.6).served([score, logit, _], finished=True) | {"score": score}
    assert golden.complaints(made, known, served, made.variants[1]["tolerance"]) == ()
    with pytest.raises(ExportError, match="holds a TensorRT plan"):
        calibrating.calibrated(exported.path, tmp_path / "other", temperature=3.0)


def test_an_fp16_graph_that_ranks_otherwise_is_refused(exported: Exported, tmp_path: Path) -> None:
    reference = exported.reference(tmp_path)
    other = replace(reference, answers=[np.flip(each, axis=0) for each in reference.answers])
    with pytest.raises(ExportError, match=r"fp16 graph ranks the golden answers otherwise .*order_kept"):
        variants.fp16(other, None)


def test_a_graph_that_is_slower_on_the_gpu_is_refused(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, asked = exported.reference(tmp_path), []

    def measure(converted: Path, fp32: Path, rows: Encoded, provider: str) -> Latency:
        asked.append((converted.name, fp32.name, len(rows.input_ids), provider))
        return Latency(30, 20, 5, provider)

    monkeypatch.setattr(graph, "measure", measure)
    with pytest.raises(ExportError, match=r"takes 1\.50 times as long as the fp32 graph \(a GPU\)"):
        variants.fp16(reference, "a GPU")
    assert asked == [("model.fp16.onnx", "model.onnx", 5, "a GPU")]


def test_int8_gives_way_to_fp32_when_it_is_slower_and_to_nothing_else_when_it_is_not(
    exported: Exported, tmp_path: Path
) -> None:
    """Real graphs, told apart by nothing but what the measurement says."""
    reference = exported.reference(tmp_path)
    near = replace(reference, judge=Near())
    before = reference.graph.read_bytes()
    figures, variant = variants.int8(near, lambda _: ({}, True), lambda *_: Latency(50, 20, 5, "here"))
    assert (figures, variant) == ({"refused_int8_latency_ratio": 2.5}, None)
    assert reference.graph.read_bytes() == before
    assert variants.int8(near, lambda _: ({}, True), lambda *_: FAST)[1]
    assert len(reference.graph.read_bytes()) < len(before)
    assert [each.name for each in reference.graph.parent.iterdir()] == ["model.onnx"]


class Near(_Scores):
    """A reward that any int8 graph is near enough for."""

    def __init__(self) -> None:
        super().__init__(1.0, 0.6)

    def compare(self, *_: Any) -> tuple[dict[str, Any], bool]:
        return {"order_kept": 1.0}, True


def test_a_graph_is_measured_beside_fp32_in_the_same_run(exported: Exported, tmp_path: Path) -> None:
    found = graph.measure(exported.path / contract.HALF_GRAPH, exported.path / "1/model.onnx", exported.rows()[1])
    assert found.batch_ms > 0
    assert found.fp32_batch_ms > 0
    assert (found.rows, found.on) == (32, "ONNX Runtime, CPUExecutionProvider")


def _made(nodes: list[Any], constants: dict[str, Any], output: str = "out") -> Any:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("in", output)]
    given = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "made", ends[:1], ends[1:], given)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_masks_beyond_fp16_are_cut_and_a_constant_of_both_ends_is_kept_twice(tmp_path: Path) -> None:
    """-1e30 as masks are; `weights` is used by a product in the middle and by the one at the end."""
    nodes = [
        helper.make_node("Add", ["in", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=1),
        helper.make_node("MatMul", ["shares", "weights"], ["mixed"]),
        helper.make_node("Cast", ["mixed"], ["same"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["same", "weights"], ["out"]),
    ]
    onnx.save(_made(nodes, {"mask": [0.0, -1e30], "weights": [[0.3, 0.7], [0.1, 0.9]]}), tmp_path / "fp32.onnx")
    half.cast(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    made = onnx.load(tmp_path / "fp16.onnx")
    kinds = {each.name: each.data_type for each in made.graph.initializer}
    assert kinds == {"mask_fp16": 10, "weights_fp16": 10, "weights": 1}
    assert [node.op_type for node in made.graph.node] == ["Cast", "Add", "Softmax", "MatMul", "Cast", "Cast", "MatMul"]
    given = {"in": np.array([[1, 2], [3, -4]], np.float32)}
    found = [onnxruntime.InferenceSession(tmp_path / name).run(None, given)[0] for name in ("fp32.onnx", "fp16.onnx")]
    assert found[1].dtype == np.float32
    assert found[1] == pytest.approx(found[0], abs=1e-3)


def test_a_graph_with_branches_is_not_cast(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["in"], ["kept"])],
        "branch",
        [],
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, ["n", 2])],
    )
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch),
    ]
    onnx.save(_made(nodes, {}), tmp_path / "fp32.onnx")
    with pytest.raises(ExportError, match="branches or loops"):
        half.cast(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")


class Context:
    """TensorRT's execution context: sums each row's ids, and notes which profile it was told to take."""

    def __init__(self) -> None:
        self.profiles: list[int] = []
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> None:
        self.profiles.append(index)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self.shapes[name] = shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def get_tensor_shape(self, name: str) -> tuple[int, int]:
        return self.shapes["input_ids"][0], 1

    def execute_async_v3(self, stream: int) -> bool:
        rows, tokens = self.shapes["input_ids"]
        ids = np.ctypeslib.as_array((ctypes.c_int64 * (rows * tokens)).from_address(self.addresses["input_ids"]))
        out = np.ctypeslib.as_array((ctypes.c_float * rows).from_address(self.addresses["logit"]))
        out[:] = ids.reshape(rows, tokens).sum(axis=1)
        return True


def test_a_plan_is_run_on_the_rows_as_they_are_with_the_profile_of_their_length(tmp_path: Path) -> None:
    """The engine names its tensors in another order than the model does."""
    context = Context()
    names = ["logit", "attention_mask", "input_ids"]
    loaded = SimpleNamespace(
        num_io_tensors=3,
        get_tensor_name=lambda index: names[index],
        get_tensor_mode=lambda name: "out" if name == "logit" else "in",
        create_execution_context=lambda: context,
    )
    api = SimpleNamespace(
        Logger=TensorRT.Logger,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        Runtime=lambda logger: SimpleNamespace(
            deserialize_cuda_engine=lambda content: loaded if content == b"ours" else None
        ),
    )
    (tmp_path / "a.plan").write_bytes(b"ours")
    runner = engine.opened(api, tmp_path / "a.plan", plan.profiles(512), ["logit"], device="cpu")
    for tokens in (3, 65, 512):
        ids = np.arange(2 * tokens, dtype=np.int64).reshape(2, tokens)
        (found,) = runner(Encoded(ids, np.ones_like(ids), None))
        assert found.tolist() == ids.sum(axis=1, keepdims=True).tolist()
        assert context.shapes == {"input_ids": (2, tokens), "attention_mask": (2, tokens)}
    assert context.profiles == [1, 2, 4]
    (tmp_path / "b.plan").write_bytes(b"another GPU's")
    with pytest.raises(ExportError, match=r"can't load b\.plan: it was built for another GPU"):
        engine.opened(api, tmp_path / "b.plan", plan.profiles(512), ["logit"], device="cpu")


@pytest.mark.parametrize(("help_text", "typed"), [("  --stronglyTyped  Create", True), ("  --onnx", False)])
def test_the_script_builds_with_either_make_of_trtexec(tmp_path: Path, help_text: str, typed: bool) -> None:
    """Run by a shell, with a trtexec that notes its arguments; the release's folder has a blank in its name."""
    source = _release(tmp_path / "my releases" / "reward-000001")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "trtexec").write_text(
        f"#!/bin/sh\nif [ \"$1\" = --help ]; then echo '{help_text}'; else printf '%s\\n' \"$@\"; fi\n"
    )
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA H200, 9.0'\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    lines = plan.script(source, Path("model.plan"))
    path = {"PATH": f"{tools}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-ec", lines], env=path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"--onnx={source}/1/model.fp16.onnx",
        "--saveEngine=model.plan",
        *(["--stronglyTyped"] if typed else []),
        "--skipInference",
        "--minShapes=input_ids:1x1,attention_mask:1x1,token_type_ids:1x1",
        "--optShapes=input_ids:8x16,attention_mask:8x16,token_type_ids:8x16",
        "--maxShapes=input_ids:64x16,attention_mask:64x16,token_type_ids:64x16",
        "NVIDIA H200, 9.0",
    ]
