"""config.pbtxt for each backend that can serve a release; parsed by Triton's own protobuf."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.releases import policy_directory, reward_directory
from triton_models import manifest
from triton_models.config import Options, render, render_vllm_engine
from triton_models.manifest import ReleaseError


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


@pytest.mark.parametrize(("layout", "engine"), [("onnxruntime", "onnxruntime"), ("tensorrt", "tensorrt_plan")])
def test_a_compiled_reward_gets_equal_shapes(reward: manifest.Release, layout: str, engine: str) -> None:
    config = _config(reward, layout=layout)
    assert engine in {config.backend, config.platform}
    assert not any(tensor.allow_ragged_batch for tensor in config.input)
    assert not config.parameters


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
    assert '"model": "tiny"' in render_vllm_engine(policy)


def test_a_layout_of_the_other_kind_is_refused(reward: manifest.Release, policy: manifest.Release) -> None:
    with pytest.raises(ReleaseError, match="can't be served by the vllm"):
        render(reward, Options(layout="vllm"))
    with pytest.raises(ReleaseError, match="can't be served by the tensorrt"):
        render(policy, Options(layout="tensorrt"))
