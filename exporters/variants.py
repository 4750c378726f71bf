"""The graphs of one encoder release, each held against the checkpoint: fp32 or int8 for CPUs, fp16 and plans for GPUs.

An int8 graph that is too far off or too slow gives way to a larger one, down to fp32. For GPUs somebody asked by name:
what fails there is an error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from exporters import engine, graph, half, latency, parity, plan
from exporters.errors import ExportError
from exporters.graph import Floats
from exporters.latency import Latency
from exporters.parity import Figures
from triton_models import contract
from triton_models.serializer import Encoded

FP32_TOLERANCE: Final = 1e-4
"""Of every output of the ONNX graph from torch's; a probe allows ten times as much, for another CPU's arithmetic."""
ROUNDING: Final = 1e-3
"""What a probe allows beyond twice the difference that was measured: batches and machines differ."""
ELSEWHERE: Final = 10
"""So many times instead of twice, where it was measured on a CPU and will run on a GPU, which adds up in fp16."""

Accept = Callable[[Path], tuple[Figures, bool]]
"""Whether an int8 graph, this file, will do: what it was told by, the deciding figure first, and the answer."""
Measure = Callable[[Path, Path, Encoded], Latency]
"""Times a converted graph beside the fp32 one."""


class Judge(Protocol):
    """What says how near a converted graph is: a part of `encoder.Head`."""

    def compare(self, expected: list[Floats], found: list[Floats], sizes: Sequence[int]) -> tuple[Figures, bool]:
        """How near a converted graph is, the deciding figure first, and whether that is near enough."""

    def served(self, outputs: list[Floats], *, finished: bool) -> dict[str, Floats]:
        """What callers get of a graph's outputs, by name, but for what follows from another one of them.

        `finished`: the graph does all of it itself, as those for GPUs do.
        """


@dataclass(frozen=True, slots=True)
class Reference:
    """The checkpoint in fp32: its graph, and its `answers` to the golden `rows`, which are groups of `sizes`."""

    graph: Path
    rows: Encoded
    sizes: tuple[int, ...]
    answers: list[Floats]
    judge: Judge

    def batch(self) -> Encoded:
        """What latency is measured on: the candidates of one query."""
        return next(graph.batches(self.rows, (min(self.sizes[0], parity.CANDIDATES),)))

    def tolerance(self, outputs: list[Floats], *, finished: bool, times: int = 2) -> dict[str, float]:
        """What a probe must allow a graph that gave these `outputs`, by name: so many `times` their difference."""
        expected = self.judge.served(self.answers, finished=False)
        found = self.judge.served(outputs, finished=finished)
        worst = {name: parity.largest_difference(expected[name], found[name]) for name in expected}
        return {name: float(f"{times * difference + ROUNDING:.4g}") for name, difference in worst.items()}


def checked(reference: Reference) -> tuple[float, dict[str, float]]:
    """The largest difference of the fp32 graph from the checkpoint, and what a probe allows. Raises ExportError."""
    found = graph.run_onnx(reference.graph, reference.rows, reference.sizes)
    differences = [parity.largest_difference(*pair) for pair in zip(reference.answers, found, strict=True)]
    difference = float(np.max(differences))  # Python's own forgets one that is no number
    if not difference <= FP32_TOLERANCE:
        raise ExportError(
            f"The ONNX graph differs from the checkpoint by {difference:.1e}: more than {FP32_TOLERANCE}."
        )
    return difference, reference.tolerance(found, finished=False)


def int8(reference: Reference, accept: Accept, measure: Measure) -> tuple[Figures, dict[str, Any] | None]:
    """Replaces the fp32 graph by the smallest int8 one that is near enough and no slower.

    Gives what was found, and what is special to the variant; None: it stays fp32.
    """
    refused: Figures = {}
    for embeddings in (True, False):
        small = reference.graph.with_name("int8.onnx")
        graph.quantize(reference.graph, small, embeddings=embeddings)
        figures, passed, variant = _judged(reference, small, accept, measure)
        if passed:
            small.replace(reference.graph)
            return refused | figures, {"precision": "int8", "int8_embeddings": embeddings, **variant}
        small.unlink()
        name = next(iter(figures))
        refused[f"refused_int8_{name}"] = figures[name]
    return refused, None


def _judged(
    reference: Reference, small: Path, accept: Accept, measure: Measure
) -> tuple[Figures, bool, dict[str, Any]]:
    """By its golden answers, then by whoever asked for it, then by its speed: the dearer the later."""
    found = graph.run_onnx(small, reference.rows, reference.sizes)
    figures, passed = reference.judge.compare(reference.answers, found, reference.sizes)
    if not passed:
        return figures, False, {}
    asked, passed = accept(small)
    figures = asked | figures
    if not passed:
        return figures, False, {}
    speed = measure(small, reference.graph, reference.batch())
    if not speed.passes:
        return {"latency_ratio": round(speed.ratio, 3)} | figures, False, {}
    return figures, True, {"tolerance": reference.tolerance(found, finished=False), "latency": speed.figures()}


def fp16(reference: Reference, provider: str | None) -> dict[str, Any]:
    """Writes the fp16 graph beside the fp32 one, and gives its variant. Raises ExportError.

    Its answers are compared on the CPU, which computes fp16 more exactly than a GPU and much slower: latency is
    measured where ONNX Runtime has a GPU's `provider`.
    """
    target = reference.graph.parent.parent / contract.HALF_GRAPH
    half.cast(reference.graph, target)
    found = graph.run_onnx(target, reference.rows, reference.sizes)
    figures = _required("fp16 graph", *reference.judge.compare(reference.answers, found, reference.sizes))
    speed = provider and graph.measure(target, reference.graph, reference.batch(), provider)
    return {
        "target": "gpu",
        "backend": "onnxruntime",
        "precision": "fp16",
        "file": contract.HALF_GRAPH,
        "parity": figures,
        "tolerance": reference.tolerance(found, finished=True, times=ELSEWHERE),
        "latency": _no_slower("fp16 graph", speed) if speed else None,
    }


def tensorrt(
    reference: Reference, outputs: Sequence[str], max_length: int, here: tuple[Any, plan.Built], provider: str | None
) -> dict[str, Any]:
    """Builds a plan of the fp16 graph for this machine's GPU, and gives its variant. Raises ExportError."""
    api, built = here
    shapes = plan.profiles(max_length)
    directory = reference.graph.parent.parent
    target = directory / plan.file(built.compute_capability)
    plan.build(api, directory / contract.HALF_GRAPH, target, shapes)
    runner = engine.opened(api, target, shapes, outputs)
    found = graph.run(runner, reference.rows, reference.sizes)
    figures = _required("TensorRT plan", *reference.judge.compare(reference.answers, found, reference.sizes))
    batch = reference.batch()
    fp32 = graph.opened(reference.graph, provider or graph.CPU)  # on a CPU with all its cores: the harder rival
    on = f"{built.gpu}; fp32 by ONNX Runtime, {provider or graph.CPU}"
    speed = latency.compare(partial(runner, batch), partial(fp32, batch), len(batch.input_ids), on)
    return {
        **built.variant(len(shapes)),
        "parity": figures,
        "tolerance": reference.tolerance(found, finished=True),
        "latency": _no_slower("TensorRT plan", speed),
    }


def _required(what: str, figures: Figures, passed: bool) -> Figures:
    if not passed:
        said = ", ".join(f"{name} {value}" for name, value in figures.items())
        raise ExportError(f"The {what} ranks the golden answers otherwise than the checkpoint ({said}).")
    return figures


def _no_slower(what: str, speed: Latency) -> Mapping[str, Any]:
    if not speed.passes:
        raise ExportError(
            f"The {what} takes {speed.ratio:.2f} times as long as the fp32 graph ({speed.on}): serve that one instead."
        )
    return speed.figures()


def sigmoid(logits: Floats) -> Floats:
    """0..1."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), dtype=np.float32)
