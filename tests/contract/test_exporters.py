"""What a conversion refuses once it has read the model's configuration: one sentence, and nothing is written."""

import json
import socket
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from exporters import calibrating, classifier, embedding, graph
from exporters.classifier import export_classifier
from exporters.embedding import export_embedding
from exporters.errors import ExportError
from exporters.policy import export_policy
from exporters.reward import _Scores, export_reward, torch_model
from exporters.source import open_checkpoint
from exporters.tokenizer import shows_functions
from tests import tiny_models
from tests.releases import word_tokenizer
from triton_models import contract, manifest
from triton_models.serializer import Encoded


def _model(home: Path, architecture: str, model_type: str, weights: bytes = b"x", **config: Any) -> Path:
    home.mkdir()
    raw = {"architectures": [architecture], "model_type": model_type, "vocab_size": 8, **config}
    (home / "config.json").write_text(json.dumps(raw))
    if weights:
        (home / "model.safetensors").write_bytes(weights)
    return home


@pytest.mark.parametrize(
    ("architecture", "model_type", "complaint"),
    [
        ("BertForSequenceClassification", "bert", "give it as the reward"),
        ("BertForMaskedLM", "bert", "not a causal language model"),
        ("XLMWithLMHeadModel", "xlm", "CTranslate2 can't convert"),
        ("NoSuchForCausalLM", "no-such", "configuration of .* can't be used"),
    ],
)
def test_a_policy_must_be_a_decoder_that_converts(
    tmp_path: Path, architecture: str, model_type: str, complaint: str
) -> None:
    with pytest.raises(ExportError, match=complaint) as caught:
        export_policy(_model(tmp_path / "m", architecture, model_type), tmp_path / "out", release_id="policy-1")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("architecture", "model_type", "config", "complaint"),
    [
        ("LlamaForCausalLM", "llama", {}, "give it as the policy"),
        ("BertForMaskedLM", "bert", {}, "needs a model with a sequence-classification head"),
        ("LlamaForSequenceClassification", "llama", {}, "use one of albert, bert"),
        ("BertForSequenceClassification", "bert", {"id2label": {str(i): f"{i} stars" for i in range(5)}}, "5 labels"),
        ("BertForSequenceClassification", "bert", {}, "has no tokenizer"),
    ],
)
def test_a_reward_must_be_a_classifier_with_a_known_head(
    tmp_path: Path, architecture: str, model_type: str, config: dict[str, Any], complaint: str
) -> None:
    source = _model(tmp_path / "m", architecture, model_type, **config)
    with pytest.raises(ExportError, match=complaint) as caught:
        export_reward(source, tmp_path / "out", release_id="reward-1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "model_type", "config", "complaint"),
    [
        ("LlamaForCausalLM", "llama", {}, "give it as the policy, not the classifier"),
        ("BertModel", "bert", {}, "a classifier needs a model with a sequence-classification head"),
        ("BertForSequenceClassification", "bert", {"num_labels": 2}, "does not name its labels"),
        ("BertForSequenceClassification", "bert", {"id2label": {"0": "x", "1": "X"}}, "name each of them once"),
        ("BertForSequenceClassification", "bert", {"id2label": {"0": "toxic", "1": "fine"}}, "has no tokenizer"),
    ],
)
def test_a_classifier_must_have_a_head_that_names_its_labels(
    tmp_path: Path, architecture: str, model_type: str, config: dict[str, Any], complaint: str
) -> None:
    source = _model(tmp_path / "m", architecture, model_type, **config)
    with pytest.raises(ExportError, match=complaint) as caught:
        export_classifier(source, tmp_path / "out", release_id="classifier-1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"1_Pooling/config.json": {"pooling_mode_max_tokens": True}}, "pools by pooling_mode_max_tokens"),
        (
            {"modules.json": [{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]},
            "layers after its pool",
        ),
        ({"1_Pooling/config.json": "no object"}, "sentence-transformers files of .* can't be used"),
        ({}, "has no tokenizer"),
    ],
)
def test_an_embedding_must_be_pooled_in_a_known_way(tmp_path: Path, files: dict[str, Any], complaint: str) -> None:
    source = _model(tmp_path / "m", "BertModel", "bert")
    (source / "1_Pooling").mkdir()
    for name, content in files.items():
        (source / name).write_text(json.dumps(content))
    with pytest.raises(ExportError, match=complaint) as caught:
        export_embedding(source, tmp_path / "out", release_id="embedding-1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_embedding_pools_as_its_own_files_say_and_is_quantised_within_parity(tmp_path: Path, pooling: str) -> None:
    """int8 down to fp32, whatever keeps the vectors where they were; the model's own length is kept."""
    source = tiny_models.sentence_bert(tmp_path / "m", pooling=pooling)
    assert embedding.pooling_of(open_checkpoint(source, print)) == pooling
    release = export_embedding(source, tmp_path / "out", release_id="embedding-1", prefix="query: ")
    assert release.serializer["dimension"] == 64
    assert release.serializer["max_length"] == 96
    assert release.serializer["prefix"] == "query: "
    if release.variants[0]["precision"] == "int8":
        assert release.parity["least_cosine"] >= embedding.LEAST_COSINE
    else:
        assert release.parity["refused_int8_least_cosine"] <= 1


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_is_over_a_texts_own_tokens_and_ends_in_unit_length(tmp_path: Path, pooling: Any) -> None:
    """Worked out from the bare encoder's states, where padding counts for nothing."""
    import torch
    from transformers import AutoModel

    source = tiny_models.sentence_bert(tmp_path)
    ids = np.array([[2, 7, 8, 3, 0, 0], [2, 9, 10, 11, 12, 3]])
    rows = Encoded(ids, (ids != 0).astype(np.int64), np.zeros_like(ids))
    (found,) = graph.run_torch(embedding.torch_model(open_checkpoint(source, print), pooling), rows)
    bare = AutoModel.from_pretrained(source).eval()
    for row, length in ((0, 4), (1, 6)):
        with torch.inference_mode():
            states = bare(input_ids=torch.tensor(ids[row : row + 1, :length])).last_hidden_state[0].numpy()
        pooled = states[0] if pooling == "cls" else states.mean(axis=0)
        assert found[row] == pytest.approx(pooled / np.linalg.norm(pooled), abs=1e-4)


def test_a_classifier_is_quantised_within_parity_and_its_labels_can_be_named(tmp_path: Path) -> None:
    source = tiny_models.classifier(tmp_path / "m", "LABEL_0", "LABEL_1")
    release = export_classifier(source, tmp_path / "out", release_id="classifier-1", names=("Neutral ", "toxic"))
    assert release.serializer["labels"] == ["neutral", "toxic"]
    if release.variants[0]["precision"] == "int8":
        assert release.parity["mean_difference"] <= classifier.MOST_DIFFERENCE
    else:
        assert "refused_int8_mean_difference" in release.parity


def test_a_model_that_memory_can_not_hold_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10))
    with pytest.raises(ExportError, match="of memory"):
        export_policy(
            _model(tmp_path / "m", "LlamaForCausalLM", "llama", b"x" * 99), tmp_path / "out", release_id="policy-1"
        )


