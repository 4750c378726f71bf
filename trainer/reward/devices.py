"""What a model is computed on: device, precision, threads, and the memory that it took."""

import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch

from exporters.reward_model import RewardModel
from trainer.data.inputs import Rows
from trainer.reward.batching import Indices, groups
from trainer.reward.job import Heed, unheeding

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Device:
    """Where and how precisely a model is computed. `overhead` and `most` are as in `batching.groups`."""

    place: torch.device
    precision: Precision
    overhead: int
    most: int

    @classmethod
    def find(cls, precision: Literal["auto", "fp32", "bf16"] = "auto") -> Self:
        """A GPU where there is one. bf16 by itself only where the hardware multiplies it."""
        if torch.cuda.is_available():
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
            return cls(torch.device("cuda"), _chosen(precision, fast), 4096, 131_072)
        able = torch.cpu.get_capabilities()
        fast = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
        return cls(torch.device("cpu"), _chosen(precision, fast), 64, 4096)

    def autocast(self) -> AbstractContextManager[Any]:
        """Matrix products in bf16, where chosen."""
        return torch.autocast(self.place.type, torch.bfloat16, enabled=self.precision == "bf16")

    def logits(
        self, model: RewardModel, rows: Rows, batch: Indices, heed: Heed = unheeding
    ) -> tuple[torch.Tensor, Indices, int]:
        """Logits [N, 5] in fp32 on the device, whose rows they are (the batch, longest first), tokens computed on."""
        parts = list(groups(batch, rows.lengths, self.overhead, self.most))
        found, tokens = [], 0
        with self.autocast():
            for part in parts:
                heed()
                inputs = rows.pad(part)
                arrays = (inputs.input_ids, inputs.attention_mask, inputs.token_type_ids)
                tokens += inputs.input_ids.size
                tensors = [torch.from_numpy(each).to(self.place) for each in arrays if each is not None]
                found.append(model(*tensors).float())
        return torch.cat(found), np.concatenate(parts), tokens

    def peak_bytes(self) -> int:
        """The most memory of the GPU that was in use; 0 without one."""
        return torch.cuda.max_memory_allocated() if self.place.type == "cuda" else 0


def resident_bytes() -> int:
    """The most memory that this process held at any time since it began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with so many threads; 0: its own choice."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _chosen(asked: Literal["auto", "fp32", "bf16"], fast: bool) -> Precision:
    if asked == "auto":
        return "bf16" if fast else "fp32"
    return asked
