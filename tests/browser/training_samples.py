"""Training runs and review items with something to see in each part. All of it made up, and the same each time."""

import math
from collections.abc import Iterator
from typing import Any

from google.protobuf.struct_pb2 import Struct

from ratchet.v1 import training_pb2 as pb
from tests.browser.planted import stamp

RUNNING, BETTER, WORSE, FAILED, DUPLICATE = (f"0199f000-0000-7000-8000-00000000000{n}" for n in range(1, 6))
HOUR = 3600.0
REASONS = (
    "On 1,204 validation pairs it puts 71.2 % in the right order, the release in service 67.9 %: 3.3 points more "
    "(95 % interval +0.8 to +5.9).",
    "It is ahead of the longest response (55.4 %) and of TF-IDF (61.0 %).",
    "No group with enough pairs loses more than 10 points; the worst is Vietnamese, 1.1 points behind.",
)
METRICS = {
    "pairwise_accuracy": 0.712,
    "pairwise_accuracy_low": 0.691,
    "pairwise_accuracy_high": 0.733,
    "pairwise_accuracy_similar_length": 0.688,
    "pairwise_accuracy_similar_length_low": 0.655,
    "pairwise_accuracy_similar_length_high": 0.72,
    "service_pairwise_accuracy": 0.679,
    "tfidf_pairwise_accuracy": 0.61,
    "longest_pairwise_accuracy": 0.554,
    "difference_to_service": 0.033,
    "difference_to_service_low": 0.008,
    "difference_to_service_high": 0.059,
    "best_of_5_gain": 0.58,
    "best_of_5_gain_low": 0.51,
    "best_of_5_gain_high": 0.64,
    "ece": 0.031,
    "mse": 0.061,
    "spearman": 0.544,
    "validation_pairs": 1204,
}


def runs(now: float) -> Iterator[pb.Training]:
    """One under way, one that is better, one that is not, one that failed, one that was there before."""
    running = _run(RUNNING, now - 0.3 * HOUR, pb.TRAINING_STATE_RUNNING, requested_by="count")
    running.stage, running.progress, running.base_model, running.attempts = "training", 0.42, "roberta-base", 2
    running.feedback_count, running.new_feedback_count, running.snapshot = 6120, 1000, "a1" * 32
    running.start_time.CopyFrom(stamp(now - 0.3 * HOUR))
    yield running
    better = _ended(BETTER, now - 26 * HOUR, pb.TRAINING_VERDICT_BETTER)
    better.release, better.reasons[:], better.requested_by = "reward-000002", REASONS, "Lan"
    better.metrics.update(METRICS)
    better.not_reproducible = True
    better.config.CopyFrom(_config())
    yield better
    worse = _ended(WORSE, now - 75 * HOUR, pb.TRAINING_VERDICT_NOT_BETTER)
    worse.reasons[:] = ["It is 0.4 points behind the release in service (95 % interval -2.9 to +2.2)."]
    worse.metrics.update(METRICS | {"pairwise_accuracy": 0.675})
    yield worse
    failed = _run(FAILED, now - 99 * HOUR, pb.TRAINING_STATE_FAILED, requested_by="schedule")
    failed.error = "The base model 'microsoft/deberta-v3-smal' can't be had: there is no such name, and no such path."
    failed.base_model = "microsoft/deberta-v3-smal"
    yield failed
    same = _run(DUPLICATE, now - 120 * HOUR, pb.TRAINING_STATE_DUPLICATE, requested_by="")
    same.duplicate_of = WORSE
    yield same


def points(steps: int = 120) -> list[pb.TrainingPoint]:
    """A run of four epochs that learns."""
    found = []
    for step in range(steps):
        part = step / 300
        values = {
            "mse_loss": 0.09 * math.exp(-4 * part) + 0.05 + 0.01 * math.sin(step * 1.7),
            "ranking_loss": 0.45 * math.exp(-3 * part) + 0.28 + 0.03 * math.sin(step * 2.3),
            "aspect_loss": 0.07 * math.exp(-3 * part) + 0.06 + 0.008 * math.cos(step),
            "learning_rate": 2e-5 * (min(1, step / 30) if step < 30 else 0.5 + 0.5 * math.cos(math.pi * part)),
            "gradient_norm": 1.4 + math.exp(-5 * part) + 0.3 * math.sin(step * 3.1),
        }
        values["loss"] = values["mse_loss"] + values["ranking_loss"] + 0.5 * values["aspect_loss"]
        if step % 30 == 29:
            epoch = step // 30
            values |= {"validation_loss": 0.5 - 0.03 * epoch, "validation_mse": 0.08 - 0.005 * epoch}
            values |= {"validation_ranking": 0.42 - 0.025 * epoch, "validation_accuracy": 0.62 + 0.025 * epoch}
        found.append(pb.TrainingPoint(step=step, values=values))
    return found


