"""A Hugging Face causal language model -> CTranslate2 -> a policy release."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters import golden, parity
from exporters.errors import ExportError, explained
from exporters.source import Checkpoint, Report, open_checkpoint, require_room
from exporters.staging import code_version, now, staged
from exporters.tokenizer import PLAIN_STOP, chat_template, load_fast, save
from triton_models import contract, manifest
from triton_models.manifest import Release

MAX_CONTEXT: Final = 4096
"""A longer window is cut to this: its cache would not fit beside the rest of a small machine."""
ANSWER_SHARE: Final = 4
"""A prompt may fill the window but for one part in this many, which is kept for the answer."""
LEAST_CORRELATION: Final = 0.9
"""Of the converted model's next-token logits with the checkpoint's; a right int8 conversion is above 0.99."""
QUANTIZATIONS: Final = ("int8", "int8_float32", "float32", "float16", "bfloat16")


def export_policy(
    model: Path | str,
    out: Path,
    *,
    release_id: str,
    quantization: str = "int8",
    max_context: int = MAX_CONTEXT,
    parent: str | None = None,
    base_model: str | None = None,
    data_snapshot: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    created_at: str | None = None,
    report: Report = lambda _: None,
) -> Release:
    """Writes the release directory `out` from a model's directory or hub name, and gives its manifest.

    Raises ExportError; then `out` is left as it was.
    """
    if quantization not in QUANTIZATIONS:
        raise ExportError(f"The quantization {quantization} is unknown: use one of {', '.join(QUANTIZATIONS)}.")
    checkpoint = open_checkpoint(model, report)
    _require_causal(checkpoint)
    require_room(checkpoint, out)
    tokenizer = load_fast(checkpoint)
    with staged(out) as directory, explained(f"{checkpoint.name} can't be exported"):
        report("converting the weights to CTranslate2")
        ct2 = directory / contract.VERSION / "ct2"
        _convert(checkpoint, ct2, quantization)
        save(tokenizer, directory / "tokenizer", chat_template(tokenizer))
        report("comparing with the checkpoint")
        compared = _compare(checkpoint, tokenizer, ct2)
        release = Release(
            kind="policy",
            id=release_id,
            parent=parent,
            base_model=base_model or checkpoint.name,
            architecture=str(checkpoint.config.model_type),
            created_at=created_at or now(),
            code_version=code_version(),
            serializer=_serializer(checkpoint, tokenizer, max_context),
            outputs=(contract.TEXT_OUTPUT,),
            data_snapshot=data_snapshot,
            metrics=metrics or {},
            parity=compared,
            variants=({"target": "cpu", "backend": "ctranslate2-python", "precision": quantization},),
        )
        return manifest.write(directory, release)


def _require_causal(checkpoint: Checkpoint) -> None:
    architecture = checkpoint.architecture
    if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        from ctranslate2.converters import transformers as converters

        kind = type(checkpoint.config).__name__
        if kind in converters._MODEL_LOADERS and not checkpoint.config.is_encoder_decoder:
            return
        raise ExportError(
            f"{checkpoint.name} is a {architecture}, which CTranslate2 can't convert: "
            "use a decoder such as Llama, Mistral, Qwen2, Gemma, Phi or GPT-2."
        )
    if architecture.endswith("ForSequenceClassification"):
        raise ExportError(f"{checkpoint.name} is a classifier ({architecture}): give it as the reward, not the policy.")
    raise ExportError(f"{checkpoint.name} is a {architecture}, not a causal language model: it can't write answers.")


def _convert(checkpoint: Checkpoint, ct2: Path, quantization: str) -> None:
    from ctranslate2.converters import TransformersConverter

    ct2.parent.mkdir(parents=True)
    with explained(f"CTranslate2 can't convert {checkpoint.name}"):
        TransformersConverter(str(checkpoint.path), low_cpu_mem_usage=True).convert(str(ct2), quantization=quantization)


def _compare(checkpoint: Checkpoint, tokenizer: Any, ct2: Path) -> dict[str, float]:
    """Next-token logits of the golden prompts, converted against the checkpoint in fp32."""
    import ctranslate2
    import torch
    from transformers import AutoModelForCausalLM

    torch_model: Any = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32)
    torch_model.eval()
    generator = ctranslate2.Generator(str(ct2), device="cpu")
    expected, found = [], []
    for prompt in golden.PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        with torch.inference_mode():
            expected.append(torch_model(torch.tensor([ids])).logits[0].numpy())
        tokens = [tokenizer.convert_ids_to_tokens(ids)]
        found.append(np.array(generator.forward_batch(tokens))[0][:, : expected[-1].shape[-1]])
    return _agreement(checkpoint.name, np.concatenate(expected), np.concatenate(found))


def _agreement(name: str, expected: parity.Floats, found: parity.Floats) -> dict[str, float]:
    width = min(expected.shape[1], found.shape[1])  # either may pad its vocabulary
    expected, found = expected[:, :width], found[:, :width]
    correlation = parity.correlation(expected, found)
    if not correlation >= LEAST_CORRELATION:
        raise ExportError(
            f"The converted {name} doesn't predict what the checkpoint does (correlation {correlation:.2f}): "
            "try --quantization float32."
        )
    same = float(np.mean(expected.argmax(axis=1) == found.argmax(axis=1)))
    return {"logit_correlation": round(correlation, 6), "same_next_token": round(same, 4)}


def _serializer(checkpoint: Checkpoint, tokenizer: Any, max_context: int) -> dict[str, Any]:
    config = checkpoint.config
    window = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 2048
    window = min(int(window), max_context)
    return {
        "max_input_tokens": window - max(1, window // ANSWER_SHARE),
        "max_context": window,
        "chat_template": True,  # the plain one where the model has none
        "seeded": False,
        "end_tokens": _end_tokens(checkpoint, tokenizer),
        "stop": [] if tokenizer.chat_template else list(PLAIN_STOP),
    }


def _end_tokens(checkpoint: Checkpoint, tokenizer: Any) -> list[int]:
    """All ids that end a text: chat models often have another one beside the tokenizer's."""
    from transformers import GenerationConfig

    found = [tokenizer.eos_token_id, getattr(checkpoint.config, "eos_token_id", None)]
    if (checkpoint.path / "generation_config.json").is_file():
        found.append(GenerationConfig.from_pretrained(checkpoint.path).eos_token_id)
    flat = {token for each in found for token in (each if isinstance(each, list) else [each]) if token is not None}
    if not flat:
        raise ExportError(f"{checkpoint.name} names no end-of-text token: its answers would never end.")
    return sorted(flat)
