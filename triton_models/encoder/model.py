"""An encoder (reward, embedding or classifier) as a Triton Python-backend model: ONNX Runtime, ragged dynamic batching.

Triton hands over requests of different [k, L] together. All their rows are sorted by true length and run in
micro-batches of little padding, so a short row doesn't pay for a long one. A bad request gets an error of its
own.

Self-contained: Triton loads it from the release's directory, in an environment without the rest of Ratchet.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

MAX_WASTE = 0.2  # share of a micro-batch that may be padding
CHEAP_TOKENS = 256  # below so many tokens the call costs more than the padding does
MAX_ROWS = 64
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ASPECTS = 4

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Refused(Exception):
    """A request that can't be computed."""


@dataclass(frozen=True)
class Rows:
    """One request's rows, INT64 [k, L] each, and their true lengths [k]."""

    tensors: dict[str, Ints]
    lengths: Ints


def micro_batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indexes of rows grouped to be padded together, sorted by length, shortest first.

    A group is closed when the next row would make more than MAX_WASTE of it padding, or at MAX_ROWS rows.
    """
    groups: list[list[int]] = []
    group: list[int] = []
    used = 0
    for index in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        size = lengths[index] * (len(group) + 1)
        wasteful = size > CHEAP_TOKENS and size - used - lengths[index] > MAX_WASTE * size
        if group and (wasteful or len(group) == MAX_ROWS):
            groups.append(group)
            group, used = [], 0
        group.append(index)
        used += lengths[index]
    return [*groups, group] if group else groups


class Graph:
    """The ONNX graph: rows in, one tensor a name of `outputs` out."""

    def __init__(self, model: Path, outputs: Sequence[str], threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        # Between requests, spinning threads would take the cores that the policy generates on.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(each.name for each in self._session.get_inputs())
        self.outputs = tuple(outputs)

    def run(self, requests: Sequence[Rows]) -> list[list[Floats]]:
        """For each request its outputs, FP32 [k, width] each."""
        starts = np.cumsum([0, *(len(rows.lengths) for rows in requests)])
        lengths = np.concatenate([rows.lengths for rows in requests])
        places = [(rows, row) for rows in requests for row in range(len(rows.lengths))]
        found: list[Floats] = []
        for group in micro_batches(lengths.tolist()):
            outputs = self._session.run(self.outputs, self._feed([places[i] for i in group], int(lengths[group[-1]])))
            if not found:
                found = [np.empty((len(places), output.shape[1]), dtype=np.float32) for output in outputs]
            for whole, output in zip(found, outputs, strict=True):
                whole[group] = output
        return [[whole[start:end] for whole in found] for start, end in pairwise(starts)]

    def _feed(self, places: Sequence[tuple[Rows, int]], length: int) -> dict[str, Ints]:
        feed = {name: np.zeros((len(places), length), dtype=np.int64) for name in self.inputs}
        for target, (rows, row) in enumerate(places):
            size = int(rows.lengths[row])
            for name in self.inputs:
                feed[name][target, :size] = rows.tensors[name][row, :size]
        return feed


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph and runs it once; an error here is what loading the model answers."""
        home = Path(args["model_repository"])
        manifest = json.loads((home / "release.json").read_bytes())
        config = json.loads(args["model_config"])
        threads = int(config.get("parameters", {}).get("threads", {}).get("string_value", 0))
        self._max_length = int(manifest["serializer"]["max_length"])
        self._vocabulary = int(manifest["serializer"].get("vocab_size", 2**31))
        self._temperature = np.float32(manifest["calibration"]["temperature"])
        # A reward's score follows from its logit here, so that a calibration needs no new graph.
        outputs = [name for name in manifest["outputs"] if name != "score"]
        self._graph = Graph(home / args["model_version"] / "model.onnx", outputs, threads)
        self._warm_up()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request, in order; a bad request gets an error."""
        responses: list[Any] = [None] * len(requests)
        good: list[tuple[int, Rows]] = []
        for index, request in enumerate(requests):
            try:
                good.append((index, self._rows(request)))
            except Refused as refused:
                responses[index] = _error(str(refused), pb_utils.TritonError.INVALID_ARG)
        try:
            outputs = self._graph.run([rows for _, rows in good]) if good else []
            for (index, _), tensors in zip(good, outputs, strict=True):
                responses[index] = self._response(tensors)
        except Exception as error:
            pb_utils.Logger.log_error(f"computing failed: {error!r}")
            for index, _ in good:
                responses[index] = _error(f"computing failed: {error}", pb_utils.TritonError.INTERNAL)
        return responses

    def _rows(self, request: Any) -> Rows:
        tensors = {}
        for name in self._graph.inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                raise Refused(f"{name} is missing")
            tensors[name] = tensor.as_numpy()
        ids, mask = tensors["input_ids"], tensors["attention_mask"]
        if any(tensor.shape != ids.shape for tensor in tensors.values()):
            raise Refused(f"the inputs differ in shape: { {name: t.shape for name, t in tensors.items()} }")
        if ids.ndim != 2 or ids.size == 0:
            raise Refused(f"input_ids must be [rows, tokens], not {list(ids.shape)}")
        return Rows(tensors, self._lengths(ids, mask, tensors.get("token_type_ids")))

    def _lengths(self, ids: Ints, mask: Ints, types: Ints | None) -> Ints:
        """Each row's true length; the mask must be ones, then zeros."""
        lengths = mask.sum(axis=1)
        if ((mask != (np.arange(mask.shape[1]) < lengths[:, None])) | (mask < 0)).any():
            raise Refused("attention_mask must be ones followed by zeros")
        if (lengths == 0).any():
            raise Refused("attention_mask has a row of zeros only")
        if lengths.max() > self._max_length:
            raise Refused(f"a row has {lengths.max()} tokens; the limit is {self._max_length}")
        if ids.min() < 0 or ids.max() >= self._vocabulary:
            raise Refused(f"input_ids must be from 0 to {self._vocabulary - 1}")
        if types is not None and not ((types == 0) | (types == 1)).all():
            raise Refused("token_type_ids must be 0 or 1")
        return np.asarray(lengths, dtype=np.int64)

    def _response(self, outputs: list[Floats]) -> Any:
        tensors = dict(zip(self._graph.outputs, outputs, strict=True))
        if "logit" in tensors:
            tensors["score"] = _sigmoid(tensors["logit"] / self._temperature)
        if "aspects" in tensors:
            tensors["aspects"] = _sigmoid(tensors["aspects"])
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, np.ascontiguousarray(values, dtype=np.float32)) for name, values in tensors.items()]
        )

    def _warm_up(self) -> None:
        """The first calls of a session allocate its memory: no caller should wait for that."""
        for rows, length in ((1, 8), (5, min(128, self._max_length))):
            ones = np.ones((rows, length), dtype=np.int64)
            tensors = {name: ones * (name == "attention_mask") for name in self._graph.inputs}
            self._graph.run([Rows(tensors, np.full(rows, length, dtype=np.int64))])


def _sigmoid(logit: Floats) -> Floats:
    """1 / (1 + exp(-logit)), which doesn't overflow in this form."""
    halved: Floats = np.tanh(logit * np.float32(0.5))
    return (halved + np.float32(1)) * np.float32(0.5)


def _error(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
