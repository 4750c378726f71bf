"""The starter's checkpoint: what training goes on from is the reward model that serves."""

import random
from pathlib import Path

import numpy as np
import pytest

from trainer.errors import TrainerError
from trainer.reward import base as bases
from trainer.reward.config import RewardConfig
from trainer.reward.configuring import configured
from trainer.starter import STARTER, base, corpus, encoder, publish, reward, tokenizer
from trainer.starter.query import StarterError
from triton_models.serializer import RewardSerializer

RELEASE = STARTER / publish.REWARD


def _rows() -> list[list[int]]:
    """Answers of about equal length to two queries: the graph's rounding depends on its neighbours but little."""
    serializer = RewardSerializer.load(RELEASE, reward.SPEC)
    return [
        row
        for one in corpus.asked(11, "heldout", 12)
        for row in reward.serialized(serializer, one.query, [one.answer(random.Random(n)).text for n in range(5)])
    ]


def _logits(directory: Path) -> np.ndarray:
    import torch

    from exporters.graph import classification_model

    model = classification_model(directory).eval()
    serializer = RewardSerializer.load(directory, reward.SPEC)
    found = []
    with torch.inference_mode():
        for row in _rows():
            encoded = serializer.pad([row])
            tensors = (encoded.input_ids, encoded.attention_mask, encoded.token_type_ids)
            ids, mask, types = (torch.from_numpy(array) for array in tensors)
            found.append(float(model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits[0, 0]))
    return np.array(found)


def test_the_checkpoint_scores_as_the_shipped_release_does() -> None:
    """Nearer than int8 is to float: the checkpoint is of this release and of no other."""
    import onnxruntime

    session = onnxruntime.InferenceSession(RELEASE / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    serializer = RewardSerializer.load(RELEASE, reward.SPEC)
    served = []
    for row in _rows():
        encoded = serializer.pad([row])
        feeds = {
            "input_ids": encoded.input_ids,
            "attention_mask": encoded.attention_mask,
            "token_type_ids": encoded.token_type_ids,
        }
        served.append(float(session.run(["logit"], feeds)[0][0, 0]))
    difference = np.abs(1 / (1 + np.exp(-_logits(base()))) - 1 / (1 + np.exp(-np.array(served))))
    assert difference.max() < 0.02
    assert np.ptp(served) > 1  # they do differ among each other


def test_it_is_what_reading_the_release_back_gives(tmp_path: Path) -> None:
    """Half precision takes nothing that ranking needs: the same order of all 60 answers."""
    encoder.restore(RELEASE, tmp_path / "model", reward.RewardPlan().hidden // 32)
    assert list(np.argsort(_logits(tmp_path / "model"))) == list(np.argsort(_logits(base())))
    encoder.publish(tmp_path / "model", tmp_path / "halves")
    names = {file.name for file in base().iterdir()}
    assert {file.name for file in (tmp_path / "halves").iterdir()} == names
    for name in names:
        assert (tmp_path / "halves" / name).read_bytes() == (base() / name).read_bytes()


def test_a_graph_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StarterError, match="is not a starter reward's"):
        encoder.restore(_without_a_layers_bias(tmp_path / "release"), tmp_path / "model", 6)
    assert not (tmp_path / "model").exists()


def _without_a_layers_bias(release: Path) -> Path:
    """The release with one weight of the graph renamed to none of the model's."""
    import shutil

    import onnx

    shutil.copytree(RELEASE, release)
    graph = onnx.load(str(release / "1" / "model.onnx"))
    for node in graph.graph.node:
        node.input[:] = ["inner.stranger.bias" if name == "inner.classifier.bias" else name for name in node.input]
    for each in graph.graph.initializer:
        if each.name == "inner.classifier.bias":
            each.name = "inner.stranger.bias"
    onnx.save(graph, str(release / "1" / "model.onnx"))
    return release


def test_the_tokenizer_joins_texts_as_the_releases_does() -> None:
    assert (base() / "tokenizer.json").read_bytes() == (RELEASE / "tokenizer" / "tokenizer.json").read_bytes()
    assert tokenizer.SPECIAL[0] == tokenizer.PAD


def test_it_brings_the_settings_of_its_training_which_give_way_to_those_that_are_named() -> None:
    found = bases.Base("starter/encoder", base(), "digest")
    own = bases.suited(RewardConfig(), found).train
    assert own.learning_rate > RewardConfig().train.learning_rate
    named = bases.suited(configured({"train.learning_rate": 2e-5, "data.user_cap": 0.5}), found)
    assert named.train.learning_rate == 2e-5
    assert named.data.user_cap == 0.5
    assert named.train.alpha == own.alpha != RewardConfig().train.alpha


def test_another_base_has_the_usual_settings(tmp_path: Path) -> None:
    assert bases.suited(RewardConfig(), bases.Base("other", tmp_path, "digest")) == RewardConfig()


def test_settings_of_a_base_that_there_are_not_are_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / bases.SETTINGS).write_text("[train]\nlerning_rate = 1\n")
    with pytest.raises(TrainerError, match="lerning_rate is no setting of a run: did you mean"):
        bases.suited(RewardConfig(), bases.Base("other", tmp_path, "digest"))


@pytest.mark.parametrize(
    "line", ["gate.most_ece = 1.0", "least_pairs = 1", 'base = "other"', "seed = 3", "seeds = 9", "user_share = 0"]
)
def test_a_base_can_t_say_how_it_is_judged(tmp_path: Path, line: str) -> None:
    (tmp_path / bases.SETTINGS).write_text(f"{line}\n[train]\nlearning_rate = 1e-3\n")
    name = line.partition(" ")[0]
    with pytest.raises(TrainerError, match=f"may not set .*{name}: a base says how it is trained"):
        bases.suited(RewardConfig(), bases.Base("other", tmp_path, "digest"))
