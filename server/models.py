"""Brings the releases to serve into Triton: installed in its repository, loaded, and wrapped for the request path."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from server.backends.classifier import ServedClassifier
from server.backends.embedding import ServedEmbedder
from server.backends.inference import EncoderBackend, ModelControl, PolicyBackend, RewardBackend
from server.backends.policy import ServedPolicy
from server.backends.reward import ServedReward
from server.errors import BackendError, ConfigurationError
from triton_models.config import Options
from triton_models.contract import Kind
from triton_models.manifest import Release, ReleaseError, read, verify
from triton_models.release import install

LOAD_SECONDS = 300.0
"""What loading one model may take: large ones are read from disk."""


class Backend(PolicyBackend, RewardBackend, EncoderBackend, ModelControl, Protocol):
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
    with _explained():
        _require_kind(source, await asyncio.to_thread(read, source.directory))
        return await asyncio.to_thread(install, source.directory, repository, source.options)


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
    with _explained():
        return ServedPolicy(_whole(directory), directory, backend)


def served_reward(directory: Path, backend: RewardBackend, threads: Executor) -> ServedReward:
    """The reward release in `directory`, likewise."""
    with _explained():
        return ServedReward(_whole(directory), directory, backend, threads)


def served_embedder(directory: Path, backend: EncoderBackend, threads: Executor) -> ServedEmbedder:
    """The embedding release in `directory`, likewise."""
    with _explained():
        return ServedEmbedder(_whole(directory), directory, backend, threads)


def served_classifier(directory: Path, backend: EncoderBackend, threads: Executor) -> ServedClassifier:
    """The classifier release in `directory`, likewise."""
    with _explained():
        return ServedClassifier(_whole(directory), directory, backend, threads)


def _whole(directory: Path) -> Release:
    """The manifest, and what serving reads of the release, as that says. Weights have gigabytes and are Triton's: they
    are hashed when they are installed, and each time before Triton reads them (`rollout/loading.py`)."""
    return verify(directory, folder="tokenizer")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (ReleaseError, OSError) as error:
        raise ConfigurationError(str(error)) from error


def _require_kind(source: Source, release: Release) -> None:
    if release.kind != source.kind:
        raise ConfigurationError(
            f"{source.directory} is a release of the kind {release.kind} and can't serve as the {source.kind}."
        )
