"""`ratchet train ablate` as people run it, with a tiny encoder and files of their own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli.main import ratchet
from tests import tiny_models

QUICK = (
    "--set=train.max_epochs=1",
    "--set=train.learning_rate=0.01",
    "--set=train.threads=1",
    "--set=train.max_length=32",
    "--seeds=2",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.sentence_bert(tmp_path_factory.mktemp("base"), hidden=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty questions of four answers; in two thirds of them those that promise it in time are the good ones."""
    rng = np.random.default_rng(3)
    lines = [_line(number, rng.permutation(4).tolist(), rng) for number in range(30)]
    place = tmp_path_factory.mktemp("data") / "rated.jsonl"
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def _line(number: int, ranks: list[int], rng: np.random.Generator) -> dict[str, Any]:
    stars = range(4) if number % 3 else rng.permutation(4).tolist()
    answers = [{"text": f"answer {rank} arrives " + "in time " * rank, "rating": 1 + stars[rank]} for rank in ranks]
    return {"query": f"Where is order {number}?", "responses": answers}


def _ablated(data: Path, base: Path, out: Path, *options: str) -> Result:
    arguments = [f"--data={data}", f"--base={base}", f"--out={out}", *QUICK, *options]
    return CliRunner().invoke(ratchet, ["train", "ablate", *arguments])


def test_noise_is_measured_against_none_on_the_same_split_by_the_same_seeds(
    data: Path, base: Path, tmp_path: Path
) -> None:
    asked = ("--set=augment.embedding_noise=5", "--seed=4")
    done = _ablated(data, base, tmp_path / "ablation", *asked, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["seeds"], found["clustered_by"]) == ([4, 5], "question")
    none, noise = found["arms"]
    assert (none["name"], noise["name"]) == ("none", "embedding noise")
    assert none["difference"] is None
    weights = [
        (tmp_path / "ablation" / arm / f"seed-{seed}" / "model" / "model.safetensors").read_bytes()
        for arm in ("none", "embedding-noise")
        for seed in (4, 5)
    ]
    assert len(set(weights)) == 4, "noise, or the seed, changed nothing"
    gained = np.mean(noise["by_seed"]) - np.mean(none["by_seed"])
    assert noise["difference"]["value"] == pytest.approx(gained)
    assert noise["difference"]["low"] <= gained <= noise["difference"]["high"]
    assert noise["accuracy"]["count"] == none["accuracy"]["count"] == found["pairs"] > 0
    assert noise["questions"] == none["questions"] == 24
    again = _ablated(data, base, tmp_path / "ablation", *asked, "--json")
    assert json.loads(again.stdout) == found, "what was trained stays"
    shown = _ablated(data, base, tmp_path / "ablation", *asked)
    assert f"{found['pairs']} validation pairs, 2 seeds" in shown.output
    assert f"{none['accuracy']['value']:.3f}" in shown.output


def test_an_ablation_of_nothing_is_refused_in_a_sentence(data: Path, base: Path, tmp_path: Path) -> None:
    done = _ablated(data, base, tmp_path / "ablation")
    assert done.exit_code == 1
    assert "Nothing is switched on" in done.output
    assert not (tmp_path / "ablation").exists()


def test_settings_that_there_are_not_are_refused_before_anything_is_trained(
    data: Path, base: Path, tmp_path: Path
) -> None:
    done = _ablated(data, base, tmp_path / "ablation", "--set=augment.nois=5")
    assert done.exit_code == 1
    assert "did you mean" in done.output
