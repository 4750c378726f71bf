"""What a reward model is trained to: the losses, by hand and beside plain loops."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from trainer.reward.config import TrainConfig
from trainer.reward.losses import Targets, bradley_terry, losses, squared_error


def targets(ratings: list[float], pairs: list[tuple[int, int, float]] | None = None, **options: Any) -> Targets:
    told = pairs or []
    return Targets(
        ratings=torch.tensor(ratings),
        weights=torch.tensor(options.get("weights", [1.0] * len(ratings))),
        aspects=torch.tensor(options.get("aspects", [[float("nan")] * 4] * len(ratings))),
        chosen=torch.tensor([one for one, _, _ in told], dtype=torch.long),
        rejected=torch.tensor([other for _, other, _ in told], dtype=torch.long),
        margins=torch.tensor([margin for _, _, margin in told]),
        pair_weights=torch.tensor(options.get("pair_weights", [1.0] * len(told))),
    )


NAN = float("nan")


def test_the_squared_error_is_of_scores_and_counts_rated_responses_by_weight() -> None:
    logits = torch.tensor([0.0, 2.0, -1.0], requires_grad=True)
    found = squared_error(logits, torch.tensor([1.0, 0.5, NAN]), torch.tensor([1.0, 0.5, 3.0]))
    assert found.item() == pytest.approx((0.25 + 0.5 * (expit(2.0) - 0.5) ** 2) / 2)
    found.backward()
    assert logits.grad is not None
    assert logits.grad[2] == 0
    assert logits.grad.isfinite().all()


def test_the_ranking_is_bradley_terry_with_margin_and_smoothed_labels() -> None:
    lead, margin, smoothing = 0.7, 0.25, 0.05
    right, wrong = -np.log(expit(lead - margin)), -np.log(expit(margin - lead))
    found = bradley_terry(torch.tensor([lead]), torch.tensor([margin]), smoothing)
    assert found.item() == pytest.approx(0.95 * right + 0.05 * wrong)
    least = torch.tensor([margin + np.log(0.95 / 0.05)], requires_grad=True)
    bradley_terry(least, torch.tensor([margin]), smoothing).backward()  # type: ignore[no-untyped-call]
    assert least.grad is not None
    assert least.grad.item() == pytest.approx(0, abs=1e-6)


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    config = TrainConfig(alpha=2, beta=3, aspect_weight=0.5, margin_scale=2, label_smoothing=0, centering=0.1)
    logits = torch.tensor([[1.0, 0, 0, 0, 0], [0.5, 1, 0, 0, 0], [2.0, 0, 0, 0, 0], [-1.0, 0, 0, 0, 0]])
    told = targets(
        [0.75, 0.25, NAN, NAN],
        [(0, 1, 0.5), (2, 3, 0.0)],
        aspects=[[NAN] * 4, [1.0, 0.5, NAN, NAN], [NAN] * 4, [NAN] * 4],
        pair_weights=[0.5, 1.5],
    )
    found = losses(logits, told, config)
    mse = ((expit(1.0) - 0.75) ** 2 + (expit(0.5) - 0.25) ** 2) / 2
    rated_pair = -np.log(expit(0.5 - 2 * 0.5))  # not centred: its ratings say where the middle is
    unrated_pair = -np.log(expit(3.0)) + 0.1 * (2.0 - 1.0) ** 2
    ranking = (0.5 * rated_pair + 1.5 * unrated_pair) / 2
    aspect = (expit(1.0) - 1) ** 2 / 2  # the second one hits its target
    parts = [part.item() for part in (found.mse, found.ranking, found.aspect)]
    assert parts == pytest.approx([mse, ranking, aspect], rel=1e-5)
    assert found.loss.item() == pytest.approx(2 * mse + 3 * ranking + 0.5 * aspect, rel=1e-5)


def test_a_batch_without_pairs_ratings_or_aspects_costs_nothing_and_is_no_nan() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    found = losses(logits, targets([NAN] * 3), TrainConfig())
    assert found.loss.item() == 0
    found.loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad == 0).all()
