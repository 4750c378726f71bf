"""People's own Hugging Face models on the same path: converted once, served, and refused in a sentence."""

import time
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as tritonclient

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc, user_pb2, user_pb2_grpc
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


@pytest.mark.timeout(600)
def test_embedding_classifiers_and_fallback_serve_and_each_may_fail_alone(home: Path, tmp_path: Path) -> None:
    made = {
        "embedding": tiny_models.sentence_bert(_folder(tmp_path, "embedding")),
        "toxicity": tiny_models.classifier(_folder(tmp_path, "toxicity"), "toxic", "neutral"),
        "entailment": tiny_models.classifier(_folder(tmp_path, "entailment"), "entailment", "neutral", "contradiction"),
        "reward-fallback": tiny_models.bert(_folder(tmp_path, "fallback")),
    }
    flags = [f"--{name}={path}" for name, path in made.items()]
    with serving(home, *flags, "--minimum-reward=0") as ratchet:
        assert ratchet.started["sample"]["degradations"] == []
        (triton,) = [part["address"] for part in ratchet.events[-1]["parts"] if part["name"] == "triton"]
        with grpc.insecure_channel(ratchet.events[-1]["serving"]) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            usual = stub.Generate(_question("ann"), timeout=60)
            assert usual.reward_release == "reward-000001"
            assert not usual.degradations
            assert _embedding_model(channel, "ann").startswith("embedding-")
            with tritonclient.InferenceServerClient(triton) as models:
                loaded = [model.name for model in models.get_model_repository_index().models]
                for kind in ("embedding-", "classifier-", "reward-000001"):
                    for name in filter(lambda name: name.startswith(kind), loaded):
                        (home / "models" / name / "release.json").unlink()  # else it is loaded again at once
                        models.unload_model(name)
            poor = stub.Generate(_question("bob"), timeout=60)
    told = {pb.DegradationReason.Name(each.reason).removeprefix("DEGRADATION_REASON_") for each in poor.degradations}
    assert {"EMBEDDING_UNAVAILABLE", "CLASSIFIER_UNAVAILABLE", "SCORING_FELL_BACK"} <= told
    assert poor.response
    assert poor.reward_release not in ("", "reward-000001")
    assert all(each.HasField("reward_score") for each in poor.candidates if each.text)


def _folder(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir()
    return path


def _question(user: str) -> pb.GenerateRequest:
    return pb.GenerateRequest(query="How long is the warranty?", user_id=user, candidate_count=3)


def _embedding_model(channel: grpc.Channel, user: str) -> str:
    """What the user's profile has learned with; it does so after the reply has left."""
    stub = user_pb2_grpc.UserServiceStub(channel)
    for _ in range(100):
        try:
            profile = stub.GetProfile(user_pb2.GetProfileRequest(user_id=user), timeout=10).profile
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:  # type: ignore[attr-defined]
                raise
            time.sleep(0.1)
        else:
            return str(profile.embedding_model)
    raise AssertionError("nothing was learned")
