"""Finds the model that training begins from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters.errors import ExportError
from exporters.source import open_checkpoint
from trainer.errors import TrainerError
from trainer.reward import configuring, identity
from trainer.reward.config import RewardConfig

AUTO: Final = "auto"
PREFERRED: Final = "roberta-base"
STARTER: Final = Path(__file__).resolve().parents[2] / "starter" / "encoder"
"""What Ratchet ships: the starter's reward as a checkpoint."""
OURS: Final = "starter/encoder"
"""What people call it."""
SETTINGS: Final = "training.toml"
"""In a base's directory: the settings that suit it."""
OWN: Final = frozenset({"data.minimum_gap", "data.propensity_clip"})
"""What it may set beside those of `train`: which pairs and weights teach it well."""


@dataclass(frozen=True, slots=True)
class Base:
    """A model on this machine. `name` is how people call it, `digest` the SHA-256 of its files."""

    name: str
    path: Path
    digest: str


def find(name: str, report: Callable[[str], None] = lambda _: None) -> Base:
    """The model of this name on the hub, or in this directory; "auto": roberta-base where it can be had, else the
    starter's encoder. Raises TrainerError.
    """
    try:
        return _open(PREFERRED if name == AUTO else name, report)
    except ExportError as error:
        if name != AUTO or not STARTER.is_dir():
            raise TrainerError(str(error)) from error
    report(f"{PREFERRED} can't be had here, so training begins from the starter's encoder")
    return Base(OURS, STARTER, identity.of_base(STARTER))


def suited(config: RewardConfig, base: Base) -> RewardConfig:
    """The settings, and for those that nobody named the base's own, if it brings some. Raises TrainerError.

    A base says how it is trained well, not how it is judged: it may set those of `train`, and `OWN`, and no others.
    """
    path = base.path / SETTINGS
    if not path.is_file():
        return config
    brought = configuring.gathered(configuring.from_file(path))
    if refused := [name for name in _names(brought) if not (name.startswith("train.") or name in OWN)]:
        raise TrainerError(f"{path} may not set {refused[0]}: a base says how it is trained, not how it is judged.")
    return configuring.configured(brought, config.model_dump(mode="json", exclude_unset=True))


def _names(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        yield from (f"{name}.{each}" for each in value) if isinstance(value, Mapping) else (name,)


def _open(name: str, report: Callable[[str], None]) -> Base:
    found = open_checkpoint(name, report)
    path = found.path.absolute()
    return Base(OURS if path == STARTER else found.name, path, identity.of_base(path))
