"""What `--policy`, `--reward`, `--embedding` … may name: a release directory, a Hugging Face model's path or hub name.

The latter two are converted once by the exporters, in a process of their own (they need torch; the server must not),
and kept under RATCHET_HOME/releases.
"""

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from server.errors import ConfigurationError
from server.settings import Settings
from triton_models.contract import Kind
from triton_models.manifest import MANIFEST

KINDS: Final[Mapping[str, Kind]] = {
    "policy": "policy",
    "reward": "reward",
    "reward_fallback": "reward",
    "embedding": "embedding",
    "toxicity": "classifier",
    "entailment": "classifier",
}
"""The settings that name models, and what each must be."""


def resolve(settings: Settings, on_event: Callable[[str], None]) -> Settings:
    """The settings with all models that they name as release directories. Raises ConfigurationError, one sentence."""
    named = {name: source for name in KINDS if (source := getattr(settings, name))}
    found = {name: str(_release(name, source, settings.home / "releases", on_event)) for name, source in named.items()}
    return settings.model_copy(update=found)


def _release(name: str, source: str, converted: Path, on_event: Callable[[str], None]) -> Path:
    kind = KINDS[name]
    path = Path(source).expanduser()
    if (path / MANIFEST).is_file():
        return path.absolute()
    if path.is_absolute() and not path.is_dir():
        flag = f"--{name.replace('_', '-')}"
        raise ConfigurationError(
            f"{flag} {source} does not exist: give a release, a Hugging Face model's directory or name."
        )
    origin = str(path.resolve()) if path.is_dir() else source
    release_id = f"{kind}-{_fingerprint(origin, path)}"
    target = converted / release_id
    if not (target / MANIFEST).is_file():
        on_event(f"converting {source} to the release {release_id}; this is done once")
        _convert(kind, origin, target, release_id)
    return target


def _fingerprint(origin: str, path: Path) -> str:
    """Ten hexadecimal digits of what is converted: the name, and the files' names, sizes and times when it is local."""
    files = sorted(path.rglob("*")) if path.is_dir() else []
    stats = [(str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps([origin, stats]).encode()).hexdigest()[:10]


def _convert(kind: Kind, origin: str, target: Path, release_id: str) -> None:
    if importlib.util.find_spec("torch") is None:
        raise ConfigurationError(f"Converting {origin} needs torch and transformers: run `./run setup all` once.")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cli.main", "export", kind, origin, "--out", str(target), "--id", release_id]
    done = subprocess.run([*command, "--json"], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise ConfigurationError(f"{origin} could not be converted to a {kind} release: see the line above.")
