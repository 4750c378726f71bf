"""Trains the starter reward model: a small BERT from scratch. It does not export; see publish.py.

First a warm-up on unlabelled conversations: does the answer belong to the query, and which of its tokens were exchanged
(as ELECTRA does; masked-language modelling stays at word frequencies for longer than the whole training may take)? Then the simulated ratings: regression of the score on stars / 5
plus pairwise ranking of answers to the same query, both on logits. It never sees the rubric.
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
    layers: int = 4
    warm_conversations: int = 20_000
    warm_batch: int = 12
    epochs: int = 4
    lists_per_step: int = 10
    warm_rate: float = 5e-4
    learning_rate: float = 3e-4
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
        num_labels=1,
        initializer_range=0.05,
    )
    model = BertForSequenceClassification(config)
    _know_positions(model)
    warm = _warm_up(model, serializer, seed, plan, bpe)
    fit = _fit(model, serializer, list(raters.ratings(seed, plan.ratings)), plan)
    model.eval().save_pretrained(out)
    return {"warm_up_loss": warm, "rating_loss": fit}


def _inputs(serializer: RewardSerializer, rows: list[list[int]]) -> dict[str, torch.Tensor]:
    encoded = serializer.pad(rows)
    assert encoded.token_type_ids is not None
    return {
        "input_ids": torch.from_numpy(encoded.input_ids),
        "attention_mask": torch.from_numpy(encoded.attention_mask),
        "token_type_ids": torch.from_numpy(encoded.token_type_ids),
    }


def _know_positions(model: BertForSequenceClassification) -> None:
    """Starts the position embeddings as sinusoids: random ones take longer to learn what stands next to what."""
    table = model.bert.embeddings.position_embeddings.weight
    places = torch.arange(table.shape[0])[:, None] / 10000 ** (torch.arange(0, table.shape[1], 2) / table.shape[1])
    with torch.no_grad():
        table[:, 0::2], table[:, 1::2] = 0.05 * torch.sin(places), 0.05 * torch.cos(places)


def _warm_up(
    model: BertForSequenceClassification, serializer: RewardSerializer, seed: int, plan: RewardPlan, bpe: Tokenizer
) -> float:
    """Learns, without any rating, which answers go with which query and which tokens were exchanged."""
    steps = _pairs(serializer, seed, plan)
    digits = torch.tensor([token for text, token in bpe.get_vocab().items() if text.lstrip("\u0120").isdigit()])
    head = torch.nn.Linear(plan.hidden, 1)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=plan.warm_rate, weight_decay=0.01)
    loss = torch.zeros(())
    for step, batch in enumerate(track(steps, "reward: language")):
        inputs = _inputs(serializer, [row for row, _ in batch])
        own = (inputs["token_type_ids"] == 1) & (inputs["input_ids"] >= len(tokenizer.SPECIAL))
        corrupted = _corrupt(inputs["input_ids"], own, digits)
        changed = (corrupted != inputs["input_ids"]).float()
        inputs["input_ids"] = corrupted
        states = model.bert(**inputs)
        match = model.classifier(states.pooler_output)[:, 0]
        loss = functional.binary_cross_entropy_with_logits(match, torch.tensor([float(fits) for _, fits in batch]))
        tokens = head(states.last_hidden_state)[..., 0]
        loss = loss + 4 * functional.binary_cross_entropy_with_logits(tokens[own], changed[own])
        _step(model, optimizer, loss, plan.warm_rate * schedule(step, len(steps)))
    return float(loss.detach())


def _pairs(serializer: RewardSerializer, seed: int, plan: RewardPlan) -> list[list[tuple[list[int], bool]]]:
    """Batches of (row, whether the answer was written for this query): every second answer is a stranger's."""
    rng = random.Random(f"{seed}-warm")
    asked = list(corpus.asked(seed + 2, "train", plan.warm_conversations))
    answers = [one.answer(rng).text for one in asked]
    rows = []
    for index, one in enumerate(asked):
        fits = index % 4 < 2  # languages alternate: both get both kinds
        stranger = (index + 2 * rng.randrange(1, 50)) % len(asked)
        answer = answers[index if fits else stranger]
        rows.append((serialized(serializer, one.query, [answer])[0], fits))
    rows.sort(key=lambda row: len(row[0]))
    steps = [rows[start : start + plan.warm_batch] for start in range(0, len(rows), plan.warm_batch)]
    rng.shuffle(steps)
    return steps


def _corrupt(ids: torch.Tensor, own: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """Exchanges a tenth of the answers' tokens (`own`) for others of the batch, and a quarter of their digits."""
    words = ids[own]
    shuffled = words[torch.randperm(len(words))]
    exchanged = torch.where(torch.rand(words.shape) < 0.1, shuffled, words)
    others = digits[torch.randint(len(digits), words.shape)]
    exchanged = torch.where(torch.isin(words, digits) & (torch.rand(words.shape) < 0.25), others, exchanged)
    return ids.masked_scatter(own, exchanged)


def _fit(
    model: BertForSequenceClassification, serializer: RewardSerializer, lists: list[list[Rating]], plan: RewardPlan
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
