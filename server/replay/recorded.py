"""The services of the request path as they were for one logged request. None of them keeps anything."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from server.deliberation import Policy
from server.errors import BackendRefused, StoreUnavailable
from server.learning import Learner
from server.stages.candidates import derive_seed
from server.storage.ledger import Key
from server.storage.profiles import Change, Neighbour, Profiles
from server.storage.rows import LogEntry
from server.tools.selector import Selection
from server.tools.tool import Question, Tool, ToolFailed, ToolRefused
from server.types import (
    Candidate,
    Evidence,
    Exchange,
    FinishReason,
    Generation,
    Profile,
    Recollection,
    Reply,
    Sampling,
    ToolOutcome,
    ToolRun,
)


class NoLog:
    """`server.storage.journal.Log` that writes nothing; `entry` is what it would have written."""

    def __init__(self) -> None:
        self.entry: LogEntry | None = None

    async def find(self, key: Key, seconds: float) -> Reply | None:
        """Nothing: a replay is a request of its own."""

    async def append(self, entry: LogEntry) -> Reply:
        """The entry's reply."""
        self.entry = entry
        return entry.reply


class NoLearner(Learner):
    """Learns nothing."""

    def asked(self, tenant: str, user: str, embedding: Sequence[float] | None, response_id: UUID) -> None:
        """Forgets it."""


class RecordedMemory:
    """`server.storage.memory.Memory` that recalls what the logged prompt held."""

    def __init__(self, recollection: Recollection) -> None:
        self._recollection = recollection

    async def recall(self, tenant: str, user: str, session: str) -> Recollection:
        """What was recalled then."""
        return self._recollection

    async def remember(self, tenant: str, user: str, session: str, response_id: UUID, exchange: Exchange) -> None:
        """Forgets it."""

    async def claim_feedback_prompt(self, tenant: str, who: str) -> bool:
        """Never: nobody is there to be asked."""
        return False


class RecordedProfiles:
    """`server.storage.profiles.Profiles` that knows the logged request's profile alone.

    The log holds no preference vector; tools that run again need one, so `now`, if any, is asked for today's.
    """

    def __init__(self, profile: Profile | None, now: Profiles | None = None) -> None:
        self._profile, self._now = profile, now

    async def get(self, tenant: str, user: str) -> Profile | None:
        """The profile of then, with the preference of now."""
        if self._profile is None or self._now is None:
            return self._profile
        today = await self._now.get(tenant, user)
        if today is None:
            return self._profile
        return replace(self._profile, preference=today.preference, weight=today.weight, model=today.model)

    async def prepare(self, model: str, dimension: int) -> None:
        """Nothing to prepare."""

    async def put(self, tenant: str, user: str, change: Change) -> Profile:
        """Refused."""
        raise _read_only()

    async def learn(self, tenant: str, user: str, embedding: Sequence[float], weight: float, model: str) -> None:
        """Refused."""
        raise _read_only()

    async def delete(self, tenant: str, user: str) -> bool:
        """Refused."""
        raise _read_only()

    async def nearest(self, tenant: str, embedding: Sequence[float], model: str, limit: int) -> list[Neighbour]:
        """Nobody."""
        return []

    async def close(self) -> None:
        """Nothing to give back."""


def _read_only() -> StoreUnavailable:
    return StoreUnavailable("A replay changes no profile.")


class RecordedTool:
    """`server.tools.tool.Tool` that finds what it found then, or fails as it did."""

    description = "Says what the log says."

    def __init__(self, run: ToolRun) -> None:
        self.name = run.tool
        self._run = run

    def relevance(self, question: Question) -> float:
        """As it was."""
        return self._run.relevance

    async def run(self, question: Question) -> tuple[Evidence, ...]:
        """The logged evidence."""
        if self._run.outcome is ToolOutcome.REFUSED:
            raise ToolRefused(self._run.detail)
        if self._run.outcome in (ToolOutcome.FAILED, ToolOutcome.LATE):
            raise ToolFailed(self._run.detail)
        return self._run.evidence

    async def close(self) -> None:
        """Nothing to give back."""


class RecordedSelector:
    """`server.tools.selector.Selector`: all tools, since only those that were selected then are there."""

    async def select(self, question: Question, tools: Sequence[Tool], budget: float) -> tuple[Selection, ...]:
        """Each with its relevance of then."""
        return tuple(Selection(tool, tool.relevance(question)) for tool in tools)


class RecordedPolicy:
    """A policy that draws the logged candidates: so they go through scoring, checks and selection once more.

    Rendering and measuring are `policy`'s, which decides what the reward model is shown. `seed` is the replay's.
    """

    def __init__(self, policy: Policy, candidates: Sequence[Candidate], seed: int, *, seeded: bool) -> None:
        self.release, self.seeded = policy.release, seeded
        self.window, self.render, self.count, self.tail = policy.window, policy.render, policy.count, policy.tail
        self._drawn: Mapping[int, Candidate] = {
            derive_seed(seed, place): candidate for place, candidate in enumerate(candidates)
        }

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """The candidate that was drawn in this place."""
        candidate = self._drawn[sampling.seed]
        if not candidate.drawn:
            raise BackendRefused(candidate.error)
        return Generation(candidate.text, candidate.finish_reason or FinishReason.STOP, candidate.output_tokens)
