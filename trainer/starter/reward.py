# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""Trains the starter reward model: a small BERT from scratch. It does not export; see publish.py.

First masked-language warm-up on unlabelled conversations, then the simulated ratings: regression of the score on
stars / 5 plus pairwise ranking of answers to the same query, both on logits. It never sees the rubric.
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
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

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
    layers: int = 2
    warm_conversations: int = 8_000
    warm_batch: int = 12
    mask_rate: float = 0.33
    epochs: int = 6
    lists_per_step: int = 10
    warm_rate: float = 7e-4
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
    language = BertForMaskedLM(config)
    _ready_to_read(language.bert)
    warm = _warm_up(language, serializer, seed, plan, int(bpe.token_to_id(tokenizer.MASK) or 0))
    config.num_labels = 1
    model = BertForSequenceClassification(config)
    model.bert.load_state_dict(language.bert.state_dict(), strict=False)
    fit = _fit(model, serializer, list(raters.ratings(seed, plan.ratings)), plan)
    model.train(False).save_pretrained(out)
    return {"warm_up_loss": warm, "rating_loss": fit}


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


def _warm_up(model: BertForMaskedLM, serializer: RewardSerializer, seed: int, plan: RewardPlan, mask_id: int) -> float:
    """Learns, without any rating, what answers say: a third of an answer's tokens is masked, the query never."""
    rows = []
    for one in corpus.asked(seed + 2, "train", plan.warm_conversations):
        answer = one.answer(random.Random(f"{seed}-warm-{one.query.id}"))
        rows += serialized(serializer, one.query, [answer.text])
    rows.sort(key=len)
    steps = [rows[start : start + plan.warm_batch] for start in range(0, len(rows), plan.warm_batch)]
    random.Random(seed).shuffle(steps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.warm_rate, weight_decay=0.01)
    losses = []
    for step, batch in enumerate(track(steps, "reward: language")):
        inputs = _inputs(serializer, batch)
        own = (inputs["token_type_ids"] == 1) & (inputs["input_ids"] >= len(tokenizer.SPECIAL))
        masked = own & (torch.rand(own.shape) < plan.mask_rate)
        labels = inputs["input_ids"][masked]
        inputs["input_ids"] = inputs["input_ids"].masked_fill(masked, mask_id)
        loss = functional.cross_entropy(model.cls(model.bert(**inputs).last_hidden_state[masked]), labels)
        _step(model, optimizer, loss, plan.warm_rate * schedule(step, len(steps)))
        losses.append(loss.item())
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


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
