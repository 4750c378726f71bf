"""The values that flow along the request path. All are frozen; nothing here does I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class SelectionMethod(StrEnum):
    """How the answer is chosen among scored candidates."""

    BEST = "best"


class FinishReason(StrEnum):
    """Why generation of a candidate ended."""

    STOP = "stop"
    LENGTH = "length"


class DegradationReason(StrEnum):
    """Ways in which a reply falls short of the usual path; the values of `ratchet.v1.DegradationReason`."""

    MEMORY_UNAVAILABLE = "memory_unavailable"
    CONTEXT_TRUNCATED = "context_truncated"
    CANDIDATES_MISSING = "candidates_missing"
    SCORING_UNAVAILABLE = "scoring_unavailable"
    SEED_NOT_HONORED = "seed_not_honored"
    SCORING_TRUNCATED = "scoring_truncated"
    MEMORY_NOT_UPDATED = "memory_not_updated"


@dataclass(frozen=True, slots=True)
class Degradation:
    """One thing that could not be done as usual, with a sentence for people."""

    reason: DegradationReason
    detail: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A validated request on its way. `deadline` is in seconds of the event loop's clock.

    `fingerprint` is the SHA-256 of the request as it was sent, without its id: a repeated id must ask the same.
    """

    tenant_id: str
    request_id: str
    user_id: str
    session_id: str
    query: str
    context: str
    candidate_count: int
    seed: int
    seed_given: bool
    selection_method: SelectionMethod
    max_output_tokens: int
    response_id: UUID
    received_at: datetime
    deadline: float
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """An earlier query of the session and the answer it got."""

    query: str
    response: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A named way to sample. `top_p` 1 and `top_k` 0 are off."""

    name: str
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one candidate is drawn: a preset, its own seed (0 to 2**63 - 1) and a bound on its tokens."""

    preset: Preset
    seed: int
    max_tokens: int
    stop: tuple[str, ...] = ()
    """Texts that end the answer, besides the model's own end."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What the policy model returned for one candidate."""

    text: str
    finish_reason: FinishReason
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Score:
    """The reward model's judgement of one response: `score` 0 to 1, `logit` before the sigmoid, and the aspects
    (accuracy, helpfulness, clarity, safety) where the release has them. `truncated`: text was cut to fit the model."""

    score: float
    logit: float
    aspects: tuple[float, float, float, float] | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """One drawn answer. `error` says why there is no text; `score` is None while no model scored it; `seconds` is how
    long drawing took."""

    index: int
    sampling: Sampling
    text: str = ""
    finish_reason: FinishReason | None = None
    output_tokens: int = 0
    seconds: float = 0.0
    error: str = ""
    score: Score | None = None

    @property
    def drawn(self) -> bool:
        """Whether there is a text to choose."""
        return not self.error

    @property
    def reward_score(self) -> float | None:
        """0 to 1; None when no model scored it."""
        return self.score.score if self.score else None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which candidate answers, and the probability with which each could have been chosen."""

    index: int
    method: SelectionMethod
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer and everything that the caller is told of how it came about. `latencies` are seconds by stage."""

    response_id: UUID
    response: str
    reward_score: float | None
    generation_method: str
    feedback_prompt: bool
    candidates: tuple[Candidate, ...]
    choice: Choice
    policy_release: str
    reward_release: str
    seed: int
    seed_honored: bool
    created_at: datetime
    latencies: Mapping[str, float] = field(default_factory=dict)
    total_seconds: float = 0.0
    degradations: tuple[Degradation, ...] = ()
    replayed: bool = False

    @property
    def candidates_count(self) -> int:
        """How many candidates were drawn successfully."""
        return sum(candidate.drawn for candidate in self.candidates)
