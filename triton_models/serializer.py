"""THE input of rewards, embeddings and classifiers: texts to token rows. Server, trainer and exporters all use this
one, so that they can't differ.

BERT:     [CLS] context [SEP] query [SEP] response [SEP]
RoBERTa:  <s> context </s></s> query </s></s> response </s>
Without context its segment and separator are left out: the row is then the tokenizer's own pair (query,
response). It never talks to Triton: callers do.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from triton_models.contract import BUCKETS
from triton_models.manifest import ReleaseError

CHARACTERS_PER_TOKEN: Final = 8
"""Texts are cut to this many characters per token of `max_length` before tokenising, which is linear in the
text.
"""

Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Padded rows, INT64 [N, L]; `token_type_ids` is None when the model has no such input."""

    input_ids: Array
    attention_mask: Array
    token_type_ids: Array | None


@dataclass(frozen=True, slots=True)
class _Format:
    start: str
    end: str
    pad: str
    separators: int  # separator tokens between two segments


_FORMATS: Final = {
    "bert": _Format("[CLS]", "[SEP]", "[PAD]", 1),
    "roberta": _Format("<s>", "</s>", "<pad>", 2),
}


class Serializer:
    """Serialises texts, and pairs of texts, for one encoder release. Thread-safe after construction."""

    def __init__(self, tokenizer: Tokenizer, spec: Mapping[str, Any], special: Mapping[str, str]) -> None:
        """`spec` is the manifest's `serializer`; `special` maps start, end and pad to token texts."""
        if spec["format"] not in _FORMATS:
            raise ReleaseError(f"The serializer format {spec['format']!r} is unknown: it must be bert or roberta.")
        # A text that spells "[SEP]" must not be able to forge a segment.
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.max_length = int(spec["max_length"])
        self.token_type_ids = bool(spec["token_type_ids"])
        self._start, end, self.pad_id = (_token_id(tokenizer, special[name]) for name in ("start", "end", "pad"))
        self._end = [end]
        self._between = [end] * _FORMATS[spec["format"]].separators

    @classmethod
    def load(cls, directory: Path, spec: Mapping[str, Any]) -> Self:
        """From a release directory (its `tokenizer/`) or a directory that holds tokenizer.json itself.

        Raises ReleaseError when the tokenizer is missing, unreadable or lacks a special token.
        """
        home = directory / "tokenizer" if (directory / "tokenizer").is_dir() else directory
        try:
            tokenizer = Tokenizer.from_file(str(home / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception
            raise ReleaseError(f"{home / 'tokenizer.json'} can't be read as a tokenizer: {error}.") from None
        return cls(tokenizer, spec, _special_tokens(home, str(spec["format"])))

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """One row of ids for each text, each of at most `max_length` tokens: longer ones lose their tail."""
        return [[self._start, *ids[: self.max_length - 2], *self._end] for ids in self._ids(texts)]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
        """One row for each (first, second). Too long rows lose the first text's tail; the second keeps up to half."""
        room = self.max_length - 2 - len(self._between)
        rows = []
        for first, second in zip(self._ids([a for a, _ in pairs]), self._ids([b for _, b in pairs]), strict=True):
            kept = second[: max(room - len(first), room // 2)]
            rows.append([self._start, *first[: room - len(kept)], *self._between, *kept, *self._end])
        return rows

    def pad(self, rows: Sequence[Sequence[int]], multiple: int = 1) -> Encoded:
        """Rows padded on the right to the longest, its length rounded up to `multiple` (not past
        `max_length`).
        """
        longest = max((len(row) for row in rows), default=0)
        length = max(longest, min(-(-longest // multiple) * multiple, self.max_length))
        ids = np.full((len(rows), length), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), length), dtype=np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return Encoded(ids, mask, self._types(rows, length) if self.token_type_ids else None)

    def batch(self, rows: Sequence[Sequence[int]], batching: str) -> Encoded:
        """Rows padded as a release's `batching` wants them: to the longest, or to the next bucket."""
        if batching == "ragged":
            return self.pad(rows)
        longest = max(map(len, rows), default=0)
        return self.pad(rows, next((bucket for bucket in BUCKETS if bucket >= longest), self.max_length))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        limit = self.max_length * CHARACTERS_PER_TOKEN
        cut = [text[:limit] for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cut, add_special_tokens=False)]

    def _types(self, rows: Sequence[Sequence[int]], length: int) -> Array:
        """1 for the last of several segments and its final separator, 0 before it and on padding."""
        types = np.zeros((len(rows), length), dtype=np.int64)
        for index, row in enumerate(rows):
            ends = [position for position, token in enumerate(row) if token == self._end[0]]
            if len(ends) > 1:
                types[index, ends[-2] + 1 : len(row)] = 1
        return types


class RewardSerializer(Serializer):
    """Serialises (context, query, responses) for one reward release."""

    def serialize(self, context: str, query: str, responses: Sequence[str]) -> list[list[int]]:
        """One row of ids for each response, each of at most `max_length` tokens.

        Too long rows lose the context's oldest tokens first, then the query's tail, then the response's tail.
        """
        limit = self.max_length * CHARACTERS_PER_TOKEN
        ids = self._ids([context[-limit:], query, *responses])
        return [self._row(ids[0], ids[1], response) for response in ids[2:]]

    def _row(self, context: list[int], query: list[int], response: list[int]) -> list[int]:
        between, end = self._between, self._end
        pair_room = self.max_length - 1 - len(between) - 1
        response = response[:pair_room]
        query = query[: pair_room - len(response)]
        context_room = pair_room - len(response) - len(query) - len(between)
        head = [*context[-context_room:], *between] if context and context_room > 0 else []
        return [self._start, *head, *query, *between, *response, *end]


def _special_tokens(home: Path, format_name: str) -> dict[str, str]:
    """Token texts by role: tokenizer_config.json's where it states them, else the format's usual ones."""
    usual = _FORMATS.get(format_name, _FORMATS["bert"])
    try:
        config = json.loads((home / "tokenizer_config.json").read_bytes())
    except FileNotFoundError:
        config = {}
    except ValueError as error:
        raise ReleaseError(f"{home / 'tokenizer_config.json'} is not JSON: {error}.") from None

    def text(name: str, default: str) -> str:
        value = config.get(name) or default
        return str(value["content"] if isinstance(value, dict) else value)

    return {
        "start": text("cls_token", usual.start),
        "end": text("sep_token", usual.end),
        "pad": text("pad_token", usual.pad),
    }


def _token_id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ReleaseError(f"The tokenizer has no token {token!r}, which its rows need.")
    return int(found)
