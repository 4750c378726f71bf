"""People's own Hugging Face models on the same path: converted once, served, and refused in a sentence."""

from pathlib import Path

import grpc
import pytest

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc
from tests import tiny_models
from tests.e2e.serving import serving


@pytest.mark.timeout(300)
@pytest.mark.parametrize("make_reward", [tiny_models.bert, tiny_models.roberta])
def test_a_llama_and_an_encoder_are_converted_once_and_served(home: Path, tmp_path: Path, make_reward: object) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "reward").mkdir()
    policy = tiny_models.llama(tmp_path / "policy")
    reward = make_reward(tmp_path / "reward")  # type: ignore[operator]
    flags = (f"--policy={policy}", f"--reward={reward}")
    with serving(home, *flags) as first:
        releases = first.started["sample"]["policy_release"], first.events[-1]["sample"]["reward_release"]
        assert sum("converting" in str(event.get("event")) for event in first.events) == 2
    with serving(home, *flags) as again, grpc.insecure_channel(again.started["serving"]) as channel:
        assert not any("converting" in str(event.get("event")) for event in again.events)
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        reply = stub.Generate(pb.GenerateRequest(query="Xin chào 🎉", candidate_count=3), timeout=60)
        assert (reply.policy_release, reply.reward_release) == releases
        assert all(0 <= each.reward_score <= 1 for each in reply.candidates if each.text)


@pytest.mark.timeout(120)
def test_what_can_not_be_converted_is_refused_in_a_sentence(home: Path, tmp_path: Path) -> None:
    encoder = tiny_models.bert(tmp_path)
    with serving(home, f"--policy={encoder}") as refused:
        said = refused.errors()
        assert refused.process.returncode == 1
    assert "could not be converted to a policy release" in said
    assert "Traceback" not in said
