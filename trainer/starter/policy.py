# ruff: noqa: S311 - seeded on purpose: the same seed gives the same corpus and figures
"""Trains the starter policy: a small Llama from scratch on the corpus. It does not export; see publish.py.

The loss is cross-entropy on the answers, plus a small share on all other tokens, which teaches the language sooner.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.starter import corpus, tokenizer
from trainer.starter.progress import track
from trainer.starter.query import Query


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """Sizes of the policy and its training; `tokens_per_step` counts padding.

    `rounds` are the numbers of new conversations in each pass; every pass warms up and decays anew.
    """

    rounds: tuple[int, ...] = (36_000, 36_000, 16_000)
    hidden: int = 192
    layers: int = 3
    window: int = 1024
    tokens_per_step: int = 720
    learning_rate: float = 2e-3
    context_share: float = 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of one conversation; the answer starts at `answer`."""

    ids: list[int]
    answer: int


def prompt(query: Query) -> str:
    """What the chat template renders for a query, ready for the answer."""
    parts = [f"<|{message['role']}|>{message['content'].strip()}{tokenizer.END}" for message in query.messages()]
    return "".join(parts) + tokenizer.ASSISTANT


def rows(seed: int, count: int, bpe: Tokenizer) -> list[Row]:
    """Training conversations: each query of the train split once, with one answer of the usual mixture."""
    made = []
    for one in corpus.asked(seed, "train", count):
        answer = one.answer(random.Random(f"{seed}-policy-{one.query.id}"))
        head = bpe.encode(prompt(one.query)).ids
        made.append(Row([*head, *bpe.encode(answer.text + tokenizer.END).ids], len(head)))
    return made


def batches(rows: list[Row], tokens_per_step: int, rng: random.Random) -> list[list[Row]]:
    """Rows of about equal length together, at most `tokens_per_step` padded tokens a batch, in random order."""
    made: list[list[Row]] = [[]]
    for row in sorted(rows, key=lambda row: (len(row.ids), rng.random())):
        if made[-1] and (len(made[-1]) + 1) * len(row.ids) > tokens_per_step:
            made.append([])
        made[-1].append(row)
    rng.shuffle(made)
    return made


def loss_of(model: LlamaForCausalLM, batch: list[Row], context_share: float) -> torch.Tensor:
    """Mean cross-entropy of answer tokens + `context_share` x that of the context. Only used positions get logits."""
    width = max(len(row.ids) for row in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    weight = torch.zeros((len(batch), width))
    for index, row in enumerate(batch):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        weight[index, : row.answer] = context_share
        weight[index, row.answer : len(row.ids)] = 1.0
    states = model.model(input_ids=ids).last_hidden_state[:, :-1]  # right padding: causal attention never sees it
    used = (weight[:, 1:] == 1.0) | ((weight[:, 1:] > 0) & (torch.rand(weight[:, 1:].shape) < 0.25))
    losses = functional.cross_entropy(model.lm_head(states[used]), ids[:, 1:][used], reduction="none")
    weights = weight[:, 1:][used]
    return (losses * weights).sum() / weights.sum()


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
        losses = _round(model, rows(seed + 10 * number, count, bpe), seed, plan)
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
        loss = loss_of(model, batch, plan.context_share)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
