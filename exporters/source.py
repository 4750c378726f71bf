"""Finds the model that a person named: a directory in Hugging Face's layout, or a name on the hub."""

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from exporters.errors import ExportError, explained

Report = Callable[[str], None]
FILES: Final = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja")
CONNECT_SECONDS: Final = 5
HUB: Final = "hub:"
"""Before a name that is one on the hub, whatever lies under it on this machine."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on disk. `name` is what the person typed; `weights` counts bytes on disk."""

    name: str
    path: Path
    config: Any
    architecture: str
    weights: int


def open_checkpoint(model: Path | str, report: Report) -> Checkpoint:
    """Locates the model and reads its configuration. A name with `HUB` before it is never looked for on this machine
    but in the hub's cache. Raises ExportError.
    """
    on_hub = isinstance(model, str) and model.startswith(HUB)
    name = str(model).removeprefix(HUB) if on_hub else str(model)
    path = None if on_hub else _local(model)
    path = path or _download(name, report, directory=not on_hub)
    if not (path / "config.json").is_file():
        raise ExportError(f"{name} has no config.json: it is not a Hugging Face model's directory.")
    found = [*path.glob("*.safetensors")] or [*path.glob("pytorch_model*.bin")]
    if not found:
        raise ExportError(f"{name} has no weights: there is neither *.safetensors nor pytorch_model*.bin in it.")
    quiet()
    from transformers import AutoConfig

    with explained(f"The configuration of {name} can't be used"):
        config = AutoConfig.from_pretrained(path)
    architecture = (getattr(config, "architectures", None) or ["unknown"])[0]
    return Checkpoint(name, path, config, architecture, sum(file.stat().st_size for file in found))


def require_room(checkpoint: Checkpoint, out: Path) -> None:
    """Refuses a model that would exhaust memory or disk while it is converted."""
    parent = next(path for path in out.absolute().parents if path.exists())
    memory, disk = psutil.virtual_memory().available, shutil.disk_usage(parent).free
    need_memory, need_disk = 3 * checkpoint.weights, 2 * checkpoint.weights
    if need_memory > memory:
        raise ExportError(
            f"Converting {checkpoint.name} needs about {_gb(need_memory)} of memory and {_gb(memory)} are free: "
            "use a machine with more, or a smaller model."
        )
    if need_disk > disk:
        raise ExportError(
            f"Converting {checkpoint.name} needs about {_gb(need_disk)} on disk and {parent} has {_gb(disk)} free: "
            "make room, or choose another --out."
        )


def quiet() -> None:
    """No telemetry, no bars and no advice of transformers on the terminal."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    messages: Any = logging
    messages.set_verbosity_error()
    messages.disable_progress_bar()


def _local(model: Path | str) -> Path | None:
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if isinstance(model, Path) or path.is_absolute() or str(model).startswith((".", "~")) or str(model).count("/") > 1:
        raise ExportError(f"{model} does not exist: give a model's directory, or a name on the Hugging Face hub.")
    return None


def _download(name: str, report: Report, *, directory: bool) -> Path:
    """`directory`: whether the errors say that none of this name is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    online = _hub_answers()
    report(f"looking for {name} on the Hugging Face hub" if online else f"looking for {name} in the local cache")
    with explained(f"{name} can't be downloaded"):
        try:
            return Path(snapshot_download(name, allow_patterns=list(FILES), local_files_only=not online))
        except GatedRepoError:
            raise ExportError(
                f"{name} is gated: accept its terms on huggingface.co and log in with `hf auth login`."
            ) from None
        except (RepositoryNotFoundError, HFValidationError):
            none = "There is no directory and no model" if directory else "There is no model"
            raise ExportError(f"{none} on the hub named {name}.") from None
        except (LocalEntryNotFoundError, OfflineModeIsEnabled):
            none = f"There is no directory {name}" if directory else f"{name} is not in the hub's cache here"
            way = "give a model's directory" if directory else "name another model"
            raise ExportError(f"{none}, and the Hugging Face hub can't be reached: {way}.") from None


def _hub_answers() -> bool:
    """Whether to try at all: the hub's client waits half a minute before it says that it is offline."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    parts = urlsplit(constants.ENDPOINT)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
