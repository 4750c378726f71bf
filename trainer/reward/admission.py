"""Which models a run may name that was asked for through the API: those of the hub, and those of one folder.

Who asks there may be of any tenant and on another machine: a path would open all that the trainer can read to them.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exporters.source import HUB
from trainer.errors import TrainerError
from trainer.reward import base, configuring

MODELS: Final = ("base", "augment.paraphrase_model", "augment.forward_model", "augment.backward_model")
"""The settings that name a model."""
_ON_HUB: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


def admitted(asked: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """What was asked for, in groups: models below `folder` and our own as whole paths, others as names that are never
    looked for on this machine. Raises TrainerError for any other path, whether there is something or not.
    """
    found = configuring.gathered(asked)
    if not found.get("base", True):  # named none: the trainer's own is not to be put aside by that
        del found["base"]
    for setting in MODELS:
        *groups, name = setting.split(".")
        values = found
        for group in groups:
            values = values.get(group, {})
        if values.get(name):
            values[name] = _place(setting, str(values[name]), folder)
    return found


def _place(setting: str, model: str, folder: Path | None) -> str:
    if setting == "base" and model == base.AUTO:
        return model
    if model == base.OURS:
        return str(base.STARTER)
    if folder is not None and (inside := _inside(model, folder)):
        return inside
    if _ON_HUB.fullmatch(name := model.removeprefix(HUB)):
        return HUB + name
    raise TrainerError(
        f"{setting} may not be {model!r}: a run that is asked for through the API names a model of the Hugging Face "
        "hub, or one below the folder that its trainer was given (`ratchet trainer --bases`)."
    )


def _inside(model: str, folder: Path) -> str:
    """The directory of this name, or path, if it lies below the folder; else "". Links count as what they lead to."""
    try:
        within = folder.resolve()
        place = (within / model).resolve()
        return str(place) if within in place.parents and place.is_dir() else ""
    except (OSError, ValueError, RuntimeError):  # no name that a directory can have, or links that lead round
        return ""
