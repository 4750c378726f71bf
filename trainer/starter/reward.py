# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""Trains the starter reward model: a small BERT from scratch. It does not export; see publish.py.

First a warm-up on unlabelled conversations (what is a text about, does this answer belong to this query?), then the
simulated ratings: regression of the score on stars / 5 plus pairwise ranking of answers to the same query, both on
logits. It never sees the rubric.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from trainer.starter import corpus, raters, tokenizer
from trainer.starter.numerals import renumbered
from trainer.starter.policy import schedule
from trainer.starter.progress import track
from trainer.starter.query import Query
from trainer.starter.raters import RaterPlan, Rating
from triton_models.dialogue import transcript
from triton_models.serializer import RewardSerializer

SPEC: Final[dict[str, Any]] = {"format": "bert", "max_length": 512, "token_type_ids": True}


@dataclass(frozen=True, slots=True)
class RewardPlan:
    """Sizes of the reward model and its two trainings."""

    hidden: int = 192
    layers: int = 2
    align_conversations: int = 11_000
    align_batch: int = 48
    warm_conversations: int = 12_000
    warm_batch: int = 32
    epochs: int = 5
    lists_per_step: int = 12
    warm_rate: float = 6e-4
    learning_rate: float = 5e-4
    ratings: RaterPlan = field(default_factory=RaterPlan)


def context_of(query: Query) -> str:
    """What the server gives as the reward input's context: the evidence, then the earlier turns."""
    return transcript(query.evidence, query.turns)


def serialized(serializer: RewardSerializer, query: Query, answers: Sequence[str]) -> list[list[int]]:
    """The reward model's rows of token ids, as in serving."""
    return serializer.serialize(context_of(query), query.text, answers)


def train(seed: int, plan: RewardPlan, bpe: Tokenizer, out: Path) -> dict[str, float]:
    """Trains the reward model and writes it as a Hugging Face directory. Gives the last losses of both phases."""
    torch.manual_seed(seed)
    tokenizer.save(tokenizer.joining(bpe), out, tokenizer.reward_config(SPEC["max_length"]))
    serializer = RewardSerializer.load(out, SPEC)
    config = BertConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=plan.hidden,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.hidden // 32,
        intermediate_size=plan.hidden * 3,
        max_position_embeddings=SPEC["max_length"],
        pad_token_id=bpe.token_to_id(tokenizer.PAD),
        initializer_range=0.05,
        attention_probs_dropout_prob=0.0,
    )
    config.num_labels = 1
    model = BertForSequenceClassification(config)
    _ready_to_read(model.bert)
    topics = _align(model, serializer, seed, plan)
    warm = _warm_up(model, serializer, seed, plan)
    fit = _fit(model, serializer, list(raters.ratings(seed, plan.ratings)), plan)
    model.train(False).save_pretrained(out)
    return {"topic_loss": topics, "relevance_loss": warm, "rating_loss": fit}


def _inputs(serializer: RewardSerializer, rows: list[list[int]]) -> dict[str, torch.Tensor]:
    encoded = serializer.pad(rows)
    assert encoded.token_type_ids is not None
    return {
        "input_ids": torch.from_numpy(encoded.input_ids),
        "attention_mask": torch.from_numpy(encoded.attention_mask),
        "token_type_ids": torch.from_numpy(encoded.token_type_ids),
    }


