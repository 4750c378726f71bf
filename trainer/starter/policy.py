# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""Trains the starter policy: a small Llama from scratch on the corpus. It does not export; see publish.py.

The loss is cross-entropy on the answers, numbers weighing more (few tokens, and what copying is about), plus a small
share on all other tokens, which teaches the language sooner.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.starter import corpus, drills, tokenizer
from trainer.starter.grafting import grafted
from trainer.starter.progress import track
from trainer.starter.query import Query

CONTEXT_SAMPLE: Final = 0.25
"""The share of the context's tokens that are predicted: enough to learn the language from."""


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """Sizes of the policy and its training; `tokens_per_step` counts padding.

    `rounds` are the numbers of new conversations in each pass, which warms up and decays anew. Before the last one the
    policy gets its layer for copying; with it come `drills` times as many drills.
    """

    rounds: tuple[int, ...] = (36_000, 36_000, 24_000)
    hidden: int = 192
    layers: int = 4
    window: int = 1024
    tokens_per_step: int = 1_200
    learning_rate: float = 2e-3
    context_share: float = 0.1
    number_weight: float = 3.0
    drills: float = 0.6


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of one conversation and what predicting each of them is worth; 0 for the first."""

    ids: list[int]
    weights: list[float]


def prompt(query: Query) -> str:
    """What the chat template renders for a query, ready for the answer."""
    parts = [f"<|{message['role']}|>{message['content'].strip()}{tokenizer.END}" for message in query.messages()]
    return "".join(parts) + tokenizer.ASSISTANT


def rows(seed: int, count: int, bpe: Tokenizer, plan: PolicyPlan, practice: int = 0) -> list[Row]:
    """Training conversations: each query of the train split once, with one answer of the usual mixture, and `practice`
    drills.
    """
    rng, made = random.Random(f"{seed}-rows"), []
    worth = _Worth(bpe, plan, rng)
    for one in corpus.asked(seed, "train", count):
        answer = one.answer(random.Random(f"{seed}-policy-{one.query.id}"))
        made.append(worth.row([(prompt(one.query), False), (answer.text + tokenizer.END, True)]))
    return made + [worth.row(*_drilled(drills.draw(rng))) for _ in range(practice)]


def _drilled(drill: drills.Drill) -> tuple[list[tuple[str, bool]], bool]:
    parts = [(f"{tokenizer.SYSTEM}{drill.system}{tokenizer.END}", False)]
    for question, answer in drill.spoken:
        parts.append((f"{tokenizer.USER}{question}{tokenizer.END}{tokenizer.ASSISTANT}", False))
        parts.append((answer + tokenizer.END, True))
    return parts, drill.values_only


class _Worth:
    """Weighs the tokens of a conversation."""

    def __init__(self, bpe: Tokenizer, plan: PolicyPlan, rng: random.Random) -> None:
        self._bpe, self._plan, self._rng = bpe, plan, rng
        self._numbers = frozenset(tokenizer.numbers(bpe))

    def row(self, parts: list[tuple[str, bool]], values_only: bool = False) -> Row:
        """The row of texts in order; True marks answers."""
        ids: list[int] = []
        weights: list[float] = []
        for text, answered in parts:
            found = self._bpe.encode(text).ids
            ids += found
            weights += [self._of(token, answered, values_only) for token in found]
        return Row(ids, [0.0, *weights[1:]])

    def _of(self, token: int, answered: bool, values_only: bool) -> float:
        if answered:
            usual = 0.0 if values_only else 1.0
            return self._plan.number_weight if token in self._numbers else usual
        return self._plan.context_share if not values_only and self._rng.random() < CONTEXT_SAMPLE else 0.0


def batches(rows: list[Row], tokens_per_step: int, rng: random.Random) -> list[list[Row]]:
    """Rows of about equal length together, at most `tokens_per_step` padded tokens a batch, in random order."""
    made: list[list[Row]] = [[]]
    for row in sorted(rows, key=lambda row: (len(row.ids), rng.random())):
        if made[-1] and (len(made[-1]) + 1) * len(row.ids) > tokens_per_step:
            made.append([])
        made[-1].append(row)
    rng.shuffle(made)
    return made


def loss_of(model: LlamaForCausalLM, batch: list[Row]) -> torch.Tensor:
    """Mean cross-entropy of the tokens that are worth something, by their weights. Only these get logits."""
    width = max(len(row.ids) for row in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    weight = torch.zeros((len(batch), width))
    for index, row in enumerate(batch):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        weight[index, : len(row.ids)] = torch.tensor(row.weights)
    states = model.model(input_ids=ids).last_hidden_state[:, :-1]  # right padding: causal attention never sees it
    weight = weight[:, 1:]
    used = weight > 0
    losses = functional.cross_entropy(model.lm_head(states[used]), ids[:, 1:][used], reduction="none")
    return (losses * weight[used]).sum() / weight[used].sum()


def schedule(step: int, steps: int) -> float:
    """Warm-up over 6 % of the steps, then a cosine to 2 %: the factor of the learning rate."""
    warm = max(1, round(0.06 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(seed: int, plan: PolicyPlan, bpe: Tokenizer, out: Path) -> float:
    """Trains the policy and writes it as a Hugging Face directory. Gives the mean loss of the last tenth."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=bpe.get_vocab_size(),
            hidden_size=plan.hidden,
            intermediate_size=plan.hidden * 8 // 3,
            num_hidden_layers=plan.layers,
            num_attention_heads=plan.hidden // 32,
            max_position_embeddings=plan.window,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=bpe.token_to_id(tokenizer.END),
            eos_token_id=bpe.token_to_id(tokenizer.END),
            pad_token_id=bpe.token_to_id(tokenizer.PAD),
        )
    )
    for number, count in enumerate(plan.rounds):
        last = number == len(plan.rounds) - 1
        made = rows(seed + 10 * number, count, bpe, plan, round(count * plan.drills) if last else 0)
        if last:
            model = grafted(model, tokenizer.numbers(bpe), [row.ids for row in made[:12]])
        losses = _round(model, made, seed, plan)
    model.save_pretrained(out)
    tokenizer.save(bpe, out, tokenizer.policy_config(plan.window))
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def _round(model: LlamaForCausalLM, made: list[Row], seed: int, plan: PolicyPlan) -> list[float]:
    """One pass over new conversations, with a warm-up and a decay of its own; gives the loss of each step."""
    steps = batches(made, plan.tokens_per_step, random.Random(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    losses = []
    for step, batch in enumerate(track(steps, "policy")):
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * schedule(step, len(steps))
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
