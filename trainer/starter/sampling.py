"""Runs the exported releases in this process, without Triton: candidates from CTranslate2, scores from ONNX Runtime.

For evaluation only; serving goes through triton_models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ctranslate2
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from trainer.starter import reward, tokenizer
from trainer.starter.policy import prompt
from trainer.starter.query import Query
from triton_models import manifest
from triton_models.serializer import RewardSerializer


@dataclass(frozen=True, slots=True)
class Preset:
    """One way of sampling."""

    temperature: float
    top_p: float
    top_k: int


PRESETS: Final = (Preset(0.7, 0.9, 0), Preset(1.0, 0.8, 0), Preset(1.0, 0.95, 50))
"""The specification's presets; candidate i uses preset i modulo 3."""
MAX_TOKENS: Final = 120


class Policy:
    """Samples answers from a policy release. CTranslate2's seed is global: one Policy a process is reproducible."""

    def __init__(self, release: Path, seed: int, threads: int) -> None:
        """Loads 1/ct2 and tokenizer/ of the release."""
        ctranslate2.set_random_seed(seed)
        self._generator = ctranslate2.Generator(str(release / "1" / "ct2"), inter_threads=1, intra_threads=threads)
        self._tokenizer = Tokenizer.from_file(str(release / "tokenizer" / "tokenizer.json"))

    def candidates(self, queries: Sequence[Query], count: int) -> list[list[str]]:
        """`count` answers for each query, the presets in turn."""
        prompts = [self._tokenizer.encode(prompt(query)).tokens for query in queries]
        columns = [self._sample(prompts, PRESETS[index % len(PRESETS)]) for index in range(count)]
        return [list(answers) for answers in zip(*columns, strict=True)]

    def _sample(self, prompts: list[list[str]], preset: Preset) -> list[str]:
        results = self._generator.generate_batch(
            prompts,
            max_batch_size=32,
            max_length=MAX_TOKENS,
            include_prompt_in_result=False,
            sampling_temperature=preset.temperature,
            sampling_topp=preset.top_p,
            sampling_topk=preset.top_k or self._tokenizer.get_vocab_size(),
            end_token=tokenizer.END,
        )
        return [self._tokenizer.decode(result.sequences_ids[0]).strip() for result in results]


class Judge:
    """Scores answers with a reward release."""

    def __init__(self, release: Path, threads: int) -> None:
        """Loads 1/model.onnx and tokenizer/ of the release."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(release / "1" / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._serializer = RewardSerializer.load(release, manifest.read(release).serializer)

    def scores(self, query: Query, answers: Sequence[str]) -> list[float]:
        """One score in 0..1 for each answer."""
        encoded = self._serializer.pad(reward.serialized(self._serializer, query, answers))
        feeds: dict[str, Any] = {
            "input_ids": encoded.input_ids,
            "attention_mask": encoded.attention_mask,
            "token_type_ids": encoded.token_type_ids,
        }
        (logits,) = self._session.run(["logit"], feeds)
        return [float(value) for value in 1 / (1 + np.exp(-np.asarray(logits).reshape(-1)))]
