"""A torch module with Ratchet's inputs and outputs as an ONNX graph, in fp32 or int8."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters import latency
from exporters.errors import ExportError
from exporters.latency import Latency
from triton_models import contract
from triton_models.serializer import Encoded

OPSET: Final = 18
CPU: Final = "CPUExecutionProvider"

Floats = NDArray[np.float32]
Runner = Callable[[Encoded], list[Floats]]
"""Padded rows to outputs, [N, width] each."""


def classification_model(path: Path) -> Any:
    """A checkpoint with a sequence-classification head, as torch has it."""
    import torch
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(path, attn_implementation="eager", dtype=torch.float32)


def run_torch(model: Any, rows: Encoded) -> list[Floats]:
    """The module's outputs for padded rows."""
    import torch

    with torch.inference_mode():
        return [output.numpy() for output in model(*(torch.from_numpy(array) for array in arrays(rows)))]


def opened(path: Path, provider: str = CPU, threads: int = 0) -> Runner:
    """The graph, to be run by ONNX Runtime, on the CPU with so many threads; 0: as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns of nodes that stay on the CPU beside a GPU
    session = onnxruntime.InferenceSession(str(path), options, providers=list(dict.fromkeys((provider, CPU))))
    names = [each.name for each in session.get_inputs()]
    return lambda rows: list(session.run(None, dict(zip(names, arrays(rows), strict=True))))


def run_onnx(path: Path, rows: Encoded, sizes: Sequence[int] = ()) -> list[Floats]:
    """The graph's outputs for padded rows, computed by ONNX Runtime on the CPU; see `run`."""
    return run(opened(path), rows, sizes)


def run(runner: Runner, rows: Encoded, sizes: Sequence[int] = ()) -> list[Floats]:
    """Outputs for padded rows, in batches of `sizes` that follow each other; without them in one.

    A batch is padded to its own longest row, as those that are served: an int8 graph takes its scales from all of it.
    """
    found = [runner(batch) for batch in batches(rows, sizes or (len(rows.input_ids),))]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def batches(rows: Encoded, sizes: Sequence[int]) -> Iterator[Encoded]:
    """The rows of each batch, padded to its own longest."""
    start = 0
    for size in sizes:
        place = slice(start, start + size), slice(0, int(rows.attention_mask[start : start + size].sum(axis=1).max()))
        types = rows.token_type_ids
        yield Encoded(rows.input_ids[place], rows.attention_mask[place], None if types is None else types[place])
        start += size


def gpu_provider() -> str | None:
    """ONNX Runtime's provider for GPUs, where it has one."""
    import onnxruntime

    return "CUDAExecutionProvider" if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else None


def measure(converted: Path, fp32: Path, rows: Encoded, provider: str = CPU) -> Latency:
    """How long both graphs take for these rows, in turns; on one thread: several would wait for each other where the
    machine is busy, and tell more of that than of the graphs.
    """
    own, other = (partial(opened(path, provider, threads=1), rows) for path in (converted, fp32))
    return latency.compare(own, other, len(rows.input_ids), f"ONNX Runtime, {provider}")


def export_graph(model: Any, example: Encoded, outputs: Sequence[str], path: Path, max_length: int) -> None:
    """Writes the fp32 graph with free numbers of rows and tokens."""
    import torch

    tensors = [torch.from_numpy(array) for array in arrays(example)]
    names = (contract.INPUT_IDS, contract.ATTENTION_MASK, contract.TOKEN_TYPE_IDS)[: len(tensors)]
    sizes = {
        0: torch.export.Dim("rows", min=1, max=contract.REWARD_MAX_BATCH),
        1: torch.export.Dim("tokens", min=1, max=max_length),
    }
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch's own insides and axes that keep their names anyway
        program = torch.onnx.export(
            model,
            tuple(tensors),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=dict.fromkeys(names, sizes),
            verbose=False,
        )
    if program is None:
        raise ExportError("torch gave no ONNX graph for this model.")
    program.save(str(path))


def quantize(source: Path, target: Path, *, embeddings: bool) -> None:
    """Writes an int8 graph: weights of matrix products, and tables of embeddings when asked.

    Activations are quantised as they come (dynamic quantisation): no calibration data is needed.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    operators = ["MatMul", "Gemm", *(["Gather"] if embeddings else [])]
    quantize_dynamic(
        str(prepared),
        str(target),
        op_types_to_quantize=operators,
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    prepared.unlink()


def arrays(rows: Encoded) -> list[NDArray[np.int64]]:
    """What the model takes, in its order."""
    return [array for array in (rows.input_ids, rows.attention_mask, rows.token_type_ids) if array is not None]
