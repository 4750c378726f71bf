"""The fp32 graph as GPUs run it: fp16 inside, fp32 at its outputs' end.

Types are written into the graph itself, as casts: TensorRT's strongly typed networks, the only kind from TensorRT 11
on, take them from there, and no flag of a builder changes them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters.errors import ExportError
from triton_models import contract

LARGEST: Final = 65504.0
"""fp16's: what masks add to a logit is more, and cut to it."""
PRODUCTS: Final = frozenset({"MatMul", "Gemm"})
NORMS: Final = frozenset({"LayerNormalization"})
FULL: Final = frozenset({"Range", "CumSum", "Min", "Max"})
"""They count positions: past 2048 fp16 skips whole numbers."""
WITH_TYPES: Final = {"Cast": "to", "Constant": "value", "ConstantOfShape": "value"}
"""Nodes whose result has the type that this attribute states."""


def cast(source: Path, target: Path) -> None:
    """Writes the fp16 graph of the fp32 graph `source`. Raises ExportError for a graph with branches or loops.

    What follows the last matrix products, these too, stays fp32: pooling, logits and sigmoids in fp16, of eleven bits,
    would make ties of near scores. Aspects, logits in `source`, come out as 0..1: Triton's own backends run no code
    of ours that would see to it.
    """
    import onnx

    model = onnx.load(source)
    _finish_aspects(model.graph)
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        raise ExportError("A graph with branches or loops can't be cast to fp16.")
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = (*inferred.value_info, *inferred.input, *inferred.output)
    floats = {each.name for each in known if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    floats |= {each.name for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    nodes = list(_Caster(model.graph, floats).nodes())
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    _drop_unused(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


class _Caster:
    """Gives each node of a graph the type that it is to compute in. `floats` names all fp32 values."""

    def __init__(self, graph: Any, floats: set[str]) -> None:
        self._graph = graph
        self._floats = floats
        self._kept = _head(graph)
        self._constants = {each.name: each for each in graph.initializer}
        self._half = set[str]()  # values that are fp16 by now
        self._made = dict[tuple[str, bool], str]()  # (value, whether in fp16) -> its other self

    def nodes(self) -> Iterator[Any]:
        """The graph's nodes in order, with casts between them; adds fp16 constants to the graph."""
        for index, node in enumerate(self._graph.node):
            half = index not in self._kept and node.op_type not in FULL
            for place, name in enumerate(node.input):
                if name in self._floats and (name in self._half) != half:
                    yield from self._converted(name, half)
                    node.input[place] = self._made[name, half]
            if half:
                _retype(node)
                self._half |= {name for name in node.output if name in self._floats}
            yield node

    def _converted(self, name: str, half: bool) -> Iterator[Any]:
        """The cast of a value, unless it was cast before or is a constant."""
        from onnx import TensorProto, helper, numpy_helper

        if (name, half) in self._made:
            return
        other = self._made[name, half] = f"{name}_{'fp16' if half else 'fp32'}"
        if name in self._constants:
            values = _halved(numpy_helper.to_array(self._constants[name]))
            self._graph.initializer.append(numpy_helper.from_array(values, other))
        else:
            wanted = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            yield helper.make_node("Cast", [name], [other], to=wanted)


def _retype(node: Any) -> None:
    """What a node's attribute says is fp32 is fp16 from now on."""
    from onnx import TensorProto, numpy_helper

    for attribute in node.attribute:
        if attribute.name != WITH_TYPES.get(node.op_type):
            continue
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(numpy_helper.from_array(_halved(numpy_helper.to_array(attribute.t))))
        elif attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16


def _halved(values: Any) -> Any:
    return np.clip(values, -LARGEST, LARGEST).astype(np.float16)


def _finish_aspects(graph: Any) -> None:
    """Puts a sigmoid behind the aspects' logits, where there are any."""
    from onnx import helper

    if contract.ASPECTS not in {each.name for each in graph.output}:
        return
    inner = f"{contract.ASPECTS}_logit"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [inner if name == contract.ASPECTS else name for name in names]
    graph.node.append(helper.make_node("Sigmoid", [inner], [contract.ASPECTS]))


def _head(graph: Any) -> set[int]:
    """Places of the nodes from the outputs back to the last matrix products, these too, or to the last norm."""
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    found: set[int] = set()
    waiting = [makers[output.name] for output in graph.output]
    while waiting:
        place = waiting.pop()
        node = graph.node[place]
        if place in found or node.op_type in NORMS:
            continue
        found.add(place)
        if node.op_type not in PRODUCTS:
            waiting += [makers[name] for name in node.input if name in makers]
    return found


def _drop_unused(graph: Any) -> None:
    """Constants that were only wanted in fp32."""
    used = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
