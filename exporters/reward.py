"""A Hugging Face sequence-classification model -> ONNX -> a reward release."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exporters import golden, graph, parity
from exporters.errors import ExportError, explained
from exporters.source import Checkpoint, Report, open_checkpoint, require_room
from exporters.staging import code_version, now, staged
from exporters.tokenizer import load_fast, save
from triton_models import contract, manifest
from triton_models.manifest import Release
from triton_models.serializer import Encoded, RewardSerializer

ENCODERS: Final = frozenset(
    {"albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "roberta", "xlm-roberta"}
)
ROBERTAS: Final = frozenset({"camembert", "roberta", "xlm-roberta"})
PRECISIONS: Final = ("int8", "fp32")
FP32_TOLERANCE: Final = 1e-4
LEAST_AGREEMENT: Final = 0.9
"""Share of golden pairs that an int8 graph must order like the checkpoint."""
MOST_WEIGHTS: Final = 2 * 10**9
"""Bytes that one ONNX file can hold."""


def export_reward(
    model: Path | str,
    out: Path,
    *,
    release_id: str,
    precision: str = "int8",
    max_length: int = contract.REWARD_MAX_LENGTH,
    token_type_ids: bool | None = None,
    temperature: float = 1.0,
    threshold: float = contract.DEFAULT_THRESHOLD,
    parent: str | None = None,
    base_model: str | None = None,
    data_snapshot: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    created_at: str | None = None,
    report: Report = lambda _: None,
) -> Release:
    """Writes the release directory `out` from a model's directory or hub name, and gives its manifest.

    `int8` quantises as much as keeps the golden inputs' order, down to nothing: the manifest's variant says
    what it became. `token_type_ids` says whether the model was trained with segment ids; None: as its
    tokenizer says. Raises ExportError; then `out` is left as it was.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"The precision {precision} is unknown: use one of {', '.join(PRECISIONS)}.")
    checkpoint = open_checkpoint(model, report)
    _require_classifier(checkpoint)
    outputs = graph.output_names(checkpoint)
    require_room(checkpoint, out)
    tokenizer = load_fast(checkpoint)
    with staged(out) as directory, explained(f"{checkpoint.name} can't be exported"):
        save(tokenizer, directory / "tokenizer")
        module = graph.torch_model(checkpoint, temperature)
        spec = _serializer(checkpoint, tokenizer, module, max_length, token_type_ids)
        rows = _golden_rows(directory, spec)
        compared, reached = _convert(module, rows, outputs, directory, precision, spec["max_length"], report)
        release = Release(
            kind="reward",
            id=release_id,
            parent=parent,
            base_model=base_model or checkpoint.name,
            architecture=str(checkpoint.config.model_type),
            created_at=created_at or now(),
            code_version=code_version(),
            serializer=spec,
            outputs=outputs,
            calibration={"temperature": temperature},
            threshold=threshold,
            data_snapshot=data_snapshot,
            metrics=metrics or {},
            parity=compared,
            variants=({"target": "cpu", "backend": "onnxruntime-python", **reached},),
        )
        return manifest.write(directory, release)


def _require_classifier(checkpoint: Checkpoint) -> None:
    name, architecture = checkpoint.name, checkpoint.architecture
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        raise ExportError(f"{name} is a language model ({architecture}): give it as the policy, not the reward.")
    if not architecture.endswith("ForSequenceClassification"):
        raise ExportError(f"{name} is a {architecture}: a reward needs a model with a sequence-classification head.")
    if checkpoint.config.model_type not in ENCODERS:
        raise ExportError(
            f"{name} is a {architecture}, which can't be a reward here: use one of {', '.join(sorted(ENCODERS))}."
        )
    if checkpoint.weights > MOST_WEIGHTS:
        raise ExportError(f"{name} has {checkpoint.weights / 1e9:.1f} GB of weights; one ONNX file holds 2 GB.")


