"""Runs a TensorRT plan on this machine's GPU, to compare it with the checkpoint before it becomes part of a release."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters.errors import ExportError
from exporters.graph import Floats, Runner, arrays
from exporters.plan import Profile
from triton_models import contract
from triton_models.serializer import Encoded

GPU: Final = "cuda:0"


def opened(api: Any, plan: Path, shapes: Sequence[Profile], outputs: Sequence[str], device: str = GPU) -> Runner:
    """The plan, to be run on padded rows. `api` is the module `tensorrt`; `shapes` are those it was built with.

    Raises ExportError for a plan that TensorRT can't load here.
    """
    import torch

    runtime = api.Runtime(api.Logger(api.Logger.WARNING))
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise ExportError(f"TensorRT can't load {plan.name}: it was built for another GPU or by another version.")
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == api.TensorIOMode.INPUT]
    stream: Any = torch.cuda.Stream() if device == GPU else None  # type: ignore[no-untyped-call]
    handle = stream.cuda_stream if stream else 0

    def run(rows: Encoded) -> list[Floats]:
        given = {name: torch.from_numpy(np.ascontiguousarray(of)).to(device) for name, of in _named(inputs, rows)}
        context.set_optimization_profile_async(_profile(shapes, rows.input_ids.shape[1]), handle)
        for name, tensor in given.items():
            context.set_input_shape(name, tuple(tensor.shape))
            context.set_tensor_address(name, tensor.data_ptr())
        made = {name: torch.empty(tuple(context.get_tensor_shape(name)), device=device) for name in outputs}
        for name, tensor in made.items():
            context.set_tensor_address(name, tensor.data_ptr())
        if stream:
            torch.cuda.synchronize()  # the rows were copied on another stream
        if not context.execute_async_v3(handle):
            raise ExportError(f"TensorRT could not run {plan.name}.")
        if stream:
            stream.synchronize()
        return [tensor.cpu().numpy() for tensor in made.values()]

    return run


def _named(inputs: Sequence[str], rows: Encoded) -> list[tuple[str, Any]]:
    """By the model's order of inputs, whatever the engine's is."""
    order = (contract.INPUT_IDS, contract.ATTENTION_MASK, contract.TOKEN_TYPE_IDS)
    given = dict(zip(order, arrays(rows), strict=False))
    return [(name, given[name]) for name in inputs]


def _profile(shapes: Sequence[Profile], tokens: int) -> int:
    """Which of the profiles takes rows of this length, and little else."""
    fitting = [index for index, shape in enumerate(shapes) if shape.least[1] <= tokens <= shape.most[1]]
    return min(fitting, key=lambda index: shapes[index].most[1] - shapes[index].least[1])
