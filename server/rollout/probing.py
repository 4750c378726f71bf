"""Asks a loaded model what its release knows the answers to, and says what is wrong with what comes back.

That warms the model up as well. A release without golden answers is asked something, and must answer.
"""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from server.backends.inference import EncoderBackend, Floats, PolicyBackend, RewardBackend
from server.types import Preset, Sampling
from triton_models import contract, golden
from triton_models.config import Layout, layout_of
from triton_models.golden import Rows, Texts
from triton_models.manifest import Release
from triton_models.serializer import Encoded, Serializer

WARM_UP_SECONDS = 120.0
"""What a first call may take: some backends compile then."""
CALL_SECONDS = 30.0
"""What each golden call may take."""
ROWS = 8
"""Golden rows in one call: a query's, as they were compared; users' calls need not wait long behind so few."""
_GREEDY = Preset("golden", temperature=0.0)
_ANYTHING = "How long does delivery take?"


class Backend(PolicyBackend, RewardBackend, EncoderBackend, Protocol):
    """What can be asked."""


async def complaints(release: Release, directory: Path, backend: Backend) -> tuple[str, ...]:
    """What is wrong with the loaded model's answers, a sentence each; none when they are right.

    Raises ReleaseError for golden answers or a tokenizer that can't be read, and what the backend raises.
    """
    known = await asyncio.to_thread(golden.read, directory, release)
    await warm_up(release, directory, backend)
    if isinstance(known, Texts):
        found = [await _text(release, prompt, known, backend) for prompt in known.prompts]
        return golden.text_complaints(known, await asyncio.to_thread(_layout, directory), found)
    if isinstance(known, Rows):
        serializer = await asyncio.to_thread(Serializer.load, directory, release.serializer)
        answers = await _answers(release, known, serializer, backend)
        return golden.complaints(release, known, answers, await asyncio.to_thread(tolerance, release, directory))
    return ()


async def warm_up(release: Release, directory: Path, backend: Backend) -> None:
    """Asks a plain input of each shape that calls will have. Raises what the backend raises."""
    if release.kind == "policy":
        await backend.generate(release.id, _ANYTHING, Sampling(_GREEDY, 1, 4), WARM_UP_SECONDS)
        return
    serializer = await asyncio.to_thread(Serializer.load, directory, release.serializer)
    rows = serializer.pairs([(_ANYTHING, _ANYTHING)])
    for length in _lengths(release, serializer):
        await _ask(release, serializer.pad(rows, length), backend, WARM_UP_SECONDS)


def tolerance(release: Release, directory: Path) -> dict[str, float]:
    """By how much each output may be off, of the variant that Triton runs: of several plans, the loosest one's.

    Raises ReleaseError, OSError. Blocks.
    """
    layout = _layout(directory)
    run = [variant for variant in release.variants if variant.get("backend") == layout]
    found: dict[str, float] = {}
    for variant in run or [variant for variant in release.variants if variant.get("target") == "cpu"]:
        for name, value in variant.get("tolerance", {}).items():
            found[name] = max(found.get(name, 0.0), float(value))
    return found


def _layout(directory: Path) -> Layout:
    return layout_of((directory / "config.pbtxt").read_text())


def _lengths(release: Release, serializer: Serializer) -> Sequence[int]:
    """Multiples to pad to. Our own model of CPUs takes all shapes alike, and has warmed itself up."""
    if release.batching == "ragged":
        return (1,)
    return [length for length in contract.BUCKETS if length <= serializer.max_length] or [serializer.max_length]


async def _text(release: Release, prompt: str, known: Texts, backend: Backend) -> str:
    sampling = Sampling(_GREEDY, 1, known.max_tokens)
    return (await backend.generate(release.id, prompt, sampling, CALL_SECONDS)).text


async def _answers(release: Release, known: Rows, serializer: Serializer, backend: Backend) -> dict[str, Floats]:
    parts = [
        await _ask(release, serializer.batch(rows, release.batching), backend, CALL_SECONDS)
        for rows in _parts(known.rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _parts(rows: Sequence[tuple[int, ...]]) -> Iterator[Sequence[tuple[int, ...]]]:
    return (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))


async def _ask(release: Release, rows: Encoded, backend: Backend, seconds: float) -> dict[str, Floats]:
    """The model's outputs by name, [N, width] each."""
    if release.kind != "reward":
        (output,) = release.outputs
        width = int(release.serializer.get("dimension", 0)) or len(release.serializer.get("labels", ()))
        return {output: await backend.encode(release.id, rows, output, width, seconds)}
    found = await backend.score(release.id, rows, seconds)
    answers = {contract.SCORE: found.score.reshape(-1, 1), contract.LOGIT: found.logit.reshape(-1, 1)}
    return answers if found.aspects is None else {**answers, contract.ASPECTS: found.aspects}
