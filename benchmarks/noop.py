"""A reward release that computes nothing: from here it looks like a GPU, whose answer comes at once.

It is a release like any other (same tokenizer, serializer and Triton model code); only its graph is a constant.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from triton_models.manifest import read, write

NAME = "reward-noop"


def build(template: Path, target: Path) -> Path:
    """Makes the release below `target` after the reward release `template`, and gives its directory."""
    directory = target / NAME
    (directory / "1").mkdir(parents=True, exist_ok=True)
    shutil.copytree(template / "tokenizer", directory / "tokenizer", dirs_exist_ok=True)
    release = read(template)
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if release.serializer["token_type_ids"] else [])]
    (directory / "1" / "model.onnx").write_bytes(_graph(inputs))
    write(directory, replace(release, id=NAME, base_model="nothing", outputs=("score", "logit"), files={}))
    return directory


def _graph(inputs: list[str]) -> bytes:
    """ONNX: logit [N, 1] = 0 * the first token's id."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Slice", ["input_ids", "zero", "one", "axis"], ["first"]),
        helper.make_node("Cast", ["first"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "nothing"], ["logit"]),
    ]
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0]),
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in inputs]
    output = helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["rows", 1])
    graph = helper.make_graph(nodes, "nothing", shapes, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    serialized: bytes = model.SerializeToString()
    return serialized
