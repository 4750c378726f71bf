"""The values of rollouts. All are frozen; nothing here does I/O or looks at a clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from server.rollout.plan import Plan, Waiting


class Kind(StrEnum):
    """What is rolled out. Each kind has one champion, and one rollout under way at most."""

    REWARD = "reward"
    POLICY = "policy"


class Variation(StrEnum):
    """What an experiment varies: how the answer is chosen, what the policy is told first, what the caller shows."""

    SELECTION = "selection"
    PROMPT = "prompt"
    INTERFACE = "interface"


class State(StrEnum):
    """Where a rollout stands.

    DRAFT: planned, nothing happens. PUBLISHED: being loaded. LOADED: ready everywhere. SHADOW: answers, unseen. CANARY:
    has a stage's share of users. VERIFIED: it is the champion. PAUSED: waits, see Pause. ROLLING_BACK: has no traffic
    any more, and finishes what it had. ROLLED_BACK: is gone. FAILED: never took traffic.
    """

    DRAFT = "draft"
    PUBLISHED = "published"
    LOADED = "loaded"
    SHADOW = "shadow"
    CANARY = "canary"
    VERIFIED = "verified"
    PAUSED = "paused"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in (State.VERIFIED, State.ROLLED_BACK, State.FAILED)


class Trigger(StrEnum):
    """What moves a rollout. People START, PROMOTE, PAUSE, RESUME; people and the controller ROLL_BACK; the rest is the
    controller's: ADVANCE on evidence, SUSPEND and RECOVER, FAIL before any traffic, DRAIN, and SET_CLOCK."""

    DRAFT = "draft"
    START = "start"
    ADVANCE = "advance"
    PROMOTE = "promote"
    PAUSE = "pause"
    SUSPEND = "suspend"
    RESUME = "resume"
    RECOVER = "recover"
    FAIL = "fail"
    ROLL_BACK = "roll_back"
    DRAIN = "drain"
    SET_CLOCK = "set_clock"


class Cause(StrEnum):
    """Why a rollout is paused. Only with PERSON alone does the challenger keep its share of users."""

    PERSON = "person"
    UNREADY = "unready"
    SAMPLE_RATIO = "sample_ratio"
    SAFETY = "safety"


@dataclass(frozen=True, slots=True)
class Pause:
    """One cause of a pause, since when it is there, and a sentence of why."""

    cause: Cause
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: a person by name, or the controller."""

    name: str
    is_person: bool


CONTROLLER = Actor("controller", is_person=False)


class Verdict(StrEnum):
    """What a comparison with the champion says so far. UNDECIDED: too little data; never a pass."""

    UNDECIDED = "undecided"
    INFERIOR = "inferior"
    NON_INFERIOR = "non_inferior"
    SUPERIOR = "superior"

    @property
    def passes(self) -> bool:
        """Whether it is shown not to be worse."""
        return self in (Verdict.NON_INFERIOR, Verdict.SUPERIOR)


class CriterionName(StrEnum):
    """The success criteria: satisfaction rose, no safety incident, quality was kept, latency hardly rose."""

    SATISFACTION = "satisfaction"
    SAFETY = "safety"
    QUALITY = "quality"
    LATENCY = "latency"


class Outcome(StrEnum):
    """Of one criterion. UNDECIDED: too little data to tell."""

    UNDECIDED = "undecided"
    MISSED = "missed"
    MET = "met"


@dataclass(frozen=True, slots=True)
class Criterion:
    """How one success criterion stands, with a sentence that has the figures.

    Several of one name, such as latency end to end and by stage, are one criterion: it is met once all of them are.
    """

    name: CriterionName
    outcome: Outcome
    sentence: str


class Guardrail(StrEnum):
    """What may not get worse, whatever else gets better: satisfaction (ratings, thumbs down), quality, latency, and
    failures (its fallbacks are its failures). SHADOW: what only a shadow shows, such as rank correlation."""

    SATISFACTION = "satisfaction"
    QUALITY = "quality"
    LATENCY = "latency"
    FAILURES = "failures"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Finding:
    """A guardrail that is broken, with a sentence that has the figures."""

    guardrail: Guardrail
    sentence: str


@dataclass(frozen=True, slots=True)
class Safety:
    """Safety reports on the challenger's replies, of all tenants, by what people made of them."""

    pending: int = 0
    confirmed: int = 0
    dismissed: int = 0


