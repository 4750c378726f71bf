"""TensorRT plans: built from a release's fp16 graph, on the kind of GPU and with the TensorRT that will run them.

API: TensorRT 10 and 11 (docs.nvidia.com/deeplearning/tensorrt, "Python API Documentation" and "Migrating from
TensorRT 10.x to 11.x"). Networks are strongly typed, which 10 must be told and 11 always does.
"""

import importlib
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from exporters.errors import ExportError, explained
from exporters.staging import staged
from triton_models import contract, manifest
from triton_models.config import lacking
from triton_models.manifest import Release, ReleaseError

WORKSPACE: Final = 4 << 30
"""Bytes of GPU memory that kernels may use beside the weights while they are chosen."""
USUAL_ROWS: Final = 8
"""Rows that kernels are chosen for: the candidates of a query, or some more that share a batch."""
LEAST_MAJOR: Final = 10
"""Of TensorRT; before, token ids of 64 bits could not go in."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes [rows, tokens] that kernels are chosen for together: from `least` to `most`, best at `usual`."""

    least: tuple[int, int]
    usual: tuple[int, int]
    most: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Built:
    """Where a plan can run."""

    gpu: str
    compute_capability: str  # such as "9.0"
    tensorrt: str

    def variant(self, profiles: int) -> dict[str, Any]:
        """The manifest's entry of a plan with so many profiles, without what was measured."""
        return {
            "target": "gpu",
            "backend": "tensorrt",
            "precision": "fp16",
            "file": file(self.compute_capability),
            "gpu": self.gpu,
            "compute_capability": self.compute_capability,
            "tensorrt": self.tensorrt,
            "profiles": profiles,
        }


def file(compute_capability: str) -> str:
    """The plan's place in a release: one for each kind of GPU."""
    return f"{contract.VERSION}/model.cc{compute_capability.replace('.', '')}.plan"


def profiles(max_length: int) -> tuple[Profile, ...]:
    """The first one takes whatever may come. Then one for each length that callers pad to, for what is longer than the
    one before, in any number of rows.
    """
    lengths = [*(bucket for bucket in contract.BUCKETS if bucket < max_length), max_length]
    starts = [1, *(length + 1 for length in lengths[:-1])]
    return (
        Profile((1, 1), (USUAL_ROWS, min(contract.BUCKETS[1], max_length)), (contract.REWARD_MAX_BATCH, max_length)),
        *(
            Profile((1, start), (USUAL_ROWS, end), (contract.REWARD_MAX_BATCH, end))
            for start, end in zip(starts, lengths, strict=True)
        ),
    )


def require() -> tuple[Any, Built]:
    """The module `tensorrt`, and what a plan built here runs on. Raises ExportError saying what is missing."""
    try:
        api = importlib.import_module("tensorrt")
    except ImportError:
        raise ExportError(
            "A TensorRT plan is built where the GPU is, and the Python package tensorrt is not installed here: run "
            "this there, or export with --target onnx-fp16 and let `ratchet export plan` give the trtexec command."
        ) from None
    if int(api.__version__.split(".")[0]) < LEAST_MAJOR:
        raise ExportError(f"TensorRT {api.__version__} is too old: use {LEAST_MAJOR} or later.")
    import torch

    if not torch.cuda.is_available():
        raise ExportError("A TensorRT plan is built on the GPU that will run it, and torch sees no GPU here.")
    major, minor = torch.cuda.get_device_capability(0)
    return api, Built(torch.cuda.get_device_name(0), f"{major}.{minor}", str(api.__version__))


def build(api: Any, graph: Path, plan: Path, shapes: Sequence[Profile]) -> None:
    """Writes the plan of an fp16 graph; takes minutes. `api` is the module `tensorrt`. Raises ExportError."""
    logger = api.Logger(api.Logger.WARNING)
    builder = api.Builder(logger)
    typed = getattr(api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = api.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        said = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ExportError(f"TensorRT can't read the fp16 graph: {said or 'it does not say why'}.")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, WORKSPACE)
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    for shape in shapes:
        profile = builder.create_optimization_profile()
        for name in names:
            profile.set_shape(name, shape.least, shape.usual, shape.most)
        config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise ExportError("TensorRT could not build a plan of the fp16 graph: its messages above say why.")
    plan.write_bytes(bytes(built))


def script(source: Path, plan: Path) -> str:
    """Shell lines for a container with trtexec, such as Triton's image: they write the plan of the release `source`
    and say where it runs.

    trtexec gets the first of the `profiles` alone: what it makes takes the same rows, and may be slower for some.
    Raises ExportError for a release without an fp16 graph.
    """
    release = half_of(source)[0]
    shape = profiles(int(release.serializer["max_length"]))[0]
    shapes = {"min": shape.least, "opt": shape.usual, "max": shape.most}
    given = " ".join(
        f"--{name}Shapes={','.join(f'{each}:{rows}x{tokens}' for each in _inputs(release))}"
        for name, (rows, tokens) in shapes.items()
    )
    graph = shlex.quote(str(source / contract.HALF_GRAPH))
    return (
        "# TensorRT 10 must be told what 11 always does and has no flag for.\n"
        "typed=$(trtexec --help 2>&1 | grep -qe --stronglyTyped && echo --stronglyTyped || true)\n"
        f"trtexec --onnx={graph} --saveEngine={shlex.quote(str(plan))} $typed --skipInference {given}\n"
        "nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader\n"
    )


def adopted(source: Path, out: Path, plan: Path, built: Built) -> Release:
    """A copy of the release `source` at `out`, whole or not at all, that holds a plan which trtexec made of it.

    It keeps its id: it is the same model. What the plan answers is compared when it is loaded, with the golden answers.
    Raises ExportError.
    """
    release, half = half_of(source)
    if not plan.is_file() or not plan.stat().st_size:
        raise ExportError(f"{plan} is no TensorRT plan: there is nothing in it.")
    variant = built.variant(profiles=1) | {
        "parity": {"judged_by": "the golden answers, once it is loaded"},
        "tolerance": half["tolerance"],
        "latency": None,
    }
    with staged(out) as directory, explained(f"{out} can't be written"):
        copy(release, source, directory)
        shutil.copyfile(plan, directory / str(variant["file"]))
        return manifest.write(directory, replace(release, variants=joined(release, variant)))


def copy(release: Release, source: Path, directory: Path) -> None:
    """Copies the release's own files."""
    for name in release.files:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, directory / name)


def joined(release: Release, variant: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The release's variants and this plan, which takes the place of one for the same kind of GPU."""
    return (*(each for each in release.variants if each.get("file") != variant["file"]), variant)


def half_of(source: Path) -> tuple[Release, Mapping[str, Any]]:
    """The release in `source`, whole, and its variant in fp16. Raises ExportError."""
    try:
        release = manifest.verify(source)
    except ReleaseError as error:
        raise ExportError(str(error)) from error
    for variant in release.variants:
        if variant.get("file") == contract.HALF_GRAPH:
            return release, variant
    raise ExportError(f"{release.id} holds no fp16 graph: {lacking(release, 'onnx-fp16')}.")


def _inputs(release: Release) -> list[str]:
    types = [contract.TOKEN_TYPE_IDS] if release.serializer["token_type_ids"] else []
    return [contract.INPUT_IDS, contract.ATTENTION_MASK, *types]
