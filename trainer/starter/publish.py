"""Puts the trained models and the shop's files into the starter directory, as releases that Triton can be given."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from trainer.starter import ENCODER, encoder, shop
from trainer.starter.query import StarterError

POLICY, REWARD = "policy-000001", "reward-000001"


def releases(work: Path, out: Path) -> None:
    """The models trained under `work` (policy/, reward/) as int8 releases in `out`, and the reward's checkpoint as the
    base of later training, replacing those there.

    Raises StarterError when a model can't be exported.
    """
    from exporters.errors import ExportError
    from exporters.policy import export_policy
    from exporters.reward import export_reward

    out.mkdir(parents=True, exist_ok=True)
    for release in (POLICY, REWARD):
        shutil.rmtree(out / release, ignore_errors=True)
    try:
        export_policy(work / "policy", out / POLICY, release_id=POLICY, base_model="ratchet-starter-policy")
        export_reward(work / "reward", out / REWARD, release_id=REWARD, base_model="ratchet-starter-reward")
        encoder.publish(work / "reward", out / ENCODER)
    except ExportError as error:
        raise StarterError(f"The trained starter models can't be exported: {error}") from error


def extras(out: Path, seed: int) -> None:
    """help_pages/*.md and orders.json: what the docs tool and the SQL tool read."""
    pages = out / "help_pages"
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for name, text in shop.help_pages():
        (pages / name).write_text(text, encoding="utf-8")
    whole(out / "orders.json", json.dumps(shop.order_table(seed), indent=1, ensure_ascii=False) + "\n")


def metrics(out: Path, figures: dict[str, Any]) -> None:
    """METRICS.json, the proof."""
    whole(out / "METRICS.json", json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def whole(path: Path, text: str) -> None:
    """Writes a file that readers see whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
