"""config.pbtxt for each backend that can serve a release; parsed by Triton's own protobuf."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.releases import policy_directory, reward_directory
from triton_models import contract, manifest
from triton_models.config import Options, render, render_vllm_engine
from triton_models.manifest import ReleaseError
from triton_models.release import install


def _config(release: manifest.Release, **options: Any) -> Any:
    return text_format.Parse(render(release, Options(**options)), model_config_pb2.ModelConfig())


@pytest.fixture
def reward(tmp_path: Path) -> manifest.Release:
    return manifest.read(reward_directory(tmp_path / "reward-000001", outputs=("score", "logit", "aspects")))


@pytest.fixture
def policy(tmp_path: Path) -> manifest.Release:
    return manifest.read(policy_directory(tmp_path / "policy-000001"))


def test_a_python_reward_takes_ragged_requests_whole(reward: manifest.Release) -> None:
    config = _config(reward, threads=2, max_queue_delay_us=700)
    assert (config.name, config.backend, config.max_batch_size) == ("reward-000001", "python", 64)
    assert [tensor.name for tensor in config.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert all(tensor.allow_ragged_batch for tensor in config.input)
    assert [(tensor.name, list(tensor.dims)) for tensor in config.output] == [
        ("score", [1]),
        ("logit", [1]),
        ("aspects", [4]),
    ]
    batching = config.dynamic_batching
    assert batching.max_queue_delay_microseconds == 700
    assert not batching.preferred_batch_size
    assert not batching.HasField("default_queue_policy"), "it makes Triton's batcher miss wake-ups"
    assert config.parameters["threads"].string_value == "2"


@pytest.mark.parametrize(
    ("kind", "own", "output", "width"),
    [
        ("embedding", {"dimension": 384}, "sentence_embedding", 384),
        ("classifier", {"labels": ["entailment", "neutral", "contradiction"]}, "probabilities", 3),
    ],
)
def test_other_encoders_are_served_as_rewards_are(
    tmp_path: Path, kind: str, own: dict[str, Any], output: str, width: int
) -> None:
    """The same inputs and the same code; one output of the stated width."""
    spec = {"format": "roberta", "max_length": 16, "token_type_ids": False, **own}
    directory = reward_directory(tmp_path / "e", "roberta", kind=kind, serializer=spec, outputs=(output,))
    config = _config(manifest.read(directory))
    assert [tensor.name for tensor in config.input] == ["input_ids", "attention_mask"]
    assert [(tensor.name, list(tensor.dims)) for tensor in config.output] == [(output, [width])]
    installed = install(directory, tmp_path / "models")
    assert "class TritonPythonModel" in (installed / "1" / "model.py").read_text()
    assert _config(manifest.read(directory), layout="onnxruntime").backend == "onnxruntime"


CPU = {"target": "cpu", "backend": "onnxruntime-python", "precision": "int8"}
HALF = {"target": "gpu", "backend": "onnxruntime", "precision": "fp16", "file": "1/model.fp16.onnx"}


def _plan(capability: str, profiles: int) -> dict[str, Any]:
    name = f"1/model.cc{capability.replace('.', '')}.plan"
    own = {"compute_capability": capability, "file": name, "profiles": profiles}
    return {"target": "gpu", "backend": "tensorrt", "precision": "fp16", **own}


@pytest.mark.parametrize(("layout", "engine"), [("onnxruntime", "onnxruntime"), ("tensorrt", "tensorrt_plan")])
def test_a_compiled_reward_gets_equal_shapes(reward: manifest.Release, layout: str, engine: str) -> None:
    config = _config(replace(reward, variants=(CPU, HALF, _plan("9.0", 5))), layout=layout)
    assert engine in {config.backend, config.platform}
    assert not any(tensor.allow_ragged_batch for tensor in config.input)
    assert not config.parameters
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_onnx_runtime_runs_the_fp16_graph_on_gpus_and_without_one_the_cpus(reward: manifest.Release) -> None:
    assert _config(replace(reward, variants=(CPU, HALF)), layout="onnxruntime").default_model_filename == (
        "model.fp16.onnx"
    )
    config = _config(replace(reward, variants=(CPU,), outputs=("score", "logit")), layout="onnxruntime")
    assert config.default_model_filename == ""
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU


@pytest.mark.parametrize("variants", [(), (CPU,), (CPU, _plan("9.0", 5))])
def test_onnx_runtime_never_serves_aspects_that_are_logits(reward: manifest.Release, variants: Any) -> None:
    """The CPU's graph gives them so, and our own model finishes them; ONNX Runtime alone would not."""
    assert "aspects" in reward.outputs
    said = "reward-000001 holds no graph whose aspects ONNX Runtime can serve: `ratchet export reward MODEL --like DIR "
    with pytest.raises(ReleaseError, match=f"^{said}--target onnx-fp16` makes one of the model behind it"):
        render(replace(reward, variants=variants), Options(layout="onnxruntime"))
    assert _config(replace(reward, variants=variants or (CPU,))).backend == "python"


