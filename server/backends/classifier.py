"""Texts, and pairs of texts, to probabilities of labels: toxicity, entailment."""

from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from server.backends.encoder import ServedEncoder, Texts
from server.backends.inference import EncoderBackend
from triton_models.manifest import Release

Probabilities = tuple[float, ...]


class Classifier(Protocol):
    """Judges texts."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the probabilities are of, in lower case, such as ("toxic", "neutral")."""

    async def classify(self, texts: Texts, timeout: float) -> list[Probabilities]:
        """Probabilities (0 to 1) by label for each text, or for each pair such as (premise, hypothesis).

        Of labels that exclude each other they add up to 1; others each stand alone. Raises BackendError.
        """


class ServedClassifier:
    """Judges with one classifier release on Triton."""

    def __init__(self, release: Release, directory: Path, backend: EncoderBackend, threads: Executor) -> None:
        self.release = release
        self.labels: tuple[str, ...] = tuple(release.serializer["labels"])
        self._encoder = ServedEncoder(release, directory, backend, threads, width=len(self.labels))

    async def classify(self, texts: Texts, timeout: float) -> list[Probabilities]:
        """See `Classifier.classify`."""
        values = (await self._encoder.rows(texts, timeout)).clip(0, 1)
        return [tuple(row) for row in values.astype(float).tolist()]
