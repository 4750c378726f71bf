"""Reward models: what they are made from, their training, and that they become releases."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exporters.errors import ExportError
from exporters.reward import export_reward
from exporters.reward_model import RewardModel, serializer
from tests import rated, tiny_models
from tests.small_trainings import CONFIG, learned, points
from trainer.errors import TooLittleData, TrainerError
from trainer.reward.devices import Device
from trainer.reward.loop import Point, train
from trainer.reward.prediction import predict
from triton_models.serializer import Encoded


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.sentence_bert(tmp_path_factory.mktemp("base"), hidden=32, layers=1)


# The model

MODELS: dict[str, Callable[[Path], Path]] = {
    "an encoder": tiny_models.sentence_bert,
    "roberta": tiny_models.roberta,
    "a reward that is a classifier of one label": tiny_models.bert,
    "a RoBERTa reward": lambda home: tiny_models.roberta(home, labels=1),
}


def asked(model: Path) -> tuple[Any, list[torch.Tensor]]:
    found = serializer(model, 64)
    rows = found.serialize("before", "how is it", ["good good", "a bad one, at length"])
    encoded = found.pad(rows)
    return rows, [torch.from_numpy(each) for each in arrays(encoded)]


def arrays(encoded: Encoded) -> list[Any]:
    return [each for each in (encoded.input_ids, encoded.attention_mask, encoded.token_type_ids) if each is not None]


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_reads_and_scores_as_before(name: str, tmp_path: Path) -> None:
    base = MODELS[name](tmp_path / "base")
    model = RewardModel.create(base, seed=3).eval()
    model.aspects = name == "an encoder"
    model.save(tmp_path / "saved")
    (rows, inputs), (again, _) = asked(base), asked(tmp_path / "saved")
    assert rows == again
    with torch.inference_mode():
        before, after = model(*inputs), RewardModel.load(tmp_path / "saved")(*inputs)
    kept = 5 if model.aspects else 1
    assert torch.equal(before[:, :kept], after[:, :kept])


def test_a_trained_model_becomes_a_release_with_its_aspects(base: Path, tmp_path: Path) -> None:
    model = RewardModel.create(base)
    model.aspects = True
    model.save(tmp_path / "saved")
    release = export_reward(
        tmp_path / "saved", tmp_path / "release", release_id="reward-9", temperature=2.0, precision="fp32"
    )
    assert release.outputs == ("score", "logit", "aspects")
    assert release.calibration == {"temperature": 2.0}
    assert release.parity["fp32_largest_difference"] < 1e-4


@pytest.mark.parametrize("name", ["a reward that is a classifier of one label", "a RoBERTa reward"])
def test_a_base_that_is_a_reward_keeps_its_scores(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    base = MODELS[name](tmp_path / "base")
    _, inputs = asked(base)
    with torch.inference_mode():
        given = AutoModelForSequenceClassification.from_pretrained(base).eval()(*inputs).logits
        found = RewardModel.create(base).eval()(*inputs)
    assert torch.allclose(found[:, :1], given, atol=1e-6)
    assert (found[:, 1:] == 0).all()


def test_the_seed_decides_the_new_head(base: Path) -> None:
    heads = [RewardModel.create(base, seed=seed).head for seed in (1, 1, 2)]
    first, same, other = [head.weight for head in heads if head is not None]
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_model_without_a_reward_head_is_not_loaded_as_one(base: Path) -> None:
    with pytest.raises(ExportError, match="not a reward model"):
        RewardModel.load(base)


def test_rows_computed_in_groups_score_as_they_do_alone(base: Path) -> None:
    data = rated.rows(base, rated.dataset(4, seed=5))
    model = RewardModel.create(base).eval()
    device = Device(torch.device("cpu"), "fp32", overhead=10, most=200)
    with torch.inference_mode():
        found, order, computed = device.logits(model, data, np.arange(len(data)))
        alone = [model(*map(torch.from_numpy, arrays(data.pad(np.array([row]))))) for row in order.tolist()]
    assert torch.allclose(found, torch.cat(alone), atol=1e-5)
    assert computed >= data.lengths.sum()


@pytest.mark.parametrize("name", ["an encoder", "a reward that is a classifier of one label"])
def test_in_bf16_the_head_stays_precise_so_that_near_logits_are_no_ties(name: str, tmp_path: Path) -> None:
    model = RewardModel.create(MODELS[name](tmp_path / "base")).eval()
    _, inputs = asked(tmp_path / "base")
    with torch.inference_mode():
        precise = model(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(*inputs)
    assert found.dtype == torch.float32
    assert (found != found.bfloat16()).any()
    assert torch.allclose(found, precise, atol=0.1)


def test_what_is_judged_is_computed_in_fp32_also_where_training_is_in_bf16(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = rated.rows(base, rated.dataset(4, seed=5))
    RewardModel.create(base, seed=1).save(tmp_path / "saved")
    before = predict(tmp_path / "saved", data)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})  # bf16 by itself
    assert Device.find().precision == "bf16"
    assert (predict(tmp_path / "saved", data).logits == before.logits).all()


# Training


def test_training_learns_what_is_good_and_says_how_it_went(base: Path, tmp_path: Path) -> None:
    seen: list[Point] = []
    trained = learned(base, tmp_path, CONFIG.model_copy(update={"max_epochs": 6}), aspects=True, observe=seen.append)
    told = points(tmp_path)
    assert told == [{"step": point.step, **point.values} for point in seen]
    assert [point["step"] for point in told] == list(range(trained.steps))
    assert {"loss", "mse_loss", "ranking_loss", "aspect_loss", "gradient_norm", "learning_rate"} <= told[0].keys()
    validated = [point for point in told if "validation_loss" in point]
    assert [point["epoch"] for point in validated] == list(range(1, trained.epochs + 1))
    assert trained.validation_loss == min(point["validation_loss"] for point in validated)
    assert validated[trained.best_epoch - 1]["validation_accuracy"] > 0.9
    assert trained.peak_memory_bytes > 10**7
    data = rated.rows(base, rated.dataset(10, seed=7, aspects=True))
    found = predict(trained.best, data)
    assert found.aspects is not None
    assert found.aspects.shape == (len(data), 4)
    assert np.corrcoef(found.logits, data.ratings)[0, 1] > 0.8
    assert np.corrcoef(found.aspects[:, 0], data.ratings)[0, 1] > 0.5


def test_pairs_alone_teach_an_order(base: Path, tmp_path: Path) -> None:
    data = [rated.rows(base, rated.dataset(n, seed=seed, rated=False)) for n, seed in ((32, 1), (10, 2))]
    trained = train(base, *data, CONFIG.model_copy(update={"max_epochs": 6}), tmp_path, seed=1)
    found = predict(trained.best, data[1])
    assert found.aspects is None
    assert np.mean(found.logits[data[1].chosen] > found.logits[data[1].rejected]) > 0.85


def test_the_best_epoch_is_kept_and_training_stops_when_no_better_one_comes(base: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 0.05, "max_epochs": 20, "patience": 2})
    trained = learned(base, tmp_path, config)
    told = [point["validation_loss"] for point in points(tmp_path) if "validation_loss" in point]
    assert trained.epochs < 20
    assert trained.epochs == trained.best_epoch + 2
    assert np.argmin(told) + 1 == trained.best_epoch
    assert {path.name for path in tmp_path.iterdir()} == {"model", "trained.json", "metrics.jsonl", ".lock"}


def test_a_loss_that_is_no_number_ends_the_training_with_what_to_do(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="lower learning_rate"):
        learned(base, tmp_path, CONFIG.model_copy(update={"learning_rate": 1e38, "warmup_steps": 0}))


def test_nothing_to_learn_from_or_to_validate_with_is_said(base: Path, tmp_path: Path) -> None:
    data, nothing = rated.rows(base, rated.dataset(2)), rated.rows(base, rated.dataset(0))
    with pytest.raises(TooLittleData, match="nothing to train on"):
        train(base, nothing, data, CONFIG, tmp_path / "a", seed=1)
    with pytest.raises(TooLittleData, match="nothing to validate with"):
        train(base, data, nothing, CONFIG, tmp_path / "b", seed=1)
    assert not (tmp_path / "b" / "metrics.jsonl").exists(), "said before a step was made"


def test_bf16_trains_too(base: Path, tmp_path: Path) -> None:
    trained = learned(base, tmp_path, CONFIG.model_copy(update={"precision": "bf16", "max_epochs": 1}))
    assert trained.precision == "bf16"
    assert np.isfinite(trained.validation_loss)
