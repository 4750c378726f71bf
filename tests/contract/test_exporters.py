"""What a conversion refuses once it has read the model's configuration: one sentence, and nothing is written."""

import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from exporters.errors import ExportError
from exporters.policy import export_policy
from exporters.reward import export_reward


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
