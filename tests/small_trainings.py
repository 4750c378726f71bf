"""Trainings of a tiny encoder on a few made-up ratings, in a second or two."""

import json
from pathlib import Path
from typing import Any

from tests import rated
from trainer.reward.config import TrainConfig
from trainer.reward.loop import Trained, train

CONFIG = TrainConfig(learning_rate=3e-3, max_epochs=3, batch_size=8, threads=1)


def learned(
    base: Path, out: Path, config: TrainConfig = CONFIG, *, aspects: bool = False, seed: int = 1, **options: Any
) -> Trained:
    """A training on 24 questions with four responses each, validated on 10."""
    data = [rated.rows(base, rated.dataset(n, seed=seed, aspects=aspects)) for n, seed in ((24, 1), (10, 2))]
    return train(base, data[0], data[1], config, out, seed=seed, **options)


def weights(trained: Trained) -> bytes:
    return (trained.best / "model.safetensors").read_bytes()


def points(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
