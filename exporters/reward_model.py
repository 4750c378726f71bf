"""The reward model as torch has it: what the trainer trains, and what `exporters/reward.py` makes a release of.

Encoder -> [CLS] -> dropout -> linear -> one logit overall and one an aspect; the sigmoid is outside. A base that is a
reward already (a sequence classifier of one label, or of Ratchet's five) keeps its own pooler and head, so that
training goes on from what it knows; any other base gives its encoder alone.
"""

import copy
import math
import tempfile
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch.nn import functional

from exporters.encoder import labels, require_encoder, serializer_spec
from exporters.errors import ExportError, explained
from exporters.reward import ARCHITECTURE, HEAD_LABELS
from exporters.source import Checkpoint, open_checkpoint
from exporters.staging import staged
from exporters.tokenizer import load_fast, save
from triton_models import contract
from triton_models.serializer import RewardSerializer

SPREAD: Final = 0.02
"""Standard deviation of a new head's weights, as in BERT."""
ATTENTION_DROPOUT: Final = ("attention_probs_dropout_prob", "attention_dropout")


class Head(torch.nn.Linear):
    """A linear layer that stays in fp32 under autocast: logits of bf16, of eight bits, make ties of near scores."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[N, features] -> [N, labels]."""
        place = features.device.type
        if not torch.is_autocast_enabled(place):  # nothing to do, nor to be in an exported graph
            return super().forward(features)
        with torch.autocast(place, enabled=False):
            return super().forward(features.float())


