"""A sequence-classification checkpoint as an ONNX graph with Ratchet's outputs, in fp32 or int8."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError
from exporters.source import Checkpoint
from triton_models import contract
from triton_models.serializer import Encoded

OPSET: Final = 18
POSITIVE_LABELS: Final = frozenset({"positive", "good", "chosen", "preferred", "helpful", "acceptable", "safe"})
HEAD_LABELS: Final = ("overall", *contract.ASPECT_NAMES)

Floats = NDArray[np.float32]


def output_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The outputs of a release made of this checkpoint. Raises ExportError for a head of another shape."""
    labels = int(checkpoint.config.num_labels)
    if labels in {1, 2}:
        return (contract.SCORE, contract.LOGIT)
    if _labels(checkpoint) == HEAD_LABELS:
        return (contract.SCORE, contract.LOGIT, contract.ASPECTS)
    raise ExportError(
        f"{checkpoint.name} has {labels} labels: a reward needs 1 (a score), 2 (bad, good), "
        f"or the 5 labels {', '.join(HEAD_LABELS)}."
    )


def torch_model(checkpoint: Checkpoint, temperature: float) -> Any:
    """The checkpoint as a torch module: (input_ids, attention_mask[, token_type_ids]) -> score, logit[, aspects].

    logit is [N, 1] (of two labels: the good one's logit minus the other's), score its calibrated sigmoid,
    aspects [N, 4] are logits here: `reward/model.py` applies the sigmoid.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    inner = AutoModelForSequenceClassification.from_pretrained(
        checkpoint.path, attn_implementation="eager", dtype=torch.float32
    )
    count = len(output_names(checkpoint))
    good = 0 if _labels(checkpoint)[0] in POSITIVE_LABELS else 1
    two = int(checkpoint.config.num_labels) == 2

    class Scored(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> tuple[Any, ...]:
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            logits = self.inner(input_ids=input_ids, attention_mask=attention_mask, **types).logits
            logit = logits[:, good : good + 1] - logits[:, 1 - good : 2 - good] if two else logits[:, :1]
            return (torch.sigmoid(logit / temperature), logit, logits[:, 1:])[:count]

    return Scored().eval()


def run_torch(model: Any, rows: Encoded) -> list[Floats]:
    """The module's outputs for padded rows."""
    import torch

    with torch.inference_mode():
        return [output.numpy() for output in model(*(torch.from_numpy(array) for array in _arrays(rows)))]


def run_onnx(path: Path, rows: Encoded) -> list[Floats]:
    """The graph's outputs for padded rows, computed by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return list(session.run(None, dict(zip(names, _arrays(rows), strict=True))))


def export_graph(model: Any, example: Encoded, outputs: Sequence[str], path: Path, max_length: int) -> None:
    """Writes the fp32 graph with free numbers of rows and tokens."""
    import torch

    arrays = [torch.from_numpy(array) for array in _arrays(example)]
    names = (contract.INPUT_IDS, contract.ATTENTION_MASK, contract.TOKEN_TYPE_IDS)[: len(arrays)]
    sizes = {
        0: torch.export.Dim("rows", min=1, max=contract.REWARD_MAX_BATCH),
        1: torch.export.Dim("tokens", min=1, max=max_length),
    }
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch's own insides and axes that keep their names anyway
        program = torch.onnx.export(
            model,
            tuple(arrays),
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


def _labels(checkpoint: Checkpoint) -> tuple[str, ...]:
    names = getattr(checkpoint.config, "id2label", None) or {}
    return tuple(str(names[key]).lower() for key in sorted(names, key=int))


def _arrays(rows: Encoded) -> list[NDArray[np.int64]]:
    return [array for array in (rows.input_ids, rows.attention_mask, rows.token_type_ids) if array is not None]