def test_a_hub_name_without_a_network_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(ExportError, match="hub can't be reached"):
        export_policy("nobody/not-there", tmp_path / "out", release_id="policy-1")


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{% if tools %}{{ tools | tojson }}{% endif %}{{ messages[-1]['content'] }}", True),
        ("{{ messages[-1]['content'] }}", False),
        ("{% if tools %}{{ raise_exception('no tools') }}{% endif %}{{ messages[-1]['content'] }}", False),
        (None, False),
    ],
)
def test_a_policy_can_call_functions_when_its_template_shows_them(template: str | None, shown: bool) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=word_tokenizer("roberta"), chat_template=template)
    assert shows_functions(tokenizer) is shown


def test_a_temperature_can_be_set_again(tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("in", contract.SCORE)]
    nodes = [
        helper.make_node("Identity", ["in"], [contract.LOGIT]),
        helper.make_node("Sigmoid", [contract.LOGIT], [contract.SCORE]),
    ]
    made = helper.make_graph(nodes, "scores", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), tmp_path / "model.onnx")
    for temperature in (2.0, 4.0):
        calibrating.set_temperature(tmp_path / "model.onnx", temperature)
    assert len(onnx.load(tmp_path / "model.onnx").graph.initializer) == 1
    (scores,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"in": np.array([4], np.float32)})
    assert scores == pytest.approx([1 / (1 + np.exp(-1.0))])


def test_the_shipped_starter_reward_ranks_as_its_checkpoint_does() -> None:
    """The gates are stricter than when it was made: it passes them as it lies there."""
    starter = Path(__file__).resolve().parents[2] / "starter"
    released = manifest.read(starter / "reward-000001")
    head = _Scores(1.0, 0.6)
    rows = head.golden(starter / "reward-000001", released.serializer)
    sizes = [head.group] * (len(rows.input_ids) // head.group)
    module = torch_model(open_checkpoint(starter / "encoder", print), 1.0)
    expected = graph.run(partial(graph.run_torch, module), rows, sizes)
    found = graph.run_onnx(starter / "reward-000001" / "1" / "model.onnx", rows, sizes)
    figures, passed = head.compare(expected, found, sizes)
    assert passed
    assert figures["pairs_apart"] > 1000, "enough to tell a hundredth"
