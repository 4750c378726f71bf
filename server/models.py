"""Brings the releases to serve into Triton: installed in its repository, loaded, and wrapped for the request path."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from server.backends.inference import ModelControl, PolicyBackend, RewardBackend
from server.backends.policy import ServedPolicy
from server.backends.reward import ServedReward
from server.errors import BackendError, ConfigurationError
from triton_models.config import Options
from triton_models.contract import Kind
from triton_models.manifest import Release, ReleaseError, verify
from triton_models.release import install

LOAD_SECONDS = 300.0
"""What loading one model may take: large ones are read from disk."""


class Backend(PolicyBackend, RewardBackend, ModelControl, Protocol):
    """An inference server: Triton, or the fake of it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A release directory to serve, as what, and in which layout of Triton."""

    kind: Kind
    directory: Path
    options: Options


async def deploy(source: Source, repository: Path) -> Path:
    """Checks the release and installs it in Triton's repository; gives its directory there.

    Raises ConfigurationError, one sentence.
    """
    try:
        release = await asyncio.to_thread(verify, source.directory)
        _require_kind(source, release)
        return await asyncio.to_thread(install, source.directory, repository, source.options)
    except (ReleaseError, OSError) as error:
        raise ConfigurationError(str(error)) from error


async def load(models: Sequence[str], backend: ModelControl) -> None:
    """Loads the models side by side; returns once all are ready. Raises ConfigurationError for one that is not."""
    outcomes = await asyncio.gather(*(backend.load(model, LOAD_SECONDS) for model in models), return_exceptions=True)
    for model, outcome in zip(models, outcomes, strict=True):
        if isinstance(outcome, BackendError):
            raise ConfigurationError(f"Triton does not load {model}: {outcome}") from outcome
        if isinstance(outcome, BaseException):
            raise outcome


def served_policy(directory: Path, backend: PolicyBackend) -> ServedPolicy:
    """The policy release in `directory`, ready for the request path. Reads its tokenizer: not for the event loop."""
    return ServedPolicy(_verified(directory), directory, backend)


def served_reward(directory: Path, backend: RewardBackend, threads: Executor) -> ServedReward:
    """The reward release in `directory`, likewise."""
    return ServedReward(_verified(directory), directory, backend, threads)


def _verified(directory: Path) -> Release:
    try:
        return verify(directory)
    except (ReleaseError, OSError) as error:
        raise ConfigurationError(str(error)) from error


def _require_kind(source: Source, release: Release) -> None:
    if release.kind != source.kind:
        raise ConfigurationError(
            f"{source.directory} is a {release.kind} release and can't serve as the {source.kind}."
        )
