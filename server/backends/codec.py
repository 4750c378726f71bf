"""KServe V2 messages for policies and encoders, to and from values. No I/O.

Uses tritonclient's `service_pb2`: a second copy of the same protos would break the descriptor pool.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from server.backends.inference import Floats, RewardOutput
from server.errors import BackendRefused
from server.types import FinishReason, Generation, Sampling
from triton_models import contract
from triton_models.serializer import Encoded

_CONTROL_CHARACTERS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127], "\N{REPLACEMENT CHARACTER}")
"""What no text of ours may hold: the API refuses it in requests, Postgres refuses U+0000, terminals obey ESC."""
ROUNDING = 1e-3
"""How far past 0 and 1 half precision may put a score; it is clipped."""
_LARGEST = float(np.finfo(np.float32).max)
_DTYPES: Mapping[str, Any] = {
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT64": np.int64,
    "UINT32": np.uint32,
}


def encoder_request(model: str, rows: Encoded) -> Any:
    """A ModelInferRequest for `rows` to a reward, an embedding or a classifier."""
    request = pb.ModelInferRequest(model_name=model)
    _add(request, contract.INPUT_IDS, rows.input_ids)
    _add(request, contract.ATTENTION_MASK, rows.attention_mask)
    if rows.token_type_ids is not None:
        _add(request, contract.TOKEN_TYPE_IDS, rows.token_type_ids)
    return request


def reward_output(response: Any, count: int) -> RewardOutput:
    """The scores of `count` rows in a ModelInferResponse. Raises BackendRefused when they are not usable scores."""
    tensors = _tensors(response)
    try:
        score = _floats(tensors[contract.SCORE], count, -ROUNDING, 1 + ROUNDING)
        logit = _floats(tensors[contract.LOGIT], count, -_LARGEST, _LARGEST)
        judged = None
        if (aspects := tensors.get(contract.ASPECTS)) is not None:
            judged = _floats(aspects, count * len(contract.ASPECT_NAMES), -ROUNDING, 1 + ROUNDING).reshape(count, -1)
    except (KeyError, ValueError) as error:
        raise BackendRefused(f"The model {response.model_name} gives no usable scores: {error}.") from None
    return RewardOutput(score, logit, judged)


def encoder_output(response: Any, output: str, count: int, width: int) -> Floats:
    """FP32 [count, width]. Raises BackendRefused when `output` is missing, of another size, or not from -1 to 1."""
    try:
        values = _floats(_tensors(response)[output], count * width, -1 - ROUNDING, 1 + ROUNDING)
    except (KeyError, ValueError) as error:
        raise BackendRefused(f"The model {response.model_name} gives no usable {output}: {error}.") from None
    return values.reshape(count, width)


def _floats(tensor: NDArray[Any], count: int, low: float, high: float) -> NDArray[np.float32]:
    """FP32 [count]. Raises ValueError for another size, and for what is not a number from `low` to `high`."""
    flat = tensor.reshape(-1).astype(np.float32, copy=False)
    if flat.size != count:
        raise ValueError(f"{flat.size} values where {count} were asked for")
    if not (flat.min() >= low and flat.max() <= high):  # false for NaN, too
        raise ValueError(f"a value is not a number from {low:g} to {high:g}")
    return flat


def policy_request(model: str, prompt: str, sampling: Sampling) -> Any:
    """A ModelInferRequest that draws one candidate."""
    request = pb.ModelInferRequest(model_name=model)
    _add_text(request, contract.TEXT_INPUT, prompt)
    _add_text(request, contract.SAMPLING_PARAMETERS, json.dumps(sampling_object(sampling)))
    for name, value in ((contract.STREAM, False), (contract.EXCLUDE_INPUT, True)):
        _add_flag(request, name, value)
    for name in (contract.RETURN_FINISH_REASON, contract.RETURN_OUTPUT_TOKENS):
        _add_flag(request, name, True)
    return request


def sampling_object(sampling: Sampling) -> dict[str, Any]:
    """The sampling parameters in vLLM's names; what is off is left out."""
    preset = sampling.preset
    values: dict[str, Any] = {
        "temperature": preset.temperature,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }
    if preset.top_p < 1:
        values["top_p"] = preset.top_p
    if preset.top_k > 0:
        values["top_k"] = preset.top_k
    if sampling.stop:
        values["stop"] = list(sampling.stop)
    return values


def generation(response: Any) -> Generation | None:
    """The text in one response of the policy's stream; None for the empty one that ends it."""
    tensors = _tensors(response)
    if contract.TEXT_OUTPUT not in tensors or not len(tensors[contract.TEXT_OUTPUT]):
        return None
    text = bytes(tensors[contract.TEXT_OUTPUT][0]).decode("utf-8", "replace")
    reason = bytes(tensors[contract.FINISH_REASON][0]).decode() if contract.FINISH_REASON in tensors else ""
    tokens = int(tensors[contract.NUM_OUTPUT_TOKENS][0]) if contract.NUM_OUTPUT_TOKENS in tensors else 0
    finish = FinishReason.LENGTH if reason == "length" else FinishReason.STOP
    return Generation(text.translate(_CONTROL_CHARACTERS), finish, tokens)


def _add(request: Any, name: str, array: NDArray[np.int64]) -> None:
    request.inputs.add(name=name, datatype="INT64", shape=array.shape)
    request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())


def _add_text(request: Any, name: str, text: str) -> None:
    data = text.encode()
    request.inputs.add(name=name, datatype="BYTES", shape=[1])
    request.raw_input_contents.append(struct.pack("<I", len(data)) + data)


def _add_flag(request: Any, name: str, value: bool) -> None:
    request.inputs.add(name=name, datatype="BOOL", shape=[1])
    request.raw_input_contents.append(b"\x01" if value else b"\x00")


def _tensors(response: Any) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if output.datatype == "BYTES":
            tensors[output.name] = np.array(_texts(raw), dtype=object)
        else:
            tensors[output.name] = np.frombuffer(raw, dtype=_DTYPES[output.datatype]).reshape(output.shape)
    return tensors


def _texts(raw: bytes) -> list[bytes]:
    texts, position = [], 0
    while position < len(raw):
        (length,) = struct.unpack_from("<I", raw, position)
        texts.append(raw[position + 4 : position + 4 + length])
        position += 4 + length
    return texts
