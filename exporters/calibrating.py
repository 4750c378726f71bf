"""Gives a reward release what can only be known once its scores were looked at: temperature, threshold, figures."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporters.errors import ExportError, explained
from exporters.staging import staged
from triton_models import contract, manifest
from triton_models.manifest import Release


def calibrated(source: Path, out: Path, *, temperature: float, **fields: Any) -> Release:
    """A copy of the reward release `source` at `out`, whole or not at all, whose scores are sigmoid(logit /
    temperature) and whose manifest has these `fields`.

    Logits stay as they are, to the bit. Raises ExportError, also for a release with a TensorRT plan: its temperature is
    built in.
    """
    if any(each.get("backend") == "tensorrt" for each in manifest.read(source).variants):
        raise ExportError(f"{source} holds a TensorRT plan, which can't be calibrated any more: build it afterwards.")
    with staged(out) as directory, explained(f"{out} can't be written"):
        shutil.copytree(source, directory, dirs_exist_ok=True)
        for name in (f"{contract.VERSION}/model.onnx", contract.HALF_GRAPH):
            if (directory / name).exists():
                set_temperature(directory / name, temperature)
        calibration = {"temperature": temperature}
        return manifest.write(directory, replace(manifest.read(directory), calibration=calibration, **fields))


def set_temperature(path: Path, temperature: float) -> None:
    """Makes the score of the graph in this file sigmoid(logit / temperature), whatever temperature it had."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    name, constants = contract.SCORE, {each.name for each in graph.initializer}
    while name != contract.LOGIT:  # the last steps, from the score back to the logit
        node = next(each for each in graph.node if name in each.output)
        graph.node.remove(node)
        name = next(each for each in node.input if each not in constants)
    for former in [each for each in graph.initializer if each.name == "score_temperature"]:
        graph.initializer.remove(former)
    graph.initializer.append(numpy_helper.from_array(np.array(temperature, dtype=np.float32), "score_temperature"))
    graph.node.append(helper.make_node("Div", [contract.LOGIT, "score_temperature"], ["score_logit"]))
    graph.node.append(helper.make_node("Sigmoid", ["score_logit"], [contract.SCORE]))
    onnx.save(model, path)