def _ready_to_read(model: Any) -> None:
    """Starts a BertModel as a reader instead of as noise: sinusoidal positions, heads that pass on what they attend to.

    Normal initialisation drowns the context in the residual of a BERT this small: it stays at word frequencies for
    longer than the whole training may take. After Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention".
    """
    table = model.embeddings.position_embeddings.weight
    width = table.shape[1]
    places = torch.arange(table.shape[0])[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    with torch.no_grad():
        table[:, 0::2], table[:, 1::2] = 0.05 * torch.sin(places), 0.05 * torch.cos(places)
        for layer in model.encoder.layer:
            layer.attention.self.value.weight.add_(2.0 * torch.eye(width))
            layer.attention.output.dense.weight.add_(1.5 * torch.eye(width))


def _align(model: BertForSequenceClassification, serializer: RewardSerializer, seed: int, plan: RewardPlan) -> float:
    """Learns, without any rating, what texts are about: a query's vector finds its answer's among a batch's.

    Contrastive on the pooled vectors of queries alone and answers alone (InfoNCE, van den Oord et al. 2018). A
    classifier of pairs does not start to learn without it. Gives the mean loss of the last tenth.
    """
    rng = random.Random(f"{seed}-align")
    asked = list(corpus.asked(seed + 3, "train", plan.align_conversations))
    steps = [asked[at : at + plan.align_batch] for at in range(0, len(asked), plan.align_batch)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.warm_rate, weight_decay=0.01)
    losses = []
    for step, batch in enumerate(track(steps, "reward: topics")):
        queries = [serializer.serialize(context_of(one.query), one.query.text, [""])[0] for one in batch]
        answers = [serializer.serialize("", "", [one.answer(rng).text])[0] for one in batch]
        left, right = (
            functional.normalize(model.bert(**_inputs(serializer, rows)).pooler_output) for rows in (queries, answers)
        )
        targets = torch.arange(len(batch))
        similar = 10.0 * left @ right.T
        loss = functional.cross_entropy(similar, targets) + functional.cross_entropy(similar.T, targets)
        _step(model, optimizer, loss, plan.warm_rate * schedule(step, len(steps)))
        losses.append(loss.item())
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def _warm_up(model: BertForSequenceClassification, serializer: RewardSerializer, seed: int, plan: RewardPlan) -> float:
    """Learns, without any rating, which answers and numbers belong to which query. Gives the last tenth's loss."""
    steps = _pairs(serializer, seed, plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.warm_rate, weight_decay=0.01)
    losses = []
    for step, batch in enumerate(track(steps, "reward: relevance")):
        logits = model(**_inputs(serializer, [row for row, _ in batch])).logits[:, 0]
        loss = functional.binary_cross_entropy_with_logits(logits, torch.tensor([float(fits) for _, fits in batch]))
        _step(model, optimizer, loss, plan.warm_rate * schedule(step, len(steps)))
        losses.append(loss.item())
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def _pairs(serializer: RewardSerializer, seed: int, plan: RewardPlan) -> list[list[tuple[list[int], bool]]]:
    """Batches of (row, whether the answer was written for this query): each query with its own and a stranger's.

    An answer with numbers comes once more with other numbers: as most answers of the corpus are right, telling these
    apart teaches the usual facts (replaced token detection, Clark et al. 2020).
    """
    rng = random.Random(f"{seed}-warm")
    asked = list(corpus.asked(seed + 2, "train", plan.warm_conversations))
    answers = [one.answer(rng).text for one in asked]
    rows = []
    for index, one in enumerate(asked):
        stranger = answers[(index + 2 * rng.randrange(1, len(asked) // 4)) % len(asked)]  # languages alternate
        own, other = serialized(serializer, one.query, [answers[index], stranger])
        rows += [(own, True), (other, False)]
        if (altered := renumbered(answers[index], rng)) != answers[index]:
            rows.append((serialized(serializer, one.query, [altered])[0], False))
    rows.sort(key=lambda row: len(row[0]))
    steps = [rows[start : start + plan.warm_batch] for start in range(0, len(rows), plan.warm_batch)]
    rng.shuffle(steps)
    return steps


def _fit(
    model: BertForSequenceClassification,
    serializer: RewardSerializer,
    lists: list[list[Rating]],
    plan: RewardPlan,
) -> float:
    order = random.Random(len(lists))
    steps = []
    for _ in range(plan.epochs):
        order.shuffle(lists)
        steps += [lists[at : at + plan.lists_per_step] for at in range(0, len(lists), plan.lists_per_step)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, weight_decay=0.01)
    loss = torch.zeros(())
    model.train()
    for step, batch in enumerate(track(steps, "reward: ratings")):
        rows = [row for one in batch for row in serialized(serializer, one[0].query, [r.answer.text for r in one])]
        logits = model(**_inputs(serializer, rows)).logits[:, 0]
        stars = torch.tensor([float(rating.stars) for one in batch for rating in one])
        loss = rating_loss(logits, stars, [len(one) for one in batch])
        _step(model, optimizer, loss, plan.learning_rate * schedule(step, len(steps)))
    return float(loss.detach())


def rating_loss(logits: torch.Tensor, stars: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """BCE of sigmoid(logits) [R] against stars / 5, plus half the Bradley-Terry loss of the pairs within each list.

    `sizes` are the lists' lengths, in order, summing to R; pairs of equal stars are left out.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, stars / 5)
    margins = []
    for start, size in zip(itertools.accumulate(sizes, initial=0), sizes, strict=False):
        for i, j in itertools.permutations(range(start, start + size), 2):
            if stars[i] > stars[j]:
                margins.append(logits[i] - logits[j])
    return loss + 0.5 * functional.softplus(-torch.stack(margins)).mean() if margins else loss


def _step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
