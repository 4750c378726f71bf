"""A second reward release that likes what the starter's dislikes: it turns each choice around."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from server.settings import STARTER
from triton_models import manifest

REWARD = STARTER / "reward-000001"


def contrary_reward(path: Path, **changes: Any) -> Path:
    """The starter's reward with score 1 - s and logit -l, as a release in the directory `path`, named by it."""
    import onnx
    from onnx import helper, numpy_helper

    shutil.copytree(REWARD, path, ignore=shutil.ignore_patterns("__pycache__", "config.pbtxt", "*.py"))
    model = onnx.load(str(path / "1" / "model.onnx"))
    graph = model.graph
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name in ("score", "logit"):
                node.output[place] = f"{name}_before"
        for place, name in enumerate(node.input):
            if name in ("score", "logit"):
                node.input[place] = f"{name}_before"
    graph.initializer.append(numpy_helper.from_array(np.array(1, dtype=np.float32), "one"))
    graph.node.append(helper.make_node("Sub", ["one", "score_before"], ["score"]))
    graph.node.append(helper.make_node("Neg", ["logit_before"], ["logit"]))
    onnx.save(model, str(path / "1" / "model.onnx"))
    release = replace(manifest.read(path), id=path.name, parent="reward-000001", **changes)
    (path / manifest.MANIFEST).unlink()
    manifest.write(path, release)
    return path
