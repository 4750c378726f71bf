"""The values that flow along the request path. All are frozen; nothing here does I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class SelectionMethod(StrEnum):
    """How the answer is chosen among the candidates that pass the quality checks.

    BEST: the highest reward. WEIGHTED: sampled by the softmax of the rewards. ENSEMBLE: the highest mixture of reward
    and rule scores. RULES: no model scored,
    so the rule scores alone decide; never asked for, only fallen back to.
    """

    BEST = "best"
    WEIGHTED = "weighted"
    ENSEMBLE = "ensemble"
    RULES = "rules"


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
    PROFILE_UNAVAILABLE = "profile_unavailable"
    EMBEDDING_UNAVAILABLE = "embedding_unavailable"
    TOOL_UNAVAILABLE = "tool_unavailable"
    EVIDENCE_TRUNCATED = "evidence_truncated"
    SCORING_FELL_BACK = "scoring_fell_back"
    SCORE_CACHE_UNAVAILABLE = "score_cache_unavailable"
    CLASSIFIER_UNAVAILABLE = "classifier_unavailable"
    LOG_SPOOLED = "log_spooled"
    POLICY_FELL_BACK = "policy_fell_back"


@dataclass(frozen=True, slots=True)
class Degradation:
    """One thing that could not be done as usual, with a sentence for people."""

    reason: DegradationReason
    detail: str


class ToolUse(StrEnum):
    """Which tools a request may use."""

    AUTO = "auto"
    NONE = "none"


class ToolOutcome(StrEnum):
    """How the run of one tool ended."""

    FOUND = "found"
    NOTHING = "nothing"
    REFUSED = "refused"
    FAILED = "failed"
    LATE = "late"


class ScoreSource(StrEnum):
    """Where a score comes from. SIMILAR_QUERY: from the cache, for the same response to a query nearly the same."""

    MODEL = "model"
    CACHE = "cache"
    SIMILAR_QUERY = "similar_query"


class Check(StrEnum):
    """The quality checks, in the order in which their findings are listed."""

    REWARD = "reward"
    SAFETY = "safety"
    GROUNDING = "grounding"
    LENGTH = "length"
    COHERENCE = "coherence"


@dataclass(frozen=True, slots=True)
class Turn:
    """A validated request on its way. `deadline` is in seconds of the event loop's clock.

    `selection_method` is None where the caller leaves it open: the server's, with its share of exploration.
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
    selection_method: SelectionMethod | None
    max_output_tokens: int
    response_id: UUID
    received_at: datetime
    deadline: float
    fingerprint: bytes
    tool_use: ToolUse = ToolUse.AUTO
    tools: tuple[str, ...] = ()
    """The only tools that may run; empty: all that are configured."""
    minimum_reward: float | None = None
    """0 to 1; None: the setting's, else the reward release's own threshold."""
    count_given: bool = True
    """Whether the caller named `candidate_count`, so that no experiment changes it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An earlier query of the session and the answer it got."""

    query: str
    response: str


@dataclass(frozen=True, slots=True)
class Recollection:
    """What is remembered of a session: `summary` stands for the exchanges that fell out of the bound, "" for none."""

    exchanges: tuple[Exchange, ...] = ()
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a user: attributes (such as language or tier) and a preference vector of unit length.

    The vector is a running mean of embeddings, `weight` the sum of what went into it (0: nothing was learned yet);
    `model` names the embedding model whose space it lives in.
    """

    tenant_id: str
    user_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    preference: tuple[float, ...] | None = None
    weight: float = 0.0
    model: str = ""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One passage that a tool found. `source` identifies it for good (document and passage, address, question);
    `score` is its relevance, 0 to 1. `excludes`: what can't be true when the passage is, such as the other states that
    an order could be in; an answer that says so contradicts it. It is logged, and not part of the reply."""

    tool: str
    source: str
    title: str
    text: str
    uri: str = ""
    score: float = 0.0
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolRun:
    """What one selected tool did. `relevance` (0 to 1) is why it was selected; `detail` a sentence for people."""

    tool: str
    outcome: ToolOutcome
    relevance: float
    seconds: float
    detail: str = ""
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that the answer rests on; `support` (0 to 1) is how much of the answer it carries."""

    number: int
    evidence: Evidence
    support: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What one quality check found in one candidate. `value` is the rule's score: 1 fine, 0 as bad as can be."""

    check: Check
    passed: bool
    value: float
    detail: str = ""


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
    source: ScoreSource = ScoreSource.MODEL
    similarity: float = 1.0
    """Cosine of the query's embedding and the cached query's, for SIMILAR_QUERY."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One drawn answer. `error` says why there is no text; `score` is None while no model scored it; `seconds` is how
    long drawing took; `wave` counts from 0; `duplicate_of` is the index of an earlier candidate with the same text
    (apart from case, spaces and marks)."""

    index: int
    sampling: Sampling
    text: str = ""
    finish_reason: FinishReason | None = None
    output_tokens: int = 0
    seconds: float = 0.0
    error: str = ""
    score: Score | None = None
    wave: int = 0
    duplicate_of: int | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it may be the answer: there is a text and no check failed."""
        return self.drawn and all(finding.passed for finding in self.findings)

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
    """Which candidate answers, and the probability with which each could have been chosen.

    `index` is None when every candidate failed the checks: the answer is a refusal. `explored`: the answer came from
    the share of requests that sample instead of taking the best; the probabilities are of the whole mixture.
    """

    index: int | None
    method: SelectionMethod
    probabilities: tuple[float, ...]
    explored: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """What the caller's user interface is to show: an experiment's variant; "": the usual."""

    experiment: str
    variant: str


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
    tool_runs: tuple[ToolRun, ...] = ()
    citations: tuple[Citation, ...] = ()
    regenerated: bool = False
    profile_used: bool = False
    shown: tuple[Shown, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether no candidate passed, so that the answer is the configured refusal."""
        return self.choice.index is None

    @property
    def refusal_reasons(self) -> tuple[str, ...]:
        """Why every candidate failed, each reason once; empty unless refused."""
        return failures(self.candidates) if self.refused else ()

    @property
    def selection_probability(self) -> float:
        """The probability with which this answer was chosen, given the candidates; 1 for a refusal."""
        return 1.0 if self.choice.index is None else self.choice.probabilities[self.choice.index]

    @property
    def candidates_count(self) -> int:
        """How many candidates were drawn successfully."""
        return sum(candidate.drawn for candidate in self.candidates)


def failures(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Why candidates can't be the answer, each reason once, in the order found."""
    found = [f.detail or f"The check of {f.check} failed." for c in candidates for f in c.findings if not f.passed]
    return tuple(dict.fromkeys(found))
