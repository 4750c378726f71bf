"""By what a run is known: the same data, configuration, code, base model and release to compare with are the same run.

What is trained does not go by the last of them: it need not be trained again to be judged beside another.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from exporters.staging import code_version as installed
from trainer.reward.config import RewardConfig
from triton_models import manifest

ROOT: Final = Path(__file__).resolve().parents[2]
CODE: Final = ("trainer/data", "trainer/reward", "exporters", "triton_models")
"""The folders whose code decides what comes out of a run."""
BASE_FILES: Final = ("config.json", "tokenizer.json", "*.safetensors", "pytorch_model*.bin")


def key(snapshot: str, config: RewardConfig, base: str) -> str:
    """SHA-256, hexadecimal, of what is trained: `snapshot` and `base` are the hashes of its data and its base model."""
    # Paths of the same base differ between machines: its hash stands for it.
    settings = config.model_dump(mode="json", exclude={"base"})
    parts = {"snapshot": snapshot, "config": settings, "code": code_version(), "base": base}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def judged(key: str, service: Path | None) -> str:
    """The run's, when what `key` stands for is compared with the release in the directory `service`; None: with none.

    The release is known by all of its manifest, in which the hashes of its files are.
    """
    if service is None:
        return key
    return hashlib.sha256(f"{key} {of_files([service / manifest.MANIFEST])}".encode()).hexdigest()


@cache
def code_version() -> str:
    """The installed version, and what its code is: 0.1.0+3fa9c1d07b22."""
    files = sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py"))
    return f"{installed()}+{of_files(files)[:12]}"


def of_base(directory: Path) -> str:
    """SHA-256 of a base model's files, hexadecimal."""
    return of_files(sorted({file for pattern in BASE_FILES for file in directory.glob(pattern)}))


def of_files(files: Iterable[Path]) -> str:
    """SHA-256, hexadecimal, of the files' contents in their order; their names don't matter."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
