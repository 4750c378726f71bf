"""Renders a release's `config.pbtxt` for Triton.

The layout says which Triton backend serves it: `python` (our `model.py` on CPUs) is what runs without a GPU;
`vllm` for a policy and `onnxruntime` or `tensorrt` for an encoder change nothing but this file (and vLLM's
`1/model.json`). Fields: triton-inference-server/common, protobuf/model_config.proto.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from triton_models import contract
from triton_models.manifest import Release, ReleaseError

Layout = Literal["python", "vllm", "onnxruntime", "tensorrt"]
_LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "reward": ("python", "onnxruntime", "tensorrt"),
    "embedding": ("python", "onnxruntime", "tensorrt"),
    "classifier": ("python", "onnxruntime", "tensorrt"),
    "policy": ("python", "vllm"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a release is run, which is the operator's choice and no part of the release."""

    layout: Layout = "python"
    instances: int = 1
    threads: int = 0
    """CPU threads an instance computes with; 0: one a core."""
    max_queue_delay_us: int = 0
    """How long an encoder's first request waits for others to share its batch. What queues while a batch runs shares
    the next one in any case."""
    max_queue: int = 256
    """Requests that may wait for the policy; more are refused at once."""
    max_batch: int = 32
    """Candidates that the policy generates in one call."""
    gpu_memory: float = 0.8
    """Share of the GPU that vLLM may take."""


@dataclass(frozen=True, slots=True)
class Word:
    """An enum value or number: written without quotes."""

    text: str


Value = str | int | bool | Word | Mapping[str, "Value"] | Sequence["Value"]


def render(release: Release, options: Options | None = None) -> str:
    """The text of `config.pbtxt`. Raises ReleaseError when the layout can't serve this kind of release."""
    chosen = options or Options()
    if chosen.layout not in _LAYOUTS[release.kind]:
        raise ReleaseError(f"A {release.kind} can't be served by the {chosen.layout} backend.")
    if chosen.layout == "python" and release.variants and not any(v["target"] == "cpu" for v in release.variants):
        raise ReleaseError(f"{release.id} holds nothing for CPUs: export it with --target ctranslate2 too.")
    fields = _policy(release, chosen) if release.kind == "policy" else _encoder(release, chosen)
    return "# Rendered by triton_models.config; changes are lost when the release is installed again.\n" + _text(fields)


def render_vllm_engine(release: Release, options: Options | None = None, home: Path | None = None) -> str:
    """The text of vLLM's `1/model.json`: its engine arguments for this policy's own weights, or its base model's.

    `home` is the release's directory as Triton sees it.
    """
    chosen = options or Options()
    own = home and next(_variants(release, "vllm"), None)
    engine = {
        "model": str(home / contract.HF_WEIGHTS) if home and own else release.base_model,
        "max_model_len": int(release.serializer["max_context"]),
        "gpu_memory_utilization": chosen.gpu_memory,
        "enable_prefix_caching": True,  # the candidates of one query share their prompt
    }
    return json.dumps(engine, indent=2) + "\n"


def layout_of(text: str) -> Layout:
    """Which layout the text of a `config.pbtxt` is. Raises ReleaseError when it is none of ours."""
    for layout in get_args(Layout):
        if _text(_backend(layout)) in text:
            return cast("Layout", layout)
    raise ReleaseError("A config.pbtxt names no backend of ours: install the release again.")


def _encoder(release: Release, options: Options) -> dict[str, Value]:
    ragged = options.layout == "python" and release.batching == "ragged"
    names = [contract.INPUT_IDS, contract.ATTENTION_MASK]
    if release.serializer["token_type_ids"]:
        names.append(contract.TOKEN_TYPE_IDS)
    inputs = [_tensor(name, "INT64", -1, **({"allow_ragged_batch": True} if ragged else {})) for name in names]
    sizes = {
        contract.ASPECTS: len(contract.ASPECT_NAMES),
        contract.EMBEDDING: release.serializer.get("dimension", 1),
        contract.PROBABILITIES: len(release.serializer.get("labels", ())),
    }
    # No preferred sizes: they would hold back a batch that nobody is going to fill.
    # And no queue policy: with one, Triton 2.51's batcher misses wake-ups, and requests wait for its 500 ms
    # poll (measured: docs/performance.md). Ratchet bounds its calls itself.
    batching: dict[str, Value] = {"max_queue_delay_microseconds": options.max_queue_delay_us}
    return {
        "name": release.id,
        **_backend(options.layout),
        "max_batch_size": contract.REWARD_MAX_BATCH,
        "input": inputs,
        "output": [_tensor(name, "FP32", sizes.get(name, 1)) for name in release.outputs],
        "dynamic_batching": batching,
        **_placed(release, options),
        **(_parameters(threads=options.threads) if options.layout == "python" else {}),
    }


