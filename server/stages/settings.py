"""Settings of the request path. Each is an environment variable and a flag, see server/settings.py."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, field_validator
from pydantic_settings import NoDecode

from server.types import Preset

PRESETS = (
    Preset("temperature_0.7", temperature=0.7, top_p=0.9),
    Preset("temperature_1.0", temperature=1.0, top_p=0.8),
    Preset("top_k_50", temperature=1.0, top_k=50),
)
"""The sampling strategies of the specification, taken in turn."""
HOTTEST: Final = 100.0
SMALLEST_TOP_P: Final = 1e-6
LARGEST_TOP_K: Final = 2**31 - 1
"""What the policy's layouts take."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class PathSettings(BaseModel):
    """From context to delivery. Times are seconds."""

    memory_turns: int = Field(8, ge=1, le=64, description="Exchanges of a session that are remembered.")
    memory_tokens: int = Field(2048, ge=64, description="Tokens of a session that are remembered, about.")
    memory_ttl: int = Field(86_400, ge=60, description="Seconds after its last exchange that a session is remembered.")
    memory_budget: float = Field(0.1, gt=0, description="Seconds that the memory may take, each time.")
    profile_budget: float = Field(0.1, gt=0, description="Seconds that the user's profile may take.")
    embedding_budget: float = Field(0.1, gt=0, description="Seconds that the query's embedding may take.")
    embedding: str | None = Field(
        None, description="An embedding release or Hugging Face model; without, a light local embedding."
    )
    tool_budget: float = Field(2.0, gt=0, description="Seconds that selecting and running the tools may take.")
    instructions: str = Field(
        "", max_length=4000, description="What the policy model is told first, in the system's message."
    )
    evidence_tokens: int = Field(512, ge=16, description="Tokens of evidence that the prompt may hold, about.")
    presets: Annotated[tuple[Preset, ...], NoDecode] = Field(
        PRESETS,
        min_length=1,
        description='Sampling presets in turn, as JSON: [{"name", "temperature", "top_p", "top_k"}, ...]',
    )
    quorum: float = Field(0.6, gt=0, le=1, description="Share of the candidates after which stragglers are on notice.")
    patience: float = Field(
        2.0, gt=0, description="Stragglers get so many times what the quorum took, and one second more."
    )
    policy_wait: float = Field(
        10.0,
        ge=0,
        description="Seconds to wait for a policy that is away, as while Triton starts; half of the time at most.",
    )
    early_stop: float = Field(
        0.0, ge=0, le=1, description="Draw in waves until one more is not expected to gain this much reward. 0: off."
    )
    first_wave: int = Field(2, ge=1, le=16, description="Candidates of the first wave, with early stop.")
    selection: Literal["best", "weighted", "ensemble"] = Field(
        "best", description="How the answer is chosen when a request leaves it open."
    )
    exploration: float = Field(
        0.05, ge=0, le=1, description="Share of such requests whose answer is sampled by its reward instead."
    )
    selection_temperature: float = Field(0.1, gt=0, le=10, description="Softmax temperature of weighted selection.")
    ensemble_weight: float = Field(0.7, ge=0, le=1, description="Weight of the reward beside the rules, in ensemble.")
    minimum_reward: float | None = Field(
        None, ge=0, le=1, description="Reward below which no candidate passes; default: the reward release's own (0.6)."
    )
    minimum_characters: int = Field(2, ge=1, description="Characters of an answer at least.")
    maximum_characters: int = Field(8_192, ge=16, description="Characters of an answer at most.")
    blocked_words: Path | None = Field(None, description="A file of words that no answer may contain, one a line.")
    grounding: Literal["on", "off"] = Field("on", description="Check numbers and claims against the evidence.")
    toxicity: str | None = Field(None, description="A toxicity classifier on Triton: a release or Hugging Face model.")
    entailment: str | None = Field(None, description="An entailment (NLI) model on Triton: likewise.")
    regenerate: Literal["on", "off"] = Field("on", description="Draw once more when every candidate failed the checks.")
    refusal: str = Field(
        "I'm sorry, I don't have an answer that I can stand behind.",
        min_length=1,
        description="The answer when no candidate passes.",
    )
    refusal_vi: str = Field(
        "Xin lỗi, tôi không có câu trả lời đủ tin cậy.",
        min_length=1,
        description="The same for queries in Vietnamese.",
    )
    reward_fallback: str | None = Field(None, description="A verified reward release that scores when the first fails.")
    score_cache: Literal["on", "off"] = Field("on", description="Reuse scores of the same response.")
    score_cache_ttl: int = Field(86_400, ge=1, description="Seconds that a cached score lasts.")
    score_cache_budget: float = Field(0.05, gt=0, description="Seconds that looking up scores may take.")
    score_similarity: float = Field(
        0.98, ge=0.9, le=1, description="Cosine from which two queries share scores of the same response; 1: never."
    )

    @field_validator("presets", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"it is no JSON: {error}") from error

    @field_validator("presets")
    @classmethod
    def _usable(cls, value: tuple[Preset, ...]) -> tuple[Preset, ...]:
        require_usable(value)
        return value

    @field_validator("blocked_words")
    @classmethod
    def _file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.expanduser().is_file():
            raise ValueError(f"there is no file {value}")
        return value.expanduser().absolute() if value is not None else None


def require_usable(presets: Sequence[Preset]) -> None:
    """Raises ValueError for the first preset that no policy could sample by, or whose name is no name or not its own.

    What is not a number is between no bounds.
    """
    names = set()
    for preset in presets:
        if not _NAME.fullmatch(preset.name):
            raise ValueError(
                f"{preset.name!r} is no name of a preset: 1 to 64 letters, digits, dots, hyphens and underscores"
            )
        if preset.name in names:
            raise ValueError(f"two presets are named {preset.name}")
        names.add(preset.name)
        if not 0 <= preset.temperature <= HOTTEST:
            raise ValueError(f"the temperature of {preset.name} must be from 0 to {HOTTEST:g}")
        if not SMALLEST_TOP_P <= preset.top_p <= 1:
            raise ValueError(f"the top_p of {preset.name} must be over 0, {SMALLEST_TOP_P:g} at least, and at most 1")
        if not 0 <= preset.top_k <= LARGEST_TOP_K:
            raise ValueError(f"the top_k of {preset.name} must be from 0, which is off, to {LARGEST_TOP_K}")
