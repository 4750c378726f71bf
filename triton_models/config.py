"""Renders a release's `config.pbtxt` for Triton.

The layout says which Triton backend serves it: `python` (our `model.py` on CPUs) is what runs without a GPU;
`vllm` for a policy and `onnxruntime` or `tensorrt` for a reward change nothing but this file (and vLLM's
`1/model.json`). Fields: triton-inference-server/common, protobuf/model_config.proto.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from triton_models import contract
from triton_models.manifest import Release, ReleaseError

Layout = Literal["python", "vllm", "onnxruntime", "tensorrt"]
_LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "reward": ("python", "onnxruntime", "tensorrt"),
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
    """How long the reward's first request waits for others to share its batch. What queues while a batch runs shares
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
    fields = _reward(release, chosen) if release.kind == "reward" else _policy(release, chosen)
    return "# Rendered by triton_models.config; changes are lost when the release is installed again.\n" + _text(fields)


def render_vllm_engine(release: Release, options: Options | None = None) -> str:
    """The text of vLLM's `1/model.json`: its engine arguments for this policy's base model."""
    chosen = options or Options()
    engine = {
        "model": release.base_model,
        "max_model_len": int(release.serializer["max_context"]),
        "gpu_memory_utilization": chosen.gpu_memory,
        "enable_prefix_caching": True,  # the candidates of one query share their prompt
    }
    return json.dumps(engine, indent=2) + "\n"


def _reward(release: Release, options: Options) -> dict[str, Value]:
    ragged = options.layout == "python" and release.batching == "ragged"
    names = [contract.INPUT_IDS, contract.ATTENTION_MASK]
    if release.serializer["token_type_ids"]:
        names.append(contract.TOKEN_TYPE_IDS)
    inputs = [_tensor(name, "INT64", -1, **({"allow_ragged_batch": True} if ragged else {})) for name in names]
    sizes = {contract.ASPECTS: len(contract.ASPECT_NAMES)}
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
        **_instances("KIND_CPU" if options.layout != "tensorrt" else "KIND_GPU", options.instances),
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


def _backend(layout: Layout) -> dict[str, Value]:
    if layout == "tensorrt":
        return {"platform": "tensorrt_plan"}
    return {"backend": layout}


def _tensor(name: str, data_type: str, size: int, **more: bool) -> dict[str, Value]:
    return {"name": name, "data_type": Word(f"TYPE_{data_type}"), "dims": [size], **more}


def _instances(kind: str, count: int) -> dict[str, Value]:
    return {"instance_group": [{"kind": Word(kind), "count": count}]}


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
