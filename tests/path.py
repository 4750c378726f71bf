"""A request path without models or storage servers, for tests that plant faults."""

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from server.backends.embedding import HashingEmbedder
from server.deliberation import Judges
from server.errors import BackendError
from server.judging import rules_of
from server.learning import Learner
from server.means import Services
from server.pipeline import Pipeline
from server.rollout.routed import FixedRoutes, Router
from server.rollout.shadow import NO_SHADOW, Shadowing
from server.stages.quality import Classifiers
from server.stages.settings import PathSettings
from server.stages.stopping import Priors
from server.storage.journal import Log
from server.storage.scores import ScoreCache
from server.tools import selector
from server.tools.tool import Question
from server.types import Evidence, FinishReason, Generation, Sampling, Score
from tests.inmemory import InMemoryLog, InMemoryMemory, InMemoryProfiles


class StubPolicy:
    """Draws `texts` in turn; tokens are words. `failures` are raised by the next draws, in order."""

    release: Any = SimpleNamespace(id="policy-000001")
    seeded = False

    def __init__(self, texts: Sequence[str] = ("short", "a longer answer", "an answer of middling length")) -> None:
        self.texts: Iterator[str] = iter(tuple(texts) * 100)
        self.stuck: set[int] = set()
        self.drawn = 0
        self.failures: list[BackendError] = []
        self.prompts: list[str] = []
        self.delay = 0.0
        self.cancelled = 0

    def say(self, *texts: str) -> None:
        """Draws these from now on."""
        self.texts = iter(texts * 100)

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        return 512, max_output_tokens

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        return " ".join(f"<{m['role']}> {m['content']}" for m in messages)

    def count(self, text: str) -> int:
        return len(text.split())

    def tail(self, text: str, tokens: int) -> str:
        return " ".join(text.split()[-tokens:]) if tokens > 0 else ""

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        self.prompts.append(prompt)
        if self.failures:
            raise self.failures.pop(0)
        number, self.drawn = self.drawn, self.drawn + 1
        try:
            await asyncio.sleep(3600 if number in self.stuck else self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        text = next(self.texts)
        return Generation(text, FinishReason.STOP, len(text.split()))


class StubReward:
    """Longer is better, unless `value` says otherwise. `failures` are raised by the next calls, in order."""

    def __init__(self, name: str = "reward-000001") -> None:
        self.release: Any = SimpleNamespace(id=name, threshold=None)
        self.failures: list[BackendError] = []
        self.contexts: list[str] = []
        self.truncated = False
        self.value: Callable[[str], float] = lambda text: 1 - math.exp(-len(text) / 20)

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        self.contexts.append(context)
        if self.failures:
            raise self.failures.pop(0)
        return [Score(self.value(text), float(len(text)), truncated=self.truncated) for text in responses]


class StubTool:
    """Finds `evidence`. `failures` are raised by the next runs, in order; `delay` (seconds) holds for every one."""

    description = "Knows what tests give it."

    def __init__(self, name: str, *evidence: Evidence) -> None:
        self.name, self.evidence = name, evidence
        self.failures: list[Exception] = []
        self.questions: list[Question] = []
        self.delay = 0.0

    def relevance(self, question: Question) -> float:
        return 1.0

    async def run(self, question: Question) -> tuple[Evidence, ...]:
        self.questions.append(question)
        if self.failures:
            raise self.failures.pop(0)
        await asyncio.sleep(self.delay)
        return self.evidence

    async def close(self) -> None:
        """Nothing to give back."""


class Path:
    """The pipeline with its stubs at hand. `settings` are the path's; without exploration where they don't say."""

    def __init__(
        self,
        *tools: StubTool,
        cache: ScoreCache | None = None,
        routes: Router | None = None,
        shadow: Shadowing = NO_SHADOW,
        log: Log | None = None,
        **settings: Any,
    ) -> None:
        self.policy, self.reward, self.fallback = StubPolicy(), StubReward(), StubReward("reward-000000")
        self.log, self.memory, self.profiles = InMemoryLog(), InMemoryMemory(), InMemoryProfiles()
        self.threads = ThreadPoolExecutor(1)
        self.embedder = HashingEmbedder()
        self.learner = Learner(self.profiles, self.embedder.model)
        self.settings = PathSettings(**{"exploration": 0.0, "minimum_reward": 0.0, "policy_wait": 0.0, **settings})
        rewards = (self.reward, self.fallback) if self.settings.reward_fallback else (self.reward,)
        rules = rules_of(self.settings)
        self.judges = Judges(rewards, cache, self.embedder.model, rules, Classifiers(), Priors())
        services = Services(
            routes=routes or FixedRoutes(self.policy, self.judges),
            log=log or self.log,
            memory=self.memory,
            profiles=self.profiles,
            learner=self.learner,
            embedder=self.embedder,
            tools=tools,
            selector=selector.Router(0.5),
            threads=self.threads,
            shadow=shadow,
        )
        self.pipeline = Pipeline(services, self.settings)
