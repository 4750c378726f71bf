"""A Hugging Face encoder -> ONNX -> parity -> a release. What it is trained for, its head, is the caller's."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from exporters import golden, graph, plan, variants
from exporters.errors import ExportError, explained
from exporters.parity import Figures
from exporters.source import Checkpoint, Report, open_checkpoint, require_room
from exporters.staging import code_version, now, staged
from exporters.tokenizer import load_fast, save
from exporters.variants import Accept, Judge, Measure, Reference
from triton_models import contract, manifest
from triton_models import golden as answers
from triton_models.contract import Kind
from triton_models.manifest import Release
from triton_models.serializer import Encoded, Serializer

ENCODERS: Final = frozenset(
    {"albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "roberta", "xlm-roberta"}
)
ROBERTAS: Final = frozenset({"camembert", "roberta", "xlm-roberta"})
PRECISIONS: Final = ("int8", "fp32")
CPU, HALF, PLAN = "onnx", "onnx-fp16", "tensorrt"
TARGETS: Final = (CPU, HALF, PLAN)
"""What a release may hold: the CPU's graph, which every one does, an fp16 graph for GPUs, a plan of it for this GPU."""
TEXTS_AT_ONCE: Final = 8
"""Golden rows that are computed together where nobody chooses among them."""
MOST_WEIGHTS: Final = 2 * 10**9
"""Bytes that one ONNX file can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What to make of the model, and how it is recorded.

    `int8` quantises as much as parity, `accept` and `measure` allow, down to nothing: the manifest's variant says what
    it became. `targets` are some of TARGETS; the CPU's graph is always made, and a plan's fp16 graph with it.
    `max_length` is in tokens. `token_type_ids` says whether the model was trained with segment ids; None: as its
    tokenizer says.
    """

    release_id: str
    precision: str = "int8"
    targets: tuple[str, ...] = (CPU,)
    max_length: int = contract.REWARD_MAX_LENGTH
    token_type_ids: bool | None = None
    parent: str | None = None
    base_model: str | None = None
    data_snapshot: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    created_at: str | None = None
    accept: Accept = lambda _: ({}, True)
    measure: Measure = graph.measure


