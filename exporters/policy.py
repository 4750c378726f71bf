"""A Hugging Face causal language model -> CTranslate2 for CPUs, or as it is for vLLM on GPUs -> a policy release."""

import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters import golden, greedy, parity
from exporters.errors import ExportError, explained
from exporters.greedy import Step
from exporters.source import FILES, Checkpoint, Report, open_checkpoint, require_room
from exporters.staging import code_version, now, staged
from exporters.tokenizer import PLAIN_STOP, chat_template, load_fast, save, save_verbatim, shows_functions
from triton_models import contract, manifest
from triton_models import golden as answers
from triton_models.manifest import Release

MAX_CONTEXT: Final = 4096
"""A longer window is cut to this: its cache would not fit beside the rest of a small machine."""
ANSWER_SHARE: Final = 4
"""A prompt may fill the window but for one part in this many, which is kept for the answer."""
LEAST_CORRELATION: Final = 0.9
"""Of the converted model's next-token logits with the checkpoint's; a right int8 conversion is above 0.99."""
CPU, VLLM = "ctranslate2", "vllm"
TARGETS: Final = (CPU, VLLM)
"""What a release may hold: converted weights for CPUs, and the model's own for vLLM's engine."""
LAYOUTS: Final = {CPU: "python", VLLM: "vllm"}
"""Whose answers each target's are: see `triton_models.config`."""
NOT_COPIED: Final = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")
"""Other spellings of the tokenizer, which is written anew ..."""
MISTRALS: Final = ("tekken.json", "params.json", "consolidated*")
"""... and of a whole model: where vLLM sees these it reads no other file."""
QUANTIZATIONS: Final = ("int8", "int8_float32", "float32", "float16", "bfloat16")


def export_policy(
    model: Path | str,
    out: Path,
    *,
    release_id: str,
    quantization: str = "int8",
    targets: Sequence[str] = (CPU,),
    max_context: int = MAX_CONTEXT,
    parent: str | None = None,
    base_model: str | None = None,
    data_snapshot: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    created_at: str | None = None,
    report: Report = lambda _: None,
) -> Release:
    """Writes the release directory `out` from a model's directory or hub name, and gives its manifest.

    `targets` are some of TARGETS. Raises ExportError, and ReleaseError for what can't be an id; then `out` is left as
    it was.
    """
    manifest.require_id(release_id)
    if quantization not in QUANTIZATIONS:
        raise ExportError(f"The quantization {quantization} is unknown: use one of {', '.join(QUANTIZATIONS)}.")
    if not targets or not set(targets) <= set(TARGETS):
        raise ExportError(f"The targets {', '.join(targets)} are not of a policy: use {' or '.join(TARGETS)}.")
    checkpoint = open_checkpoint(model, report)
    _require_causal(checkpoint, convertible=CPU in targets)
    require_room(checkpoint, out)
    tokenizer = load_fast(checkpoint)
    with staged(out) as directory, explained(f"{checkpoint.name} can't be exported"):
        (directory / contract.VERSION).mkdir()
        template = chat_template(tokenizer)
        save(tokenizer, directory / "tokenizer", template)
        if VLLM in targets:
            report("copying the weights for vLLM")
            _copy(checkpoint, directory / contract.HF_WEIGHTS)
            save_verbatim(tokenizer, directory / contract.HF_WEIGHTS, template)
        ct2 = directory / contract.VERSION / "ct2" if CPU in targets else None
        if ct2:
            report("converting the weights to CTranslate2")
            _convert(checkpoint, ct2, quantization)
        report("comparing with the checkpoint" if ct2 else "writing the golden answers")
        spec = _serializer(checkpoint, tokenizer, max_context)
        compared = _compared(checkpoint, tokenizer, ct2) if ct2 else {}
        answers.write(directory, _golden(checkpoint, tokenizer, template, spec, ct2, targets))
        release = Release(
            kind="policy",
            id=release_id,
            parent=parent,
            base_model=base_model or checkpoint.name,
            architecture=str(checkpoint.config.model_type),
            created_at=created_at or now(),
            code_version=code_version(),
            serializer=spec,
            outputs=(contract.TEXT_OUTPUT,),
            data_snapshot=data_snapshot,
            metrics=metrics or {},
            parity=compared,
            variants=tuple(_variant(checkpoint, target, quantization) for target in TARGETS if target in targets),
        )
        return manifest.write(directory, release)