def report() -> tuple[dict[str, Any], str]:
    """What of a report the console reads, and a page."""
    clauses = [
        {"name": "service", "passed": True, "sentence": REASONS[0]},
        {"name": "baselines", "passed": True, "sentence": REASONS[1]},
        {"name": "groups", "passed": None, "sentence": "Of the groups only English has 50 pairs: nothing to compare."},
        {"name": "calibrated", "passed": True, "sentence": "Its scores are off by 0.031 on average; 0.1 is allowed."},
    ]
    exclusions = [
        {"reason": "bot", "count": 212, "detail": "four raters gave the same stars every time, within 2 seconds"},
        {"reason": "degraded", "count": 87, "detail": "the reply was made without a reward model"},
        {"reason": "tie", "count": 340, "detail": "ratings nearer than half a star"},
    ]
    verdict = {"outcome": "BETTER", "summary": "It ranks better than reward-000001.", "clauses": clauses}
    page = (
        '<!doctype html><html lang="en"><head><title>Report</title><style>.report{color-scheme:light dark;'
        "background:light-dark(#fff,#111);color:light-dark(#111,#eee)}</style></head><body class='report'>"
        "<h1>Reward model report</h1><script>document.title = 'ran'</script><p id='x'>Tốt hơn</p></body></html>"
    )
    return {"version": 1, "verdict": verdict, "data": {"exclusions": exclusions}}, page


def items() -> Iterator[pb.ReviewItem]:
    """One of each reason, and one in Vietnamese."""
    for number, (reason, score, rating, query, response) in enumerate(
        (
            (
                *(pb.REVIEW_REASON_DISPUTED, 0.91, 0.25, "Can I return a kettle that I have used once?"),
                "Yes. You can return it within **30 days**, used or not:\n\n- bring the receipt\n- keep the box",
            ),
            (
                *(pb.REVIEW_REASON_HIGHEST, 0.97, None, "Bảo hành của nồi cơm điện bao lâu?"),
                "Nồi cơm điện được bảo hành 24 tháng kể từ ngày mua, theo phiếu bảo hành.",
            ),
            (
                *(pb.REVIEW_REASON_LOWEST, 0.06, 0.5, "Where is order 1042?"),
                "I could not find that.",
            ),
        ),
        start=1,
    ):
        item = pb.ReviewItem(
            item_id=f"0199f000-0000-7000-8000-0000000001{number:02}",
            training_id=BETTER,
            response_id=f"0199f000-0000-7000-8000-0000000002{number:02}",
            query=query,
            context="Returns: goods can be returned within 30 days when they are unused and in their box.",
            response=response,
            score=score,
            rating=rating,
            reason=reason,
        )
        yield item


def _run(training_id: str, since: float, state: "pb.TrainingState.ValueType", **more: Any) -> pb.Training:
    return pb.Training(training_id=training_id, kind="reward", state=state, create_time=stamp(since), **more)


def _ended(training_id: str, since: float, verdict: "pb.TrainingVerdict.ValueType") -> pb.Training:
    found = _run(training_id, since, pb.TRAINING_STATE_SUCCEEDED, requested_by="schedule", verdict=verdict, attempts=1)
    found.start_time.CopyFrom(stamp(since + 20))
    found.end_time.CopyFrom(stamp(since + 20 + 1.4 * HOUR))
    found.base_model, found.compared_with, found.snapshot = "roberta-base", "reward-000001", "3f" * 32
    found.feedback_count, found.new_feedback_count, found.progress = 5120, 1204, 1.0
    return found


def _config() -> Struct:
    found = Struct()
    train = {"learning_rate": 2e-05, "batch_size": 16, "bucket": True, "precision": "auto"}
    found.update({"base": "roberta-base", "seed": 1, "train": train, "gate": {"confidence": 0.95}})
    return found
