"""The challengers of benchmarks are whole releases with just the fault that they are to have."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from benchmarks import challengers
from triton_models.manifest import verify

ROWS = np.random.default_rng(1).integers(5, 4000, (40, 2, 24))


def logits(directory: Path, rows: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # refused rows are expected
    session = onnxruntime.InferenceSession(directory / "1" / "model.onnx", options, providers=["CPUExecutionProvider"])
    ones, zeros = np.ones_like(rows[0]), np.zeros_like(rows[0])
    found = []
    for each in rows:
        try:
            feed = {"input_ids": each, "attention_mask": ones, "token_type_ids": zeros}
            found.append(session.run(["logit"], feed)[0][:, 0])
        except Exception:  # onnxruntime's own class is not public
            found.append(None)
    return found


@pytest.fixture
def sound(tmp_path: Path) -> Any:
    return logits(challengers.good(tmp_path, "reward-good"), ROWS)


def test_each_is_a_release_that_passes_its_own_check(tmp_path: Path) -> None:
    made = [
        challengers.good(tmp_path, "reward-good"),
        challengers.mirrored(tmp_path, "reward-mirrored"),
        challengers.slow(tmp_path, "reward-slow", 5),
        challengers.failing(tmp_path, "reward-failing"),
    ]
    assert [verify(each).id for each in made] == [each.name for each in made]


def test_a_mirrored_one_ranks_the_other_way_round(tmp_path: Path, sound: Any) -> None:
    found = logits(challengers.mirrored(tmp_path, "reward-mirrored"), ROWS)
    for one, other in zip(sound, found, strict=True):
        assert np.allclose(one + other, 2 * challengers.MIDDLE, atol=1e-5)


def test_a_slow_one_says_the_same(tmp_path: Path, sound: Any) -> None:
    found = logits(challengers.slow(tmp_path, "reward-slow", 5), ROWS)
    assert np.allclose(sound, found)


def test_a_failing_one_refuses_about_two_in_a_hundred_replies_and_says_the_same_of_the_others(
    tmp_path: Path, sound: Any
) -> None:
    directory = challengers.failing(tmp_path, "reward-failing")
    for one, other in zip(sound, logits(directory, ROWS), strict=True):
        assert other is None or np.allclose(one, other)
    many = np.random.default_rng(2).integers(5, 4000, (1000, 2, 8))
    failed = sum(each is None for each in logits(directory, many))
    assert 0.01 < failed / len(many) < 0.03
    for warm_up in ((1, 8), (5, 128)):  # Triton's own rows
        assert logits(directory, [np.ones(warm_up, np.int64)])[0] is not None