def _variant(checkpoint: Checkpoint, target: str, quantization: str) -> dict[str, Any]:
    if target == CPU:
        return {"target": "cpu", "backend": "ctranslate2-python", "precision": quantization}
    precision = str(getattr(checkpoint.config, "dtype", None) or "float32").removeprefix("torch.")
    return {"target": "gpu", "backend": "vllm", "precision": precision, "file": contract.HF_WEIGHTS}


def _copy(checkpoint: Checkpoint, home: Path) -> None:
    """Configuration and weights as vLLM reads them; safetensors alone where there are some."""
    home.mkdir()
    chosen = [pattern for pattern in FILES if pattern != "*.bin" or not any(checkpoint.path.glob("*.safetensors"))]
    for file in {file for pattern in chosen for file in checkpoint.path.glob(pattern)}:
        if not any(fnmatch(file.name, pattern) for pattern in (*NOT_COPIED, *MISTRALS)):
            shutil.copyfile(file, home / file.name)


def _require_causal(checkpoint: Checkpoint, *, convertible: bool) -> None:
    architecture = checkpoint.architecture
    if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        if not convertible and not checkpoint.config.is_encoder_decoder:
            return
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

    with explained(f"CTranslate2 can't convert {checkpoint.name}"):
        TransformersConverter(str(checkpoint.path), low_cpu_mem_usage=True).convert(str(ct2), quantization=quantization)


def _golden(
    checkpoint: Checkpoint,
    tokenizer: Any,
    template: str,
    spec: Mapping[str, Any],
    ct2: Path | None,
    targets: Sequence[str],
) -> answers.Texts:
    """What each target's own weights certainly go on with after the golden prompts."""
    messages = [[{"role": "user", "content": query}] for query in golden.QUERIES]
    options: dict[str, Any] = {"chat_template": template, "tokenize": False, "add_generation_prompt": True}
    prompts = [str(tokenizer.apply_chat_template(each, **options)) for each in messages]
    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    found = {}
    for target in TARGETS:
        if target in targets:
            step = _converted(ct2, tokenizer) if target == CPU and ct2 else _own(checkpoint)
            texts = (greedy.answered(step, each, tokenizer, spec["end_tokens"], spec["stop"]) for each in ids)
            found[LAYOUTS[target]] = tuple(texts)
    return answers.Texts(tuple(prompts), greedy.TOKENS, found)


def _converted(ct2: Path, tokenizer: Any) -> Step:
    """The converted weights, as CTranslate2 computes with them."""
    import ctranslate2

    generator = ctranslate2.Generator(str(ct2), device="cpu")

    def step(ids: list[int]) -> parity.Floats:
        found: parity.Floats = np.array(generator.forward_batch([tokenizer.convert_ids_to_tokens(ids)]))[0, -1]
        return found

    return step


def _own(checkpoint: Checkpoint) -> Step:
    """The checkpoint in its own type, which is what vLLM computes in as well."""
    import torch

    model = _model(checkpoint, "auto")

    def step(ids: list[int]) -> parity.Floats:
        with torch.inference_mode():
            found: parity.Floats = model(torch.tensor([ids])).logits[0, -1].float().numpy()
        return found

    return step


def _model(checkpoint: Checkpoint, dtype: Any) -> Any:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=dtype)
    return model.eval()


def _compared(checkpoint: Checkpoint, tokenizer: Any, ct2: Path) -> dict[str, float]:
    """Next-token logits of the golden texts, converted against the checkpoint in fp32. Raises ExportError."""
    import ctranslate2
    import torch

    model, generator = _model(checkpoint, torch.float32), ctranslate2.Generator(str(ct2), device="cpu")
    expected, found = [], []
    for prompt in golden.PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        with torch.inference_mode():
            expected.append(model(torch.tensor([ids])).logits[0].numpy())
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
        "functions": shows_functions(tokenizer),
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