def _serializer(
    checkpoint: Checkpoint, tokenizer: Any, module: Any, max_length: int, token_type_ids: bool | None
) -> dict[str, Any]:
    config = checkpoint.config
    window = int(getattr(config, "max_position_embeddings", 512))
    separators = _separators(checkpoint, tokenizer)
    if config.model_type in ROBERTAS:
        window -= int(config.pad_token_id) + 1  # their positions start after the padding's
    has_types = (
        "token_type_ids" in inspect.signature(module.inner.forward).parameters
        and int(getattr(config, "type_vocab_size", 0)) > 1
    )
    trained_with = "token_type_ids" in tokenizer.model_input_names if token_type_ids is None else token_type_ids
    return {
        "format": "roberta" if separators == 2 else "bert",
        "max_length": min(max_length, window),
        "token_type_ids": has_types and trained_with,
        "vocab_size": int(config.vocab_size),
    }


def _separators(checkpoint: Checkpoint, tokenizer: Any) -> int:
    """How many separators the tokenizer puts between two texts: 1 as BERT does, or 2 as RoBERTa does."""
    for role in ("cls_token", "sep_token", "pad_token"):
        if getattr(tokenizer, role, None) is None:
            raise ExportError(f"{checkpoint.name} has a tokenizer without {role}, which a reward's input needs.")
    ids = tokenizer("a", "b")["input_ids"]
    count = int(ids.count(tokenizer.sep_token_id)) - 1
    if count < 0:  # nothing was added: the tokenizer has no rule for pairs, the family has
        return 2 if checkpoint.config.model_type in ROBERTAS else 1
    if ids[0] != tokenizer.cls_token_id or ids[-1] != tokenizer.sep_token_id or count not in {1, 2}:
        raise ExportError(
            f"{checkpoint.name} has a tokenizer that joins two texts neither as BERT nor as RoBERTa does."
        )
    return count


def _golden_rows(directory: Path, spec: Mapping[str, Any]) -> Encoded:
    """The golden inputs through the release's own tokenizer."""
    serializer = RewardSerializer.load(directory, spec)
    rows = [
        row
        for context in (golden.CONTEXT, "")
        for query in golden.QUERIES
        for row in serializer.serialize(context, query, golden.RESPONSES)
    ]
    return serializer.pad(rows)


def _convert(
    module: Any,
    rows: Encoded,
    outputs: tuple[str, ...],
    directory: Path,
    precision: str,
    max_length: int,
    report: Report,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes 1/model.onnx; gives the parity and what the variant became."""
    target = directory / contract.VERSION / "model.onnx"
    target.parent.mkdir()
    report("exporting the ONNX graph")
    graph.export_graph(module, _first(rows, 2), outputs, target, max_length)
    expected = graph.run_torch(module, rows)
    difference = max(
        parity.largest_difference(*pair) for pair in zip(expected, graph.run_onnx(target, rows), strict=True)
    )
    if not difference <= FP32_TOLERANCE:
        raise ExportError(
            f"The ONNX graph differs from the checkpoint by {difference:.1e}: more than {FP32_TOLERANCE}."
        )
    compared: dict[str, Any] = {"rows": len(rows.input_ids), "fp32_largest_difference": difference}
    if precision == "fp32":
        return compared, {"precision": "fp32"}
    report("quantising to int8")
    return _quantized(target, rows, expected, compared)


def _quantized(
    target: Path, rows: Encoded, expected: list[graph.Floats], compared: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Replaces the fp32 graph by the smallest int8 one that keeps the order."""
    for embeddings in (True, False):
        small = target.with_name("int8.onnx")
        graph.quantize(target, small, embeddings=embeddings)
        score, logit, *_ = graph.run_onnx(small, rows)
        agreement = parity.rank_agreement(expected[1][:, 0], logit[:, 0])
        tried = {
            "rank_agreement": round(agreement, 4),
            "score_largest_difference": float(abs(score - expected[0]).max()),
        }
        if agreement >= LEAST_AGREEMENT:
            small.replace(target)
            return compared | tried, {"precision": "int8", "int8_embeddings": embeddings}
        small.unlink()
        compared["refused_int8_rank_agreement"] = round(agreement, 4)
    return compared, {"precision": "fp32"}


def _first(rows: Encoded, count: int) -> Encoded:
    types = rows.token_type_ids
    return Encoded(rows.input_ids[:count], rows.attention_mask[:count], None if types is None else types[:count])
