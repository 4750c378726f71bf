"""A Hugging Face sentence-embedding encoder -> an embedding release: pooled and of unit length."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from exporters import graph, parity
from exporters.encoder import TEXTS_AT_ONCE, Conversion, export_encoder, golden_texts
from exporters.errors import ExportError, explained
from exporters.parity import Figures
from exporters.source import Checkpoint, Report
from triton_models import contract
from triton_models.contract import Kind
from triton_models.manifest import Release
from triton_models.serializer import Encoded

LEAST_COSINE: Final = 0.97
"""Of a golden text's int8 or fp16 vector with the checkpoint's."""

Pooling = Literal["mean", "cls"]


def export_embedding(
    model: Path | str,
    out: Path,
    *,
    pooling: Pooling | None = None,
    prefix: str = "",
    report: Report = lambda _: None,
    **conversion: Any,
) -> Release:
    """Writes the release directory `out` from a model's directory or hub name, and gives its manifest.

    `pooling` None is what the model's own sentence-transformers files say, else the mean. `prefix` goes before each
    text: some models were trained with one, such as "query: ". `conversion` is what `Conversion` takes. Raises
    ExportError; then `out` is left as it was.
    """
    return export_encoder(model, out, _Vectors(pooling, prefix), Conversion(**conversion), report)


def torch_model(checkpoint: Checkpoint, pooling: Pooling) -> Any:
    """The checkpoint as a torch module: (input_ids, attention_mask[, token_type_ids]) -> vectors [N, D]."""
    import torch
    from transformers import AutoModel

    inner = AutoModel.from_pretrained(checkpoint.path, attn_implementation="eager", dtype=torch.float32)

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> tuple[Any, ...]:
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            states = self.inner(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
            if pooling == "cls":
                pooled = states[:, 0]
            else:
                mask = attention_mask.unsqueeze(-1).to(states.dtype)
                pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
            return (torch.nn.functional.normalize(pooled, dim=1),)

    return Pooled().eval()


def pooling_of(checkpoint: Checkpoint) -> Pooling:
    """What the model's sentence-transformers files say; the mean when there are none.

    Raises ExportError for another pooling, and for layers after it.
    """
    with explained(f"The sentence-transformers files of {checkpoint.name} can't be used"):
        return _declared(checkpoint)


def _declared(checkpoint: Checkpoint) -> Pooling:
    modules = _json(checkpoint, "modules.json") or []
    if further := [each["path"] for each in modules if each.get("type", "").endswith(("Dense", "LSTM", "CNN"))]:
        raise ExportError(f"{checkpoint.name} has layers after its pooling ({', '.join(further)}): use one without.")
    pooling = _json(checkpoint, "1_Pooling/config.json") or {}
    chosen = sorted(name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True)
    if not chosen or chosen == ["pooling_mode_mean_tokens"]:
        return "mean"
    if chosen == ["pooling_mode_cls_token"]:
        return "cls"
    raise ExportError(f"{checkpoint.name} pools by {', '.join(chosen)}: pass --pooling mean or cls to pool otherwise.")


@dataclass(frozen=True, slots=True)
class _Vectors:
    """The head of an embedding: implements `encoder.Head`."""

    pooling: Pooling | None
    prefix: str
    kind: Kind = "embedding"
    group: int = TEXTS_AT_ONCE

    def require(self, checkpoint: Checkpoint) -> None:
        self._pooling(checkpoint)

    def outputs(self, checkpoint: Checkpoint) -> tuple[str, ...]:  # noqa: ARG002
        return (contract.EMBEDDING,)

    def module(self, checkpoint: Checkpoint) -> Any:
        return torch_model(checkpoint, self._pooling(checkpoint))

    def serializer(self, checkpoint: Checkpoint) -> dict[str, Any]:
        own = {"dimension": int(checkpoint.config.hidden_size), **({"prefix": self.prefix} if self.prefix else {})}
        longest = (_json(checkpoint, "sentence_bert_config.json") or {}).get("max_seq_length")
        return own | ({"max_length": int(longest)} if longest else {})

    def golden(self, directory: Path, spec: Mapping[str, Any]) -> Encoded:
        return golden_texts(directory, spec, pairs=False)

    def compare(
        self,
        expected: list[graph.Floats],
        found: list[graph.Floats],
        sizes: Sequence[int],  # noqa: ARG002
    ) -> tuple[Figures, bool]:
        cosine = float((expected[0] * found[0]).sum(axis=1).min())
        texts = len(expected[0])
        others = ~np.eye(texts, dtype=bool)
        similar = [(vectors @ vectors.T)[others] for vectors in (expected[0], found[0])]
        above = np.triu(others)[others]
        figures, ranked = parity.ranks(similar[0], similar[1], [texts - 1] * texts, above)
        return {"least_cosine": round(cosine, 4)} | figures, ranked and cosine >= LEAST_COSINE

    def served(self, outputs: list[graph.Floats], *, finished: bool) -> dict[str, graph.Floats]:  # noqa: ARG002
        return {contract.EMBEDDING: outputs[0]}

    def fields(self) -> dict[str, Any]:
        return {}

    def _pooling(self, checkpoint: Checkpoint) -> Pooling:
        return self.pooling or pooling_of(checkpoint)


def _json(checkpoint: Checkpoint, name: str) -> Any:
    path = checkpoint.path / name
    if not path.is_file():
        return None
    with explained(f"{name} of {checkpoint.name} can't be read"):
        return json.loads(path.read_bytes())
