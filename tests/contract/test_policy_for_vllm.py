"""What a policy release holds for vLLM: weights and a tokenizer that reads a rendered prompt as the model was meant to.

vLLM itself is not run here. What it does with a prompt is: `AutoTokenizer.from_pretrained(1/hf)`, then `encode` with
special tokens, as it does with every text that it is given.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from exporters.policy import export_policy
from tests import tiny_models
from triton_models import contract, golden, manifest


def _starts(begin: str, tokenizer: Tokenizer) -> Any:
    return processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )


def llama_3(tokenizer: Tokenizer) -> dict[str, Any]:
    """Bytes, and a sequence of two rules, the second of which begins a text."""
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), _starts("<s>", tokenizer)])
    return {"tokenizer_class": "PreTrainedTokenizerFast"}


def mistral(tokenizer: Tokenizer) -> dict[str, Any]:
    """A class of its own, which is told to begin texts; as SentencePiece has it, spaces are letters."""
    tokenizer.post_processor = _starts("<s>", tokenizer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Metaspace(prepend_scheme="first")])
    return {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "add_eos_token": False, "legacy": False}


def gemma(tokenizer: Tokenizer) -> dict[str, Any]:
    """Another class, which builds its rules anew; pieces as SentencePiece has them, and bytes for what has none."""
    pieces = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    pieces.normalizer = normalizers.Replace(" ", "▁")
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<unk>"]
    special += [f"<0x{byte:02X}>" for byte in range(256)]
    pieces.train_from_iterator(
        tiny_models.TEXTS, trainers.BpeTrainer(special_tokens=special, vocab_size=tokenizer.get_vocab_size())
    )
    pieces.post_processor = _starts("<s>", pieces)
    tokenizer.__setstate__(pieces.__getstate__())
    return {"tokenizer_class": "GemmaTokenizerFast", "unk_token": "<unk>"}


def _checkpoint(home: Path, shape: Callable[[Tokenizer], dict[str, Any]], dtype: Any = torch.float32) -> Path:
    from transformers import AutoModelForCausalLM

    path = tiny_models.llama(home)
    AutoModelForCausalLM.from_pretrained(path, dtype=dtype).save_pretrained(path)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    config = json.loads((path / "tokenizer_config.json").read_text()) | shape(tokenizer)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    for name in ("tekken.json", "params.json", "tokenizer.model"):
        (path / name).write_text("{}")
    (path / "consolidated.safetensors").write_bytes(b"the same weights in another spelling")
    return path


@pytest.mark.parametrize("shape", [llama_3, mistral, gemma])
def test_vllm_reads_a_rendered_prompt_as_the_cpus_layout_does(
    tmp_path: Path, shape: Callable[[Tokenizer], dict[str, Any]]
) -> None:
    """One token begins the text: the template's. The model's own tokenizer would make it two."""
    source = _checkpoint(tmp_path / "hf", shape)
    release = export_policy(source, tmp_path / "out", release_id="policy-1", targets=("vllm",))
    known = golden.read(tmp_path / "out", release)
    assert isinstance(known, golden.Texts)
    home = tmp_path / "out" / contract.HF_WEIGHTS
    own, served = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(home)
    whole = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer" / "tokenizer.json"))
    for prompt in (*known.prompts, "<s><|user|>Xin chào 😀</s><|assistant|>"):
        cpu = whole.encode(prompt, add_special_tokens=False).ids
        assert (cpu[:2].count(1), own(prompt)["input_ids"][:2]) == (1, [1, 1])
        assert served(prompt)["input_ids"] == served.encode(prompt) == cpu
        assert Tokenizer.from_file(str(home / "tokenizer.json")).encode(prompt).ids == cpu
        assert served.decode(cpu[1:], skip_special_tokens=True) == whole.decode(cpu[1:], skip_special_tokens=True)
    assert (served.bos_token, served.eos_token) == ("<s>", "</s>")


def test_one_spelling_of_weights_and_tokenizer_is_there(tmp_path: Path) -> None:
    """Where vLLM finds Mistral's own files beside them, it reads those."""
    source = _checkpoint(tmp_path / "hf", mistral)
    export_policy(source, tmp_path / "out", release_id="policy-1", targets=("vllm",))
    found = {each.name for each in (tmp_path / "out" / contract.HF_WEIGHTS).iterdir()}
    assert found - {"chat_template.jinja"} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    manifest.verify(tmp_path / "out")


def test_each_target_has_the_golden_texts_of_its_own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's are the checkpoint's in its own type; the converted weights answer for themselves."""
    from exporters import policy

    source = _checkpoint(tmp_path / "hf", llama_3, torch.bfloat16)
    types: list[Any] = []
    loaded = policy._model

    def model(*given: Any) -> Any:
        found = loaded(*given)
        types.append(found.dtype)
        return found

    monkeypatch.setattr(policy, "_model", model)
    monkeypatch.setattr(policy, "_converted", lambda *_: lambda ids: _says(ids, 300))
    release = export_policy(source, tmp_path / "out", release_id="policy-1", targets=policy.TARGETS)
    assert types == [torch.float32, torch.bfloat16]
    known = golden.read(tmp_path / "out", release)
    assert isinstance(known, golden.Texts)
    assert known.answers.keys() == {"python", "vllm"}
    alone = export_policy(source, tmp_path / "alone", release_id="policy-1", targets=("vllm",))
    again = golden.read(tmp_path / "alone", alone)
    assert isinstance(again, golden.Texts)
    assert again.answers == {"vllm": known.answers["vllm"]}
    assert known.answers["python"] != known.answers["vllm"]
    assert all(each.tells for each in known.answers["python"])
    assert any(each.tells for each in known.answers["vllm"])


def _says(ids: list[int], token: int) -> Any:
    logits = torch.zeros(600)
    logits[token] = 9.0
    return logits.numpy()