@dataclass(frozen=True, slots=True)
class Readiness:
    """On how many replicas the challenger is loaded, warmed up and right on its golden inputs.

    `refusal`: why a replica won't have it, such as no room or a torn file; "" when none refuses. `unseen`: since when
    nobody has looked after one, so that nothing is known of it; "" when each is looked after.
    """

    ready: int = 0
    replicas: int = 0
    refusal: str = ""
    unseen: str = ""

    @property
    def everywhere(self) -> bool:
        """Whether each replica has it; with no replica none has."""
        return self.ready >= self.replicas > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a rollout at one look. The defaults say nothing, and nothing passes on them.

    `rollout_id`, `version`: which rollout it is of, and as it stood then; evidence of an earlier version may take
    traffic away, never give any. `samples`: of the present stage, as `plan.Waiting` counts them. `mismatch`: a sentence
    when users are not split as planned, "" when they are. `unread`: one when what users did could not be read for so
    long that guardrails are blind, else "". `figures`: the statistics behind all this, as JSON, for the audit.
    """

    rollout_id: str
    version: int
    published: bool = False
    readiness: Readiness = Readiness()
    samples: int = 0
    satisfaction: Verdict = Verdict.UNDECIDED
    quality: Verdict = Verdict.UNDECIDED
    findings: tuple[Finding, ...] = ()
    safety: Safety = Safety()
    mismatch: str = ""
    unread: str = ""
    criteria: tuple[Criterion, ...] = ()
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout as it is stored. Everything that is to be loaded and routed follows from it (`effects`).

    `version` grows by one with each event; who writes compares it and sets the next. `since`: when the present state
    and stage began. `served`: seconds of it before the last pause; `lost`: seconds of it that the challenger was
    unready. `resumes_to`: where a pause leads back to. `drain_seconds`: how long a call may still be under way after
    its release lost all traffic. `undoes`: the rollout that a return undoes, else "".
    """

    rollout_id: str
    kind: Kind
    challenger: str
    champion: str
    plan: Plan
    drain_seconds: float
    since: datetime
    state: State = State.DRAFT
    stage: int = 0
    version: int = 1
    served: float = 0.0
    lost: float = 0.0
    resumes_to: State | None = None
    pauses: tuple[Pause, ...] = ()
    undoes: str = ""

    @property
    def experiment(self) -> str:
        """What assignments name it by."""
        return self.rollout_id

    @property
    def release(self) -> str:
        """The release that is tried."""
        return self.challenger

    @property
    def is_active(self) -> bool:
        """Whether it is under way, so that no other of its kind may start."""
        return self.state is not State.DRAFT and not self.state.is_final

    @property
    def is_last_stage(self) -> bool:
        """Whether no stage follows the present one."""
        return self.stage == len(self.plan.stages) - 1

    @property
    def causes(self) -> frozenset[Cause]:
        """Why it is paused."""
        return frozenset(pause.cause for pause in self.pauses)

    @property
    def waiting(self) -> Waiting:
        """How long its shadow, or the present stage, lasts."""
        in_shadow = State.SHADOW in (self.state, self.resumes_to)
        return self.plan.shadow if in_shadow and self.plan.shadow else self.plan.stages[self.stage]

    def elapsed(self, now: datetime) -> float:
        """Seconds of the present state without its pauses. A clock before `since` counts for nothing."""
        running = 0.0 if self.state is State.PAUSED else (now - self.since).total_seconds()
        return self.served + max(0.0, running)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a rollout stood, for its audit. `stage` counts from 0."""

    state: State
    stage: int
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of a rollout's audit, which only grows: the event with `version` made that version of the rollout.

    `before` is None for the first. `evidence` is what was known when it was decided; None where nothing was looked at.
    """

    rollout_id: str
    version: int
    at: datetime
    actor: Actor
    trigger: Trigger
    before: Position | None
    after: Position
    reason: str
    evidence: Evidence | None


@dataclass(frozen=True, slots=True)
class Move:
    """A decision that changes the rollout: what it becomes, and the event that says so. Both are stored or neither."""

    rollout: Rollout
    event: Event

    @property
    def reason(self) -> str:
        """Why, in a sentence."""
        return self.event.reason


@dataclass(frozen=True, slots=True)
class Wait:
    """A decision that nothing changes yet: why, in a sentence, and what was known."""

    reason: str
    evidence: Evidence


Decision = Move | Wait
