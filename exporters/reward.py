"""A Hugging Face sequence-classification model, or what the trainer made of an encoder -> a reward release."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters import golden, graph, parity
from exporters.encoder import Conversion, export_encoder, labels, require_classifier
from exporters.errors import ExportError
from exporters.parity import Figures
from exporters.source import Checkpoint, Report
from exporters.variants import sigmoid
from triton_models import contract
from triton_models.contract import Kind
from triton_models.manifest import Release
from triton_models.serializer import Encoded, RewardSerializer

POSITIVE_LABELS: Final = frozenset({"positive", "good", "chosen", "preferred", "helpful", "acceptable", "safe"})
HEAD_LABELS: Final = ("overall", *contract.ASPECT_NAMES)
ARCHITECTURE: Final = "RewardModel"
"""In config.json of what the trainer made of an encoder (see reward_model.py)."""


def export_reward(
    model: Path | str,
    out: Path,
    *,
    temperature: float = 1.0,
    threshold: float = contract.DEFAULT_THRESHOLD,
    report: Report = lambda _: None,
    **conversion: Any,
) -> Release:
    """Writes the release directory `out` from a model's directory or hub name, and gives its manifest.

    `conversion` is what `Conversion` takes. Raises ExportError; then `out` is left as it was.
    """
    return export_encoder(model, out, _Scores(temperature, threshold), Conversion(**conversion), report)


def torch_model(checkpoint: Checkpoint, temperature: float) -> Any:
    """The checkpoint as a torch module: (input_ids, attention_mask[, token_type_ids]) -> score, logit[, aspects].

    logit is [N, 1] (of two labels: the good one's logit minus the other's), score its calibrated sigmoid,
    aspects [N, 4] are logits here: `encoder/model.py` applies the sigmoid.
    """
    import torch

    trained = checkpoint.architecture == ARCHITECTURE
    inner = _trained(checkpoint) if trained else graph.classification_model(checkpoint.path)
    count = len(_outputs(checkpoint))
    good = 0 if labels(checkpoint)[0] in POSITIVE_LABELS else 1
    two = int(checkpoint.config.num_labels) == 2

    class Scored(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> tuple[Any, ...]:
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            found = self.inner(input_ids=input_ids, attention_mask=attention_mask, **types)
            logits = found if trained else found.logits
            logit = logits[:, good : good + 1] - logits[:, 1 - good : 2 - good] if two else logits[:, :1]
            return (torch.sigmoid(logit / temperature), logit, logits[:, 1:])[:count]

    return Scored().eval()


@dataclass(frozen=True, slots=True)
class _Scores:
    """The head of a reward: implements `encoder.Head`."""

    temperature: float
    threshold: float
    kind: Kind = "reward"
    group: int = len(golden.RESPONSES)

    def require(self, checkpoint: Checkpoint) -> None:
        if checkpoint.architecture != ARCHITECTURE:
            require_classifier(checkpoint, self.kind)

    def outputs(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        return _outputs(checkpoint)

    def module(self, checkpoint: Checkpoint) -> Any:
        return torch_model(checkpoint, self.temperature)

    def serializer(self, checkpoint: Checkpoint) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def golden(self, directory: Path, spec: Mapping[str, Any]) -> Encoded:
        serializer = RewardSerializer.load(directory, spec)
        rows = [
            row
            for query in golden.QUERIES
            for context in (golden.CONTEXT, "")
            for row in serializer.serialize(context, query, golden.RESPONSES)
        ]
        return serializer.pad(rows)

    def compare(
        self, expected: list[graph.Floats], found: list[graph.Floats], sizes: Sequence[int]
    ) -> tuple[Figures, bool]:
        return parity.ranks(expected[0][:, 0], found[0][:, 0], sizes)

    def served(self, outputs: list[graph.Floats], *, finished: bool) -> dict[str, graph.Floats]:
        _, logit, *aspects = outputs
        found = {contract.LOGIT: logit}
        if aspects:
            found[contract.ASPECTS] = aspects[0] if finished else sigmoid(aspects[0])
        return found

    def fields(self) -> dict[str, Any]:
        return {"calibration": {"temperature": self.temperature}, "threshold": self.threshold}


def _trained(checkpoint: Checkpoint) -> Any:
    from exporters.reward_model import RewardModel

    return RewardModel.load(checkpoint.path, attention="eager")


def _outputs(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Raises ExportError for a head of another shape."""
    count = int(checkpoint.config.num_labels)
    if count in {1, 2}:
        return (contract.SCORE, contract.LOGIT)
    if labels(checkpoint) == HEAD_LABELS:
        return (contract.SCORE, contract.LOGIT, contract.ASPECTS)
    raise ExportError(
        f"{checkpoint.name} has {count} labels: a reward needs 1 (a score), 2 (bad, good), "
        f"or the 5 labels {', '.join(HEAD_LABELS)}."
    )