def _policy(release: Release, options: Options) -> dict[str, Value]:
    flags = (
        contract.EXCLUDE_INPUT,
        contract.RETURN_FINISH_REASON,
        contract.RETURN_INPUT_TOKENS,
        contract.RETURN_OUTPUT_TOKENS,
    )
    vllm = options.layout == "vllm"
    runtime = _parameters(threads=options.threads, max_queue=options.max_queue, max_batch=options.max_batch)
    return {
        "name": release.id,
        "backend": options.layout,
        "max_batch_size": 0,
        "model_transaction_policy": {"decoupled": True},
        "input": [
            _tensor(contract.TEXT_INPUT, "STRING", 1),
            _tensor(contract.STREAM, "BOOL", 1, optional=True),
            _tensor(contract.SAMPLING_PARAMETERS, "STRING", 1, optional=True),
            *(_tensor(name, "BOOL", 1, optional=True) for name in flags),
        ],
        "output": [
            _tensor(contract.TEXT_OUTPUT, "STRING", -1),
            _tensor(contract.FINISH_REASON, "STRING", -1),
            _tensor(contract.NUM_INPUT_TOKENS, "UINT32", -1),
            _tensor(contract.NUM_OUTPUT_TOKENS, "UINT32", -1),
        ],
        # vLLM places itself on its GPUs, and one engine is one instance.
        **_instances("KIND_MODEL" if vllm else "KIND_CPU", 1),
        **({} if vllm else runtime),
    }


def lacking(release: Release, target: str) -> str:
    """How to make a release that has it of one that lacks a graph, as half a sentence."""
    if release.kind != "reward":
        return f"export its model again with --target {target}"
    return f"`ratchet export reward MODEL --like DIR --target {target}` makes one of the model behind it"


def _placed(release: Release, options: Options) -> dict[str, Value]:
    """Which of the release's graphs the layout runs, and where. Raises ReleaseError when it holds none."""
    if options.layout == "tensorrt":
        return _plans(release, options)
    if options.layout == "onnxruntime":
        if next(_variants(release, "onnxruntime"), None):
            name = Path(contract.HALF_GRAPH).name
            return {"default_model_filename": name, **_instances("KIND_GPU", options.instances)}
        if contract.ASPECTS in release.outputs:  # logits in the graph of CPUs, which our code finishes
            raise ReleaseError(
                f"{release.id} holds no graph whose aspects ONNX Runtime can serve: {lacking(release, 'onnx-fp16')}."
            )
    return _instances("KIND_CPU", options.instances)


def _plans(release: Release, options: Options) -> dict[str, Value]:
    plans = {str(v["compute_capability"]): Path(str(v["file"])).name for v in _variants(release, "tensorrt")}
    if not plans:
        half = next(_variants(release, "onnxruntime"), None)
        how = "`ratchet export plan DIR` makes one of its fp16 graph" if half else lacking(release, "tensorrt")
        raise ReleaseError(f"{release.id} holds no TensorRT plan: {how}.")
    files = [{"key": capability, "value": name} for capability, name in sorted(plans.items())]
    # Every plan's first profile takes all shapes; the others are there to be chosen where all plans have them.
    counts = {int(v["profiles"]) for v in _variants(release, "tensorrt")}
    chosen = [str(index) for index in range(counts.pop() if len(counts) == 1 else 1)]
    return {"cc_model_filenames": files, **_instances("KIND_GPU", options.instances, profile=chosen)}


def _variants(release: Release, backend: str) -> Iterator[Mapping[str, Any]]:
    return (variant for variant in release.variants if variant.get("backend") == backend)


def _backend(layout: Layout) -> dict[str, Value]:
    if layout == "tensorrt":
        return {"platform": "tensorrt_plan"}
    return {"backend": layout}


def _tensor(name: str, data_type: str, size: int, **more: bool) -> dict[str, Value]:
    return {"name": name, "data_type": Word(f"TYPE_{data_type}"), "dims": [size], **more}


def _instances(kind: str, count: int, **more: Value) -> dict[str, Value]:
    return {"instance_group": [{"kind": Word(kind), "count": count, **more}]}


def _parameters(**values: int) -> dict[str, Value]:
    return {
        "parameters": [{"key": key, "value": {"string_value": str(value)}} for key, value in sorted(values.items())]
    }


def _text(fields: Mapping[str, Value], indent: str = "") -> str:
    """Protobuf text format; a list is its field repeated."""
    return "".join(
        _field(name, each, indent)
        for name, value in fields.items()
        for each in (value if isinstance(value, Sequence) and not isinstance(value, str) else [value])
    )


def _field(name: str, value: Value, indent: str) -> str:
    if isinstance(value, Mapping):
        return f"{indent}{name} {{\n{_text(value, indent + '  ')}{indent}}}\n"
    if isinstance(value, str):
        return f"{indent}{name}: {json.dumps(value)}\n"
    if isinstance(value, bool):
        return f"{indent}{name}: {'true' if value else 'false'}\n"
    return f"{indent}{name}: {value.text if isinstance(value, Word) else value}\n"