def test_each_kind_of_gpu_gets_its_own_plan_and_all_its_profiles(reward: manifest.Release) -> None:
    config = _config(replace(reward, variants=(CPU, _plan("8.0", 5), _plan("9.0", 5))), layout="tensorrt")
    assert dict(config.cc_model_filenames) == {"8.0": "model.cc80.plan", "9.0": "model.cc90.plan"}
    assert list(config.instance_group[0].profile) == ["0", "1", "2", "3", "4"]


def test_plans_of_different_makes_share_the_profile_that_takes_everything(reward: manifest.Release) -> None:
    """A plan by trtexec has that one alone."""
    config = _config(replace(reward, variants=(CPU, _plan("8.0", 1), _plan("9.0", 5))), layout="tensorrt")
    assert list(config.instance_group[0].profile) == ["0"]


def test_a_release_without_what_the_layout_runs_is_refused(reward: manifest.Release, policy: manifest.Release) -> None:
    with pytest.raises(ReleaseError, match="reward-000001 holds no TensorRT plan: `ratchet export plan DIR` makes one"):
        render(replace(reward, variants=(CPU, HALF)), Options(layout="tensorrt"))
    with pytest.raises(ReleaseError, match="no TensorRT plan: `ratchet export reward MODEL --like DIR --target tensor"):
        render(replace(reward, variants=(CPU,)), Options(layout="tensorrt"))
    with pytest.raises(ReleaseError, match="policy-000001 holds nothing for CPUs"):
        render(replace(policy, variants=({"target": "gpu", "backend": "vllm"},)), Options())


def test_a_policy_is_decoupled_and_unbatched_with_vllms_tensors(policy: manifest.Release) -> None:
    config = _config(policy, max_queue=7)
    assert (config.backend, config.max_batch_size) == ("python", 0)
    assert config.model_transaction_policy.decoupled
    assert [tensor.name for tensor in config.input if not tensor.optional] == ["text_input"]
    assert config.parameters["max_queue"].string_value == "7"


def test_vllm_takes_over_in_config_alone(policy: manifest.Release) -> None:
    python, vllm = _config(policy), _config(policy, layout="vllm")
    assert vllm.backend == "vllm"
    assert (vllm.input, vllm.output) == (python.input, python.output)
    assert vllm.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_MODEL
    assert json.loads(render_vllm_engine(policy))["model"] == "tiny"


def test_vllm_loads_the_releases_own_weights_from_where_it_is_installed(tmp_path: Path) -> None:
    source = policy_directory(tmp_path / "policy-000001")
    (source / contract.HF_WEIGHTS).mkdir()
    (source / contract.HF_WEIGHTS / "model.safetensors").write_bytes(b"weights")
    variant = {"target": "gpu", "backend": "vllm", "file": contract.HF_WEIGHTS}
    manifest.write(source, replace(manifest.read(source), variants=(variant,)))
    for _ in ("first", "again"):
        installed = install(source, tmp_path / "models", Options(layout="vllm"))
        engine = json.loads((installed / "1" / "model.json").read_text())
        assert engine["model"] == str(tmp_path / "models" / "policy-000001" / "1" / "hf")
        assert (Path(engine["model"]) / "model.safetensors").is_file()


def test_a_layout_of_the_other_kind_is_refused(reward: manifest.Release, policy: manifest.Release) -> None:
    with pytest.raises(ReleaseError, match="can't be served by the vllm"):
        render(reward, Options(layout="vllm"))
    with pytest.raises(ReleaseError, match="can't be served by the tensorrt"):
        render(policy, Options(layout="tensorrt"))
