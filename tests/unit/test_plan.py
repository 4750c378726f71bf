"""TensorRT plans up to the builder's call: a stand-in for the module `tensorrt` notes what it is asked."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from exporters import plan
from exporters.errors import ExportError
from exporters.plan import Built, Profile
from tests.releases import reward_directory
from triton_models import contract, manifest

H200 = Built("NVIDIA H200", "9.0", "10.9.0.34")
HALF = {
    "target": "gpu",
    "backend": "onnxruntime",
    "precision": "fp16",
    "file": contract.HALF_GRAPH,
    "tolerance": {"logit": 0.01},
}
CPU = {"target": "cpu", "backend": "onnxruntime-python", "precision": "int8"}


@dataclass
class TensorRT:
    """What the builder is asked, in order; `typed` None: as TensorRT 11, which has no flag for it."""

    typed: int | None = 1
    parses: bool = True
    plan: bytes | None = b"a plan"
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        flags = {} if self.typed is None else {"STRONGLY_TYPED": self.typed}
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**flags)
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    class Logger:
        WARNING = 2

        def __init__(self, least: int) -> None:
            self.least = least

    def Builder(self, logger: Any) -> Any:
        inputs = [SimpleNamespace(name=name) for name in ("input_ids", "attention_mask")]
        network = SimpleNamespace(num_inputs=2, get_input=lambda index: inputs[index])

        def profile() -> Any:
            shapes: dict[str, Any] = {}
            return SimpleNamespace(shapes=shapes, set_shape=lambda name, *of: shapes.__setitem__(name, of))

        config = SimpleNamespace(
            set_memory_pool_limit=lambda pool, size: self.asked.append((pool, size)),
            add_optimization_profile=lambda profile: self.asked.append(("profile", profile.shapes)),
        )
        return SimpleNamespace(
            create_network=lambda flags: self.asked.append(("flags", flags)) or network,
            create_builder_config=lambda: config,
            create_optimization_profile=profile,
            build_serialized_network=lambda *given: (
                self.asked.append(("build", given == (network, config))) or self.plan
            ),
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        errors = ["node 7: unsupported"]
        return SimpleNamespace(
            parse=lambda content: self.asked.append(("parse", content)) or self.parses,
            num_errors=len(errors),
            get_error=lambda index: errors[index],
        )


def _built(tmp_path: Path, api: TensorRT) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    plan.build(api, tmp_path / "model.onnx", tmp_path / "model.plan", plan.profiles(128))
    return tmp_path / "model.plan"


def test_the_first_profile_takes_everything_and_the_others_each_length_that_callers_pad_to() -> None:
    assert plan.profiles(512) == (
        Profile((1, 1), (8, 128), (64, 512)),
        Profile((1, 1), (8, 64), (64, 64)),
        Profile((1, 65), (8, 128), (64, 128)),
        Profile((1, 129), (8, 256), (64, 256)),
        Profile((1, 257), (8, 512), (64, 512)),
    )
    assert [each.most for each in plan.profiles(96)] == [(64, 96), (64, 64), (64, 96)]
    assert plan.profiles(32) == (Profile((1, 1), (8, 32), (64, 32)), Profile((1, 1), (8, 32), (64, 32)))


def test_the_network_is_strongly_typed_and_gets_a_profile_for_each_bucket(tmp_path: Path) -> None:
    api = TensorRT()
    assert _built(tmp_path, api).read_bytes() == b"a plan"
    shapes = [((1, 1), (8, 128), (64, 128)), ((1, 1), (8, 64), (64, 64)), ((1, 65), (8, 128), (64, 128))]
    assert api.asked == [
        ("flags", 1 << 1),
        ("parse", b"graph"),
        ("workspace", 4 << 30),
        *(("profile", {"input_ids": shape, "attention_mask": shape}) for shape in shapes),
        ("build", True),
    ]


def test_a_tensorrt_that_types_strongly_anyway_is_not_told_to(tmp_path: Path) -> None:
    api = TensorRT(typed=None)
    _built(tmp_path, api)
    assert api.asked[0] == ("flags", 0)


def test_what_tensorrt_refuses_is_a_sentence_and_leaves_no_plan(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="can't read the fp16 graph: node 7: unsupported"):
        _built(tmp_path, TensorRT(parses=False))
    with pytest.raises(ExportError, match="could not build a plan"):
        _built(tmp_path, TensorRT(plan=None))
    assert not (tmp_path / "model.plan").exists()


def _here(monkeypatch: pytest.MonkeyPatch, version: str, *, gpu: bool) -> None:
    module: Any = ModuleType("tensorrt")
    module.__version__ = version
    torch: Any = ModuleType("torch")
    torch.cuda = SimpleNamespace(
        is_available=lambda: gpu,
        get_device_capability=lambda index: (9, 0),
        get_device_name=lambda index: "NVIDIA H200",
    )
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setitem(sys.modules, "torch", torch)


def test_what_is_missing_for_a_plan_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ExportError, match=r"package tensorrt is not installed here: run this there, or export with"):
        plan.require()
    _here(monkeypatch, "8.6.1", gpu=True)
    with pytest.raises(ExportError, match=r"TensorRT 8\.6\.1 is too old: use 10 or later"):
        plan.require()
    _here(monkeypatch, "11.1.0", gpu=False)
    with pytest.raises(ExportError, match="sees no GPU here"):
        plan.require()


def test_what_is_there_for_a_plan_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    _here(monkeypatch, "10.9.0.34", gpu=True)
    module, built = plan.require()
    assert (module, built) == (sys.modules["tensorrt"], H200)
    assert built.variant(5)["file"] == "1/model.cc90.plan"


def _release(home: Path, **changes: Any) -> Path:
    directory = reward_directory(home, variants=(CPU, HALF), **changes)
    (directory / contract.HALF_GRAPH).write_bytes(b"half")
    manifest.write(directory, manifest.read(directory))
    return directory


def test_a_model_without_segments_is_given_none(tmp_path: Path) -> None:
    assert "token_type_ids" not in plan.script(_release(tmp_path / "reward-1", format_name="roberta"), Path("p"))


def test_a_plan_by_trtexec_joins_a_copy_of_its_release(tmp_path: Path) -> None:
    source = _release(tmp_path / "reward-000001")
    (tmp_path / "new.plan").write_bytes(b"a plan")
    made = plan.adopted(source, tmp_path / "out", tmp_path / "new.plan", H200)
    assert manifest.verify(tmp_path / "out") == made
    assert (tmp_path / "out" / "1" / "model.cc90.plan").read_bytes() == b"a plan"
    assert (made.id, len(made.variants)) == ("reward-000001", 3)
    assert made.variants[2] | {"parity": None} == H200.variant(1) | {
        "parity": None,
        "tolerance": {"logit": 0.01},
        "latency": None,
    }
    assert len(manifest.verify(source).variants) == 2, "what it was made of stays as it was"


def test_a_second_plan_for_a_kind_of_gpu_takes_the_place_of_the_first(tmp_path: Path) -> None:
    source = _release(tmp_path / "reward-000001")
    (tmp_path / "new.plan").write_bytes(b"one")
    plan.adopted(source, tmp_path / "first", tmp_path / "new.plan", H200)
    (tmp_path / "new.plan").write_bytes(b"two")
    newer = Built("NVIDIA H100", "9.0", "11.1.0")
    made = plan.adopted(tmp_path / "first", tmp_path / "second", tmp_path / "new.plan", newer)
    assert [each.get("tensorrt") for each in made.variants] == [None, None, "11.1.0"]
    assert (tmp_path / "second" / "1" / "model.cc90.plan").read_bytes() == b"two"


def test_what_can_not_be_joined_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    source = _release(tmp_path / "reward-000001")
    with pytest.raises(ExportError, match="is no TensorRT plan"):
        plan.adopted(source, tmp_path / "out", tmp_path / "nothing.plan", H200)
    (tmp_path / "new.plan").write_bytes(b"a plan")
    with pytest.raises(
        ExportError, match="holds no fp16 graph: `ratchet export reward MODEL --like DIR --target onnx-fp16`"
    ):
        plan.adopted(reward_directory(tmp_path / "reward-2"), tmp_path / "out", tmp_path / "new.plan", H200)
    (source / contract.HALF_GRAPH).write_bytes(b"torn")
    with pytest.raises(ExportError, match="was altered"):
        plan.adopted(source, tmp_path / "out", tmp_path / "new.plan", H200)
    assert not (tmp_path / "out").exists()