class RewardModel(torch.nn.Module):
    """(input_ids, attention_mask[, token_type_ids]), each [N, L] -> logits [N, 5]: overall, then the aspects.

    `aspects` says whether the aspects' logits were trained: `save` keeps only then what they come from.
    """

    def __init__(self, inner: Any, head: Head | None, tokenizer: Any, *, dropout: float) -> None:
        """`inner` is an encoder under `head`, or, without one, a sequence classifier of five labels."""
        super().__init__()
        self.inner = inner
        self.head = head
        self.dropout = torch.nn.Dropout(dropout)
        self.tokenizer = tokenizer
        self.aspects = False

    @classmethod
    def create(cls, base: Path | str, dropout: float = 0.1, seed: int = 0, *, attention: str | None = None) -> Self:
        """From a model's directory or hub name; `seed` decides a new head's weights. Raises ExportError.

        `attention` is one of transformers' implementations; None: the fastest that the model has.
        """
        checkpoint = open_checkpoint(base, lambda _: None)
        require_encoder(checkpoint, "reward")
        tokenizer = load_fast(checkpoint)
        _without_attention_dropout(checkpoint.config)
        with explained(f"{checkpoint.name} can't be loaded"):
            if _is_reward(checkpoint) and checkpoint.architecture != ARCHITECTURE:
                model = cls(_widened(checkpoint, attention), None, tokenizer, dropout=dropout)
            else:
                inner = _encoder(checkpoint, attention)
                model = cls(inner, _new_head(inner, seed), tokenizer, dropout=dropout)
                if checkpoint.architecture == ARCHITECTURE:
                    model.load_state_dict(_saved(checkpoint, model))
        model.aspects = len(labels(checkpoint)) == len(HEAD_LABELS) and _is_reward(checkpoint)
        return model

    @classmethod
    def load(cls, directory: Path, *, attention: str | None = None) -> Self:
        """A reward that was trained: what `save` wrote. Raises ExportError. It is ready to be asked (no dropout)."""
        checkpoint = open_checkpoint(directory, lambda _: None)
        if not _is_reward(checkpoint):
            raise ExportError(f"{directory} is a {checkpoint.architecture}, not a reward model.")
        return cls.create(directory, attention=attention).eval()

    def save(self, directory: Path) -> None:
        """Writes config.json, model.safetensors and the tokenizer's files; whole or not at all. Raises ExportError."""
        from safetensors.torch import save_file

        config = copy.deepcopy(self.inner.config)
        config.id2label = dict(enumerate(HEAD_LABELS if self.aspects else HEAD_LABELS[:1]))
        config.label2id = {name: index for index, name in config.id2label.items()}
        config.architectures = [type(self.inner).__name__ if self.head is None else ARCHITECTURE]
        with staged(directory) as home, explained(f"{directory} can't be written"):
            self.tokenizer.save_pretrained(home)
            config.save_pretrained(home)
            save_file(self._weights(), home / "model.safetensors", {"format": "pt"})

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """Logits [N, 5]."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        found = self.inner(input_ids=input_ids, attention_mask=attention_mask, **types)
        return found.logits if self.head is None else self.head(self.dropout(found.last_hidden_state[:, 0]))

    def add_noise(self, alpha: float) -> None:
        """From now on word embeddings get uniform noise while training: NEFTune (Jain et al. 2023) with its alpha."""

        def noisy(_table: Any, _ids: Any, embedded: torch.Tensor) -> torch.Tensor | None:
            bound = alpha / math.sqrt(embedded.shape[1] * embedded.shape[2])
            return embedded + torch.empty_like(embedded).uniform_(-bound, bound) if self.training else None

        self.inner.get_input_embeddings().register_forward_hook(noisy)

    def _weights(self) -> dict[str, torch.Tensor]:
        """By the names under which they are saved, without the heads of aspects that were not trained."""
        owner: torch.nn.Module = self.inner if self.head is None else self
        weights = {name: weight.detach().cpu().contiguous() for name, weight in owner.state_dict().items()}
        if not self.aspects:
            last = _last_name(self.inner) if self.head is None else "head"
            weights |= {f"{last}.{part}": weights[f"{last}.{part}"][:1].clone() for part in ("weight", "bias")}
        return weights


def serializer(model: Path | str, max_length: int = contract.REWARD_MAX_LENGTH) -> RewardSerializer:
    """How texts become rows for this base or saved model: the same rows that its release will be given.

    Raises ExportError.
    """
    checkpoint = open_checkpoint(model, lambda _: None)
    require_encoder(checkpoint, "reward")
    tokenizer = load_fast(checkpoint)
    spec = serializer_spec(checkpoint, tokenizer, max_length)
    with tempfile.TemporaryDirectory() as home:
        save(tokenizer, Path(home))
        return RewardSerializer.load(Path(home), spec)


def _is_reward(checkpoint: Checkpoint) -> bool:
    known = checkpoint.architecture == ARCHITECTURE or checkpoint.architecture.endswith("ForSequenceClassification")
    return known and (int(checkpoint.config.num_labels) == 1 or labels(checkpoint) == HEAD_LABELS)


def _without_attention_dropout(config: Any) -> None:
    """Dropping single attention weights would keep torch from its fast attention; other dropout stays as it is."""
    for name in ATTENTION_DROPOUT:
        if hasattr(config, name):
            setattr(config, name, 0.0)


def _encoder(checkpoint: Checkpoint, attention: str | None) -> Any:
    """The encoder alone: what pools its output is left out."""
    from transformers import AutoModel

    options: dict[str, Any] = {"dtype": torch.float32} | ({"attn_implementation": attention} if attention else {})
    models: Any = AutoModel
    if checkpoint.architecture == ARCHITECTURE:
        inner = models.from_config(checkpoint.config, **options)
    else:
        inner = models.from_pretrained(checkpoint.path, config=checkpoint.config, **options)
    if getattr(inner, "pooler", None) is not None:
        inner.pooler = None
    return inner


def _new_head(inner: Any, seed: int) -> Head:
    head = Head(int(inner.config.hidden_size), len(HEAD_LABELS))
    with torch.no_grad():
        head.weight.normal_(0.0, SPREAD, generator=torch.Generator().manual_seed(seed))
        head.bias.zero_()
    return head


def _widened(checkpoint: Checkpoint, attention: str | None) -> Any:
    """A sequence classifier with five outputs: those it had, and zeros for the aspects that it lacks."""
    from transformers import AutoModelForSequenceClassification

    options: dict[str, Any] = {"dtype": torch.float32} | ({"attn_implementation": attention} if attention else {})
    inner = AutoModelForSequenceClassification.from_pretrained(checkpoint.path, config=checkpoint.config, **options)
    name = _last_name(inner)
    old = inner.get_submodule(name)
    new = Head(old.in_features, len(HEAD_LABELS))
    with torch.no_grad():
        new.weight.copy_(_padded(old.weight))
        new.bias.copy_(_padded(old.bias))
    inner.set_submodule(name, new)
    return inner


def _last_name(classifier: Any) -> str:
    """The name of the linear layer that gives a sequence classifier's logits."""
    return "classifier" if isinstance(classifier.classifier, torch.nn.Linear) else "classifier.out_proj"


def _padded(rows: torch.Tensor) -> torch.Tensor:
    """With zeros up to five rows."""
    missing = len(HEAD_LABELS) - len(rows)
    return functional.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing))


def _saved(checkpoint: Checkpoint, model: RewardModel) -> dict[str, torch.Tensor]:
    """What `save` wrote, with the model's own new heads where those of the aspects were not kept."""
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = load_file(checkpoint.path / "model.safetensors")
    assert model.head is not None
    for name, new in (("head.weight", model.head.weight), ("head.bias", model.head.bias)):
        found[name] = torch.cat([found[name], new.detach()[len(found[name]) :]])
    return found
