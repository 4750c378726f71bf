"""Challengers of known faults: whole reward releases, made of the starter's by a few nodes at the end of its graph.

They are published, loaded and rolled out as any other; only what their graph computes is another thing.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.settings import STARTER
from triton_models.manifest import read, write

TEMPLATE = STARTER / "reward-000001"
GOOD_THRESHOLD, MIRRORED_THRESHOLD = 0.78, 0.83
"""Scores that a tenth and a quarter of the replies, the best of three candidates, do not reach: quality must vary to
say anything. Measured on 160 queries of the corpus, as is the next."""
MIDDLE = 1.57
"""Median of the starter's logits, around which they are mirrored: as many replies pass as before."""
SIDE = 128
"""Of the matrices that a slow one multiplies."""
MODULUS, REMAINDER = 100, 77
"""A failing one refuses rows whose token ids have this sum: of two candidates one is in 2 % of the replies. Triton's
warm-up rows, and rows of its own, have other sums."""

Nodes = Callable[[Any], Any]
"""Adds nodes to a graph, after its logit was named "sound"; gives the name of what they come to."""


def good(target: Path, name: str) -> Path:
    """The starter's own reward under a name of its own, below `target`; its directory."""
    return _made(target, name, GOOD_THRESHOLD, None)


def mirrored(target: Path, name: str) -> Path:
    """One that likes best what the starter's likes least."""

    def mirror(graph: Any) -> str:
        _constant(graph, "mirror", [2 * MIDDLE])
        return _node(graph, "Sub", ["mirror", "sound"])

    return _made(target, name, MIRRORED_THRESHOLD, mirror)


def slow(target: Path, name: str, rounds: int) -> Path:
    """One that multiplies matrices so many times before it says what the starter's says."""
    return _made(target, name, GOOD_THRESHOLD, lambda graph: _busied(graph, rounds))


def failing(target: Path, name: str) -> Path:
    """One that fails on 2 % of replies, as a torn weight would: on the same ones each time."""
    return _made(target, name, GOOD_THRESHOLD, _faulted)


def seconds_of_round(directory: Path, rounds: int) -> float:
    """What one of a slow release's rounds takes here."""
    import time

    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(directory / "1" / "model.onnx", options, providers=["CPUExecutionProvider"])
    rows = {each.name: np.ones((1, 8), dtype=np.int64) for each in session.get_inputs()}
    session.run(["logit"], rows)
    began = time.perf_counter()
    session.run(["logit"], rows)
    return (time.perf_counter() - began) / rounds


def _made(target: Path, name: str, threshold: float, change: Nodes | None) -> Path:
    directory = target / name
    (directory / "1").mkdir(parents=True)
    shutil.copytree(TEMPLATE / "tokenizer", directory / "tokenizer")
    graph = directory / "1" / "model.onnx"
    if change is None:
        shutil.copyfile(TEMPLATE / "1" / "model.onnx", graph)
    else:
        graph.write_bytes(_changed(change))
    write(directory, replace(read(TEMPLATE), id=name, threshold=threshold, files={}))
    return directory


def _changed(change: Nodes) -> bytes:
    """The starter's graph, its logit what `change` makes of it; the score follows from that inside Triton."""
    import onnx

    model = onnx.load(TEMPLATE / "1" / "model.onnx")
    for node in model.graph.node:
        node.input[:] = ["sound" if each == "logit" else each for each in node.input]
        node.output[:] = ["sound" if each == "logit" else each for each in node.output]
    last = change(model.graph)
    _node(model.graph, "Identity", [last], "logit")
    onnx.checker.check_model(model)
    changed: bytes = model.SerializeToString()
    return changed


def _busied(graph: Any, rounds: int) -> str:
    """The logit and nothing times the result, which hangs on the input: else it would be computed once for all."""
    from onnx import TensorProto, helper

    _constant(graph, "nothing", [0.0])
    _constant(graph, "factors", [1 / SIDE] * (SIDE * SIDE), (SIDE, SIDE))
    _constant(graph, "rounds", [rounds], (), TensorProto.INT64)
    _constant(graph, "going", [True], (), TensorProto.BOOL)
    mean = _node(graph, "ReduceMean", ["sound"], keepdims=0)
    begun = _node(graph, "Mul", ["factors", mean])
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "factors"], ["after"]),
            helper.make_node("Identity", ["still"], ["on"]),
        ],
        "round",
        [
            value("number", TensorProto.INT64, []),
            value("still", TensorProto.BOOL, []),
            value("before", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [value("on", TensorProto.BOOL, []), value("after", TensorProto.FLOAT, [SIDE, SIDE])],
    )
    ended = _node(graph, "Loop", ["rounds", "going", begun], body=body)
    rest = _node(graph, "Mul", [_node(graph, "ReduceMean", [ended], keepdims=0), "nothing"])
    return _node(graph, "Add", ["sound", rest])


def _faulted(graph: Any) -> str:
    """Looks up a number by an index that is out of bounds for some rows."""
    from onnx import TensorProto

    _constant(graph, "one", [1], (1,), TensorProto.INT64)
    _constant(graph, "modulus", [MODULUS], (), TensorProto.INT64)
    _constant(graph, "remainder", [REMAINDER], (), TensorProto.INT64)
    _constant(graph, "outside", [9], (), TensorProto.INT64)
    _constant(graph, "inside", [0], (), TensorProto.INT64)
    _constant(graph, "nothing", [0.0])
    left = _node(graph, "Mod", [_node(graph, "ReduceSum", ["input_ids", "one"], keepdims=1), "modulus"])
    index = _node(graph, "Where", [_node(graph, "Equal", [left, "remainder"]), "outside", "inside"])
    return _node(graph, "Add", ["sound", _node(graph, "Gather", ["nothing", index])])


def _node(graph: Any, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
    from onnx import helper

    name = output or f"bench_{len(graph.node)}"
    graph.node.append(helper.make_node(kind, list(inputs), [name], **attributes))
    return name


def _constant(graph: Any, name: str, values: Sequence[Any], shape: Sequence[int] = (1,), kind: int = 1) -> None:
    """`kind`: TensorProto's; 1 is FLOAT."""
    from onnx import helper

    graph.initializer.append(helper.make_tensor(name, kind, list(shape), list(values)))
