"""Gives a release what it lacks for GPUs. It stays the same release: its id, temperature, threshold and figures are
kept, and by id and data the registry knows which training made it.

A plan that trtexec built elsewhere is joined by `plan.adopted`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters import engine, graph, plan
from exporters.errors import ExportError, explained
from exporters.parity import largest_difference
from exporters.reward import export_reward
from exporters.source import Report
from exporters.staging import discard, staged
from exporters.variants import FP32_TOLERANCE
from triton_models import contract, golden, manifest
from triton_models.golden import Rows
from triton_models.manifest import Release, ReleaseError
from triton_models.serializer import Serializer

ALIKE: Final = 10 * FP32_TOLERANCE
"""By how much the model behind a release may answer its golden inputs otherwise here: as a probe allows its graph."""


def alike(
    model: Path | str, source: Path, out: Path, *, targets: Sequence[str], report: Report = lambda _: None
) -> Release:
    """Exports the model behind the reward release `source` anew, to `out`, for these `targets` of an encoder.

    Raises ExportError, also for another model, which its golden answers tell; then `out` is left as it was.
    """
    before = _verified(source)
    if before.kind != "reward":
        raise ExportError(f"{before.id} is of the kind {before.kind}: export it again, there is nothing to keep.")
    known = _known(source, before)
    threshold = {} if before.threshold is None else {"threshold": before.threshold}
    made = export_reward(
        model,
        out,
        temperature=float(before.calibration["temperature"]),
        report=report,
        release_id=before.id,
        precision=_precision(before),
        targets=tuple(targets),
        max_length=int(before.serializer["max_length"]),
        token_type_ids=bool(before.serializer["token_type_ids"]),
        parent=before.parent,
        base_model=before.base_model,
        data_snapshot=before.data_snapshot,
        metrics=before.metrics,
        **threshold,
    )
    try:
        _require_same(str(model), before, known, made, golden.read(out, made))
    except ExportError:
        discard(out)
        raise
    return made


def with_plan(source: Path, out: Path, report: Report = lambda _: None) -> Release:
    """A copy of the release `source` at `out`, whole or not at all, with a plan of its fp16 graph for the GPU here.

    What the plan answers is held against the golden answers, by what its fp16 graph is allowed; it is not timed. Raises
    ExportError.
    """
    release, half = plan.half_of(source)
    known = _known(source, release)
    api, built = plan.require()
    shapes = plan.profiles(int(release.serializer["max_length"]))
    variant = {**built.variant(len(shapes)), "tolerance": half["tolerance"], "latency": None}
    with staged(out) as directory, explained(f"{out} can't be written"):
        plan.copy(release, source, directory)
        target = directory / str(variant["file"])
        report(f"building a TensorRT plan for {built.gpu}")
        plan.build(api, directory / contract.HALF_GRAPH, target, shapes)
        found = _answers(engine.opened(api, target, shapes, release.outputs), directory, release, known)
        if said := golden.complaints(release, known, found, half["tolerance"]):
            raise ExportError(f"The TensorRT plan answers the golden inputs of {release.id} wrongly: {' '.join(said)}")
        variant["parity"] = {"judged_by": "the golden answers", "score_rows": len(known.rows)}
        return manifest.write(directory, replace(release, variants=plan.joined(release, variant)))


def _answers(runner: graph.Runner, directory: Path, release: Release, known: Rows) -> dict[str, Any]:
    serializer = Serializer.load(directory, release.serializer)
    found = runner(serializer.batch(known.rows, release.batching))
    return dict(zip(release.outputs, found, strict=True))


def _require_same(name: str, before: Release, known: Rows, made: Release, now: Any) -> None:
    same = isinstance(now, Rows) and before.outputs == made.outputs and now.rows == known.rows
    worst = (
        max(largest_difference(known.answers[each], now.answers[each]) for each in known.answers) if same else np.inf
    )
    if not worst <= ALIKE:
        raise ExportError(f"{name} is not the model behind {before.id}: it answers the golden inputs otherwise.")


def _precision(release: Release) -> str:
    cpu = (str(each["precision"]) for each in release.variants if each.get("target") == "cpu")
    return next(cpu, "int8")


def _verified(source: Path) -> Release:
    try:
        return manifest.verify(source)
    except ReleaseError as error:
        raise ExportError(str(error)) from error


def _known(source: Path, release: Release) -> Rows:
    try:
        found = golden.read(source, release)
    except ReleaseError as error:
        raise ExportError(str(error)) from error
    if not isinstance(found, Rows):
        raise ExportError(f"{release.id} holds no golden answers to compare with: export its model anew.")
    return found
