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
from typing import Any, Final, TypeVar

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from trainer.starter import corpus, raters, tokenizer
from trainer.starter.alterations import altered
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
    warm_batch: int = 40
    warm_tokens: int = 160
    rated_tokens: int = 220
    epochs: int = 5
    rating_batch: int = 48
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
    _ready_to_read(model.bert, tokenizer.numbers(bpe))
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


def _ready_to_read(model: Any, numbers: list[int]) -> None:
    """Starts a BertModel as a reader instead of as noise: sinusoidal positions, heads that pass on what they attend to
    or look for equal tokens, and something that all the tokens of `numbers` share, so that they can be looked at.

    Normal initialisation drowns the context in the residual of a BERT this small: it stays at word frequencies for
    longer than the whole training may take. After Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention".
    """
    table = model.embeddings.position_embeddings.weight
    width = table.shape[1]
    places = torch.arange(table.shape[0])[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    with torch.no_grad():
        table[:, 0::2], table[:, 1::2] = 0.05 * torch.sin(places), 0.05 * torch.cos(places)
        shared = functional.normalize(torch.randn(width), dim=0)
        model.embeddings.word_embeddings.weight[numbers] += 0.35 * shared
        _match(model)
        for layer in model.encoder.layer:
            layer.attention.self.value.weight.add_(2.0 * torch.eye(width))
            layer.attention.output.dense.weight.add_(1.5 * torch.eye(width))


def _match(model: Any) -> None:
    """Lets half of the first layer's heads attend to equal tokens, wherever they stand.

    Their queries and keys are one projection, onto directions that the positions hardly use. An answer's number that
    the evidence states too then takes up something of the evidence's segment: what comparing numbers starts from.
    """
    attention = model.encoder.layer[0].attention.self
    table = model.embeddings.position_embeddings.weight[:256]
    width, size = table.shape[1], attention.attention_head_size
    free = torch.linalg.svd(table - table.mean(0), full_matrices=True).Vh[width // 3 :]
    for head in range(attention.num_attention_heads // 2):
        basis = torch.linalg.qr(torch.randn(len(free), size)).Q.T @ free  # [size, width], orthonormal rows
        own = slice(head * size, (head + 1) * size)
        for projection in (attention.query, attention.key):
            projection.weight[own] = 1.3 * basis
            projection.bias[own] = 0.0


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
    steps = batches(_contrasts(serializer, seed, plan), plan.warm_batch, random.Random(f"{seed}-warm-order"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.warm_rate, weight_decay=0.01)
    losses = []
    for step, batch in enumerate(track(steps, "reward: relevance")):
        logits = model(**_inputs(serializer, [row for rows in batch for row in rows])).logits[:, 0]
        loss = contrast_loss(logits, [len(rows) for rows in batch])
        _step(model, optimizer, loss, plan.warm_rate * schedule(step, len(steps)))
        losses.append(loss.item())
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def _contrasts(serializer: RewardSerializer, seed: int, plan: RewardPlan) -> list[list[list[int]]]:
    """For each conversation its rows: with its own answer first, then ones that don't belong.

    These are its answer with something else stated, as most answers of the corpus are right, and, always when there is
    nothing to alter, a stranger's answer.
    """
    rng = random.Random(f"{seed}-warm")
    asked = list(corpus.asked(seed + 2, "train", plan.warm_conversations))
    answers = [one.answer(rng).text for one in asked]
    made = []
    for index, one in enumerate(asked):
        own = answers[index]
        wrong = [other for _ in range(2) if (other := altered(own, one.query.evidence, one.query.lang, rng)) != own][:2]
        if not wrong or rng.random() < 0.25:
            wrong.append(answers[(index + 2 * rng.randrange(1, len(asked) // 4)) % len(asked)])  # languages alternate
        rows = serialized(serializer, one.query, [own, *wrong])
        if len(rows[0]) <= plan.warm_tokens:  # long ones cost most and teach no more
            made.append(rows)
    return made


T = TypeVar("T")


def batches(lists: list[list[T]], size: int, rng: random.Random) -> list[list[list[T]]]:
    """Lists of rows in random batches of about `size` rows, those of about equal length together (less padding)."""
    order = sorted(lists, key=lambda rows: (max(_length(row) for row in rows), rng.random()))
    made: list[list[list[T]]] = [[]]
    for rows in order:
        if sum(map(len, made[-1])) >= size:
            made.append([])
        made[-1].append(rows)
    rng.shuffle(made)
    return made


def _length(row: Any) -> int:
    return len(row[0]) if isinstance(row, tuple) else len(row)


def contrast_loss(logits: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """BCE of sigmoid(logits) [R] against 1 for the first row of each list and 0 for the others, plus that of the
    first's lead over each other.
    """
    targets = torch.zeros_like(logits)
    leads = []
    for start, size in zip(itertools.accumulate(sizes, initial=0), sizes, strict=False):
        targets[start] = 1.0
        leads.append(logits[start] - logits[start + 1 : start + size])
    return functional.binary_cross_entropy_with_logits(logits, targets) + functional.softplus(-torch.cat(leads)).mean()


def _fit(
    model: BertForSequenceClassification,
    serializer: RewardSerializer,
    lists: list[list[Rating]],
    plan: RewardPlan,
) -> float:
    rated = [_rated(serializer, one) for one in lists]
    order, ready = random.Random(len(lists)), [one for one in rated if len(one[0][0]) <= plan.rated_tokens]
    steps = [batch for _ in range(plan.epochs) for batch in batches(ready, plan.rating_batch, order)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, weight_decay=0.01)
    loss = torch.zeros(())
    model.train()
    for step, batch in enumerate(track(steps, "reward: ratings")):
        logits = model(**_inputs(serializer, [row for one in batch for row, _ in one])).logits[:, 0]
        stars = torch.tensor([star for one in batch for _, star in one])
        loss = rating_loss(logits, stars, [len(one) for one in batch])
        _step(model, optimizer, loss, plan.learning_rate * schedule(step, len(steps)))
    return float(loss.detach())


def _rated(serializer: RewardSerializer, one: list[Rating]) -> list[tuple[list[int], float]]:
    rows = serialized(serializer, one[0].query, [rating.answer.text for rating in one])
    return [(row, float(rating.stars)) for row, rating in zip(rows, one, strict=True)]


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
