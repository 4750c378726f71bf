# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""Makes the starter models from nothing: corpus, tokenizer, both trainings side by side, export, proof."""

import ctypes
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from trainer.starter import ENCODER, corpus, encoder, evaluate, progress, publish, tokenizer
from trainer.starter.policy import PolicyPlan
from trainer.starter.raters import RaterPlan
from trainer.starter.reward import RewardPlan


@dataclass(frozen=True, slots=True)
class Plan:
    """All sizes of one run."""

    vocabulary: int = 4096
    tokenizer_conversations: int = 12_000
    evaluation_queries: int = 800
    copying_queries: int = 100
    policy: PolicyPlan = field(default_factory=PolicyPlan)
    reward: RewardPlan = field(default_factory=RewardPlan)


QUICK = Plan(
    vocabulary=1024,
    tokenizer_conversations=300,
    evaluation_queries=40,
    copying_queries=2,
    policy=PolicyPlan(rounds=(200,), hidden=32, layers=1),
    reward=RewardPlan(
        hidden=32, layers=1, align_conversations=96, warm_conversations=64, epochs=1, ratings=RaterPlan(queries=20)
    ),
)
"""Seconds instead of minutes: it shows that every step runs, its models are useless."""


def texts(seed: int, count: int) -> Iterator[str]:
    """What the tokenizer learns from."""
    for one in corpus.asked(seed, "train", count):
        answer = one.answer(random.Random(f"{seed}-tokenizer-{one.query.id}")).text
        yield from (one.query.evidence, one.query.text, answer)


def make(out: Path, seed: int, plan: Plan) -> dict[str, Any]:
    """Trains, exports into `out` and proves; gives what METRICS.json says."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ratchet-starter-") as folder:
        work = Path(folder)
        tokenizer.train(texts(seed, plan.tokenizer_conversations), plan.vocabulary).save(str(work / "bpe.json"))
        losses = train(work, seed, plan)
        publish.releases(work, out)
    publish.extras(out, seed)
    trained = round(time.monotonic() - began)
    _, proof = evaluate.run(out, evaluate.SEED, plan.evaluation_queries, plan.copying_queries)
    figures = {"seed": seed, "training_seconds": trained, **losses, **proof}
    publish.metrics(out, figures)
    return figures


def train(work: Path, seed: int, plan: Plan) -> dict[str, Any]:
    """Both models at the same time, each in a process of its own with half of the cores."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 2) // 2)
    outbox = context.Queue()
    with ProcessPoolExecutor(2, context, initializer=_prepare, initargs=(threads, outbox)) as pool:
        jobs: list[Callable[[Path, int, Plan], dict[str, float]]] = [_policy, _reward]
        children = [pool.submit(job, work, seed, plan) for job in jobs]
        progress.watch(outbox, children)
        return {name: value for child in children for name, value in child.result().items()}


def _prepare(threads: int, outbox: Any) -> None:
    """In a child: its threads, its progress, and memory that glibc keeps instead of handing it back at every step."""
    import torch

    torch.set_num_threads(threads)
    progress.post_to(outbox)
    outbox.cancel_join_thread()
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0)  # M_MMAP_MAX: no mappings of their own for large blocks
    libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: page faults took a third of a step's time


def _policy(work: Path, seed: int, plan: Plan) -> dict[str, float]:
    from trainer.starter import policy

    bpe = Tokenizer.from_file(str(work / "bpe.json"))
    return {"policy_loss": round(policy.train(seed, plan.policy, bpe, work / "policy"), 4)}


def _reward(work: Path, seed: int, plan: Plan) -> dict[str, float]:
    from trainer.starter import reward

    bpe = Tokenizer.from_file(str(work / "bpe.json"))
    losses = reward.train(seed, plan.reward, bpe, work / "reward")
    return {name: round(value, 4) for name, value in losses.items()}


def prove(out: Path, seed: int, count: int, copied: int) -> tuple[list[evaluate.Choice], dict[str, Any]]:
    """Evaluates the releases in `out` again and writes the figures into their METRICS.json."""
    found, proof = evaluate.run(out, seed, count, copied)
    path = out / "METRICS.json"
    figures = (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}) | proof
    publish.metrics(out, figures)
    return found, figures


def restore(out: Path) -> None:
    """Writes the reward's checkpoint again from its release in `out`."""
    with tempfile.TemporaryDirectory(prefix="ratchet-starter-") as folder:
        encoder.restore(out / publish.REWARD, Path(folder) / "reward", RewardPlan().hidden // 32)
        encoder.publish(Path(folder) / "reward", out / ENCODER)