class Head(Judge, Protocol):
    """What a kind of release makes of an encoder."""

    @property
    def kind(self) -> Kind:
        """The kind of release."""

    def require(self, checkpoint: Checkpoint) -> None:
        """Raises ExportError for a checkpoint that can't become this kind."""

    def outputs(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Names of the module's outputs."""

    def module(self, checkpoint: Checkpoint) -> Any:
        """A torch module: (input_ids, attention_mask[, token_type_ids]) -> outputs."""

    def serializer(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The manifest's serializer keys of this kind alone; `max_length`, if there, is the model's own bound."""

    @property
    def group(self) -> int:
        """So many golden rows that follow each other are computed, and chosen from, together."""

    def golden(self, directory: Path, spec: Mapping[str, Any]) -> Encoded:
        """The rows that the conversion is compared on, through the release's own tokenizer."""

    def fields(self) -> dict[str, Any]:
        """Further fields of the manifest."""


def export_encoder(model: Path | str, out: Path, head: Head, conversion: Conversion, report: Report) -> Release:
    """Writes the release directory `out` from a model's directory or hub name, and gives its manifest.

    Raises ExportError, and ReleaseError for what can't be an id; then `out` is left as it was.
    """
    manifest.require_id(conversion.release_id)
    if conversion.precision not in PRECISIONS:
        raise ExportError(f"The precision {conversion.precision} is unknown: use one of {', '.join(PRECISIONS)}.")
    if unknown := sorted(set(conversion.targets) - set(TARGETS)):
        raise ExportError(f"The target {unknown[0]} is unknown for a {head.kind}: use {', '.join(TARGETS)}.")
    here = plan.require() if PLAN in conversion.targets else None
    checkpoint = open_checkpoint(model, report)
    require_encoder(checkpoint, head.kind)
    head.require(checkpoint)
    outputs = head.outputs(checkpoint)
    require_room(checkpoint, out)
    tokenizer = load_fast(checkpoint)
    with staged(out) as directory, explained(f"{checkpoint.name} can't be exported"):
        save(tokenizer, directory / "tokenizer")
        module = head.module(checkpoint)
        own = head.serializer(checkpoint)
        spec = serializer_spec(checkpoint, tokenizer, conversion.max_length, conversion.token_type_ids, own)
        rows = head.golden(directory, spec)
        compared, made = _graphs(module, rows, directory, conversion, spec, head, outputs, here, report)
        release = Release(
            kind=head.kind,
            id=conversion.release_id,
            parent=conversion.parent,
            base_model=conversion.base_model or checkpoint.name,
            architecture=str(checkpoint.config.model_type),
            created_at=conversion.created_at or now(),
            code_version=code_version(),
            serializer=spec,
            outputs=outputs,
            data_snapshot=conversion.data_snapshot,
            metrics=conversion.metrics,
            parity=compared,
            variants=tuple(made),
            batching="ragged" if len(made) == 1 else "bucketed",
            **head.fields(),
        )
        return manifest.write(directory, release)


def require_classifier(checkpoint: Checkpoint, kind: Kind) -> None:
    """Refuses a checkpoint without a classification head."""
    if not checkpoint.architecture.endswith("ForSequenceClassification"):
        raise ExportError(
            f"{checkpoint.name} is a {checkpoint.architecture}: "
            f"a {kind} needs a model with a sequence-classification head."
        )


def labels(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The names of a classification head's outputs, in lower case."""
    names = getattr(checkpoint.config, "id2label", None) or {}
    return tuple(str(names[key]).lower() for key in sorted(names, key=int))


def golden_texts(directory: Path, spec: Mapping[str, Any], *, pairs: bool) -> Encoded:
    """The golden texts each alone and, with `pairs`, each query with each response."""
    serializer = Serializer.load(directory, spec)
    rows = serializer.texts((*golden.QUERIES, *golden.RESPONSES, golden.CONTEXT))
    if pairs:
        rows += serializer.pairs([(query, response) for query in golden.QUERIES for response in golden.RESPONSES])
    return serializer.pad(rows)


def require_encoder(checkpoint: Checkpoint, kind: Kind) -> None:
    """Refuses a model that is no encoder of a known family, or is too large for one ONNX file."""
    name, architecture = checkpoint.name, checkpoint.architecture
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        raise ExportError(f"{name} is a language model ({architecture}): give it as the policy, not the {kind}.")
    if checkpoint.config.model_type not in ENCODERS:
        raise ExportError(
            f"{name} is a {architecture}, which can't be a {kind} here: use one of {', '.join(sorted(ENCODERS))}."
        )
    if checkpoint.weights > MOST_WEIGHTS:
        raise ExportError(f"{name} has {checkpoint.weights / 1e9:.1f} GB of weights; one ONNX file holds 2 GB.")


def serializer_spec(
    checkpoint: Checkpoint,
    tokenizer: Any,
    max_length: int,
    token_type_ids: bool | None = None,
    own: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """The manifest's `serializer`; `own` are its keys of one kind alone, see `Conversion` for the rest."""
    from transformers import AutoModel

    config = checkpoint.config
    window = int(getattr(config, "max_position_embeddings", 512))
    separators = _separators(checkpoint, tokenizer)
    if config.model_type in ROBERTAS:
        window -= int(config.pad_token_id) + 1  # their positions start after the padding's
    family: Any = AutoModel._model_mapping[type(config)]
    has_types = (
        "token_type_ids" in inspect.signature(family.forward).parameters
        and int(getattr(config, "type_vocab_size", 0)) > 1
    )
    trained_with = "token_type_ids" in tokenizer.model_input_names if token_type_ids is None else token_type_ids
    return {
        "format": "roberta" if separators == 2 else "bert",
        "token_type_ids": has_types and trained_with,
        "vocab_size": int(config.vocab_size),
        **own,
        "max_length": min(max_length, window, own.get("max_length", window)),
    }


def _separators(checkpoint: Checkpoint, tokenizer: Any) -> int:
    """How many separators the tokenizer puts between two texts: 1 as BERT does, or 2 as RoBERTa does."""
    for role in ("cls_token", "sep_token", "pad_token"):
        if getattr(tokenizer, role, None) is None:
            raise ExportError(f"{checkpoint.name} has a tokenizer without {role}, which its input needs.")
    ids = tokenizer("a", "b")["input_ids"]
    count = int(ids.count(tokenizer.sep_token_id)) - 1
    if count < 0:  # nothing was added: the tokenizer has no rule for pairs, the family has
        return 2 if checkpoint.config.model_type in ROBERTAS else 1
    if ids[0] != tokenizer.cls_token_id or ids[-1] != tokenizer.sep_token_id or count not in {1, 2}:
        raise ExportError(
            f"{checkpoint.name} has a tokenizer that joins two texts neither as BERT nor as RoBERTa does."
        )
    return count


def _graphs(
    module: Any,
    rows: Encoded,
    directory: Path,
    conversion: Conversion,
    spec: Mapping[str, Any],
    head: Head,
    outputs: tuple[str, ...],
    here: tuple[Any, plan.Built] | None,
    report: Report,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Writes the graphs and golden answers; gives the CPU graph's parity, and all variants, the CPU's first."""
    target = directory / contract.VERSION / "model.onnx"
    target.parent.mkdir()
    report("exporting the ONNX graph")
    sizes = _sizes(len(rows.input_ids), head.group)
    graph.export_graph(module, next(graph.batches(rows, (2,))), outputs, target, spec["max_length"])
    expected = graph.run(partial(graph.run_torch, module), rows, sizes)
    reference = Reference(target, rows, sizes, expected, head)
    difference, allowed = variants.checked(reference)
    _write_golden(directory, reference)
    found = _for_gpus(reference, outputs, conversion, spec["max_length"], here, report)
    cpu: dict[str, Any] = {"target": "cpu", "backend": "onnxruntime-python"}
    compared: Figures = {"rows": len(rows.input_ids), "fp32_largest_difference": difference}
    small = None
    if conversion.precision == "int8":
        report("quantising to int8")
        figures, small = variants.int8(reference, conversion.accept, conversion.measure)
        compared |= figures
    return compared, [cpu | (small or {"precision": "fp32", "tolerance": allowed}), *found]


def _for_gpus(
    reference: Reference,
    outputs: tuple[str, ...],
    conversion: Conversion,
    max_length: int,
    here: tuple[Any, plan.Built] | None,
    report: Report,
) -> list[dict[str, Any]]:
    """Made of the fp32 graph, before an int8 one takes its place."""
    if set(conversion.targets) <= {CPU}:
        return []
    provider = graph.gpu_provider()
    report("casting to fp16")
    found = [variants.fp16(reference, provider)]
    if here is not None:
        report(f"building a TensorRT plan for {here[1].gpu}")
        found.append(variants.tensorrt(reference, outputs, max_length, here, provider))
    return found


def _write_golden(directory: Path, reference: Reference) -> None:
    """The first golden rows with the checkpoint's answers."""
    ids, mask = reference.rows.input_ids[: answers.MOST_ROWS], reference.rows.attention_mask
    rows = tuple(tuple(row[: int(of.sum())].tolist()) for row, of in zip(ids, mask, strict=False))
    served = reference.judge.served([each[: answers.MOST_ROWS] for each in reference.answers], finished=False)
    answers.write(directory, answers.Rows(rows, served))


def _sizes(rows: int, group: int) -> tuple[int, ...]:
    """So many golden rows in groups of `group`, the last one of what is left."""
    return (*(group for _ in range(rows // group)), *([rows % group] if rows % group else []))
