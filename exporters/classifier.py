"""A Hugging Face sequence-classification model -> a classifier release: toxicity, entailment and the like."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters import graph
from exporters.encoder import TEXTS_AT_ONCE, Conversion, export_encoder, golden_texts, labels, require_classifier
from exporters.errors import ExportError
from exporters.parity import Figures
from exporters.source import Checkpoint, Report
from triton_models import contract
from triton_models.contract import Kind
from triton_models.manifest import Release
from triton_models.serializer import Encoded

MOST_DIFFERENCE: Final = 0.05
"""Of the golden probabilities from the checkpoint's, on average, in an int8 or fp16 graph."""
CLEAR: Final = 0.1
"""So far from one half a probability must be for its side to count."""


def export_classifier(
    model: Path | str, out: Path, *, names: Sequence[str] = (), report: Report = lambda _: None, **conversion: Any
) -> Release:
    """Writes the release directory `out` from a model's directory or hub name, and gives its manifest.

    `names` replace the labels of the model's configuration. Labels exclude each other (softmax) unless the
    configuration's problem_type says otherwise, or there is but one (sigmoid). `conversion` is what `Conversion` takes.
    Raises ExportError; then `out` is left as it was.
    """
    head = _Probabilities(tuple(name.strip().lower() for name in names))
    return export_encoder(model, out, head, Conversion(**conversion), report)


def torch_model(checkpoint: Checkpoint) -> Any:
    """The checkpoint as a torch module: (input_ids, attention_mask[, token_type_ids]) -> probabilities [N, K]."""
    import torch

    inner = graph.classification_model(checkpoint.path)
    exclusive = checkpoint.config.num_labels > 1 and checkpoint.config.problem_type != "multi_label_classification"

    class Judged(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> tuple[Any, ...]:
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            logits = self.inner(input_ids=input_ids, attention_mask=attention_mask, **types).logits
            return (torch.softmax(logits, dim=1) if exclusive else torch.sigmoid(logits),)

    return Judged().eval()


@dataclass(frozen=True, slots=True)
class _Probabilities:
    """The head of a classifier: implements `encoder.Head`."""

    names: tuple[str, ...]
    kind: Kind = "classifier"
    group: int = TEXTS_AT_ONCE

    def require(self, checkpoint: Checkpoint) -> None:
        require_classifier(checkpoint, self.kind)
        count, names = int(checkpoint.config.num_labels), self._labels(checkpoint)
        if len(names) != count or len(set(names)) != count or not all(names):
            raise ExportError(f"{checkpoint.name} has {count} labels: name each of them once, in their order.")
        if any(re.fullmatch(r"label_\d+", name) for name in names):
            raise ExportError(
                f"{checkpoint.name} does not name its labels: convert it with `ratchet export classifier` "
                "and --labels, which lists them in their order."
            )

    def outputs(self, checkpoint: Checkpoint) -> tuple[str, ...]:  # noqa: ARG002
        return (contract.PROBABILITIES,)

    def module(self, checkpoint: Checkpoint) -> Any:
        return torch_model(checkpoint)

    def serializer(self, checkpoint: Checkpoint) -> dict[str, Any]:
        return {"labels": list(self._labels(checkpoint))}

    def golden(self, directory: Path, spec: Mapping[str, Any]) -> Encoded:
        return golden_texts(directory, spec, pairs=True)

    def compare(
        self,
        expected: list[graph.Floats],
        found: list[graph.Floats],
        sizes: Sequence[int],  # noqa: ARG002
    ) -> tuple[Figures, bool]:
        difference = float(np.abs(expected[0] - found[0]).mean())
        clear = np.abs(expected[0] - 0.5) > CLEAR
        agree = bool((((expected[0] > 0.5) == (found[0] > 0.5)) | ~clear).all())
        figures = {"mean_difference": round(difference, 4), "clear_decisions_agree": float(agree)}
        return figures, agree and difference <= MOST_DIFFERENCE

    def served(self, outputs: list[graph.Floats], *, finished: bool) -> dict[str, graph.Floats]:  # noqa: ARG002
        return {contract.PROBABILITIES: outputs[0]}

    def fields(self) -> dict[str, Any]:
        return {}

    def _labels(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        return self.names or labels(checkpoint)
