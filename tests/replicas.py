"""Fakes of Triton that load as a test says, and releases in a repository that say what they answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from server.backends.fake import FakeTriton
from server.backends.inference import ModelState, RewardOutput
from server.errors import BackendError, BackendUnavailable
from server.rollout.replicas import Replica
from tests.releases import reward_directory
from triton_models import golden, manifest
from triton_models.release import install
from triton_models.serializer import Encoded

ROWS = ((2, 5, 3), (2, 6, 7, 3))
LOGITS = np.array([[0.5], [-0.25]], dtype=np.float32)


class PlantedTriton(FakeTriton):
    """Notes what it is asked to load and unload. `refusals` are raised by the next loads; `slow` holds every load up
    while it is not set; `away` makes it silent; `leaving` are models that are still being unloaded; `off` is added to
    the logits of golden rows, `asked` counts calls for scores."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.refusals: list[BackendError] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.away = False
        self.leaving: set[str] = set()
        self.off = 0.0
        self.asked = 0

    async def load(self, model: str, timeout: float) -> None:
        self.loads.append(model)
        await asyncio.wait_for(self.go_on.wait(), 60)
        if self.refusals:
            raise self.refusals.pop(0)
        await super().load(model, timeout)

    async def unload(self, model: str, timeout: float) -> None:
        self.unloads.append(model)
        await super().unload(model, timeout)

    async def index(self, timeout: float) -> Mapping[str, ModelState]:
        if self.away:
            raise BackendUnavailable("nobody is there")
        return {**await super().index(timeout), **dict.fromkeys(self.leaving, ModelState.UNLOADING)}

    async def score(self, model: str, rows: Encoded, timeout: float) -> RewardOutput:
        self.asked += 1
        await self._pause(model, timeout)
        known = {row: logit for row, (logit,) in zip(ROWS, LOGITS.tolist(), strict=True)}
        lengths = rows.attention_mask.sum(axis=1)
        asked = [tuple(row[:length].tolist()) for row, length in zip(rows.input_ids, lengths, strict=True)]
        logits = np.array([known.get(row, 0.0) for row in asked], dtype=np.float32) + np.float32(self.off)
        return RewardOutput(1 / (1 + np.exp(-logits)), logits)


def a_replica(backend: FakeTriton, address: str = "one:8001", room: int | None = None) -> Replica:
    """One whose answers mean something. `room`: bytes that it has for models; None: not known."""
    return Replica(address, backend, None if room is None else lambda: room)


def installed(home: Path, repository: Path, name: str) -> Path:
    """A reward release in the repository that knows the answers to ROWS."""
    made = reward_directory(home / name, variants=({"target": "cpu", "tolerance": {"logit": 0.01}},))
    golden.write(made, golden.Rows(ROWS, {"logit": LOGITS}))
    manifest.write(made, replace(manifest.read(made), files={}))
    return install(made, repository)
