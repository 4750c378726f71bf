"""A request path without models or storage servers, for tests that plant faults."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from server.errors import BackendError
from server.pipeline import Pipeline, Services
from server.types import FinishReason, Generation, Sampling, Score
from tests.inmemory import InMemoryLog, InMemoryMemory


class StubPolicy:
    """Draws `texts` in turn; tokens are words. `failures` are raised by the next draws, in order."""

    release: Any = SimpleNamespace(id="policy-000001")
    seeded = False

    def __init__(self, texts: Sequence[str] = ("short", "a longer answer", "an answer of middling length")) -> None:
        self.texts: Iterator[str] = iter(texts * 100)
        self.failures: list[BackendError] = []
        self.prompts: list[str] = []
        self.delay = 0.0
        self.cancelled = 0

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        return 64, max_output_tokens

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
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        text = next(self.texts)
        return Generation(text, FinishReason.STOP, len(text.split()))


class StubReward:
    """Longer is better. `failures` are raised by the next calls, in order."""

    release: Any = SimpleNamespace(id="reward-000001")

    def __init__(self) -> None:
        self.failures: list[BackendError] = []
        self.contexts: list[str] = []
        self.truncated = False

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        self.contexts.append(context)
        if self.failures:
            raise self.failures.pop(0)
        return [Score(1 - math.exp(-len(text) / 20), float(len(text)), truncated=self.truncated) for text in responses]


class Path:
    """The pipeline with its stubs at hand."""

    def __init__(self) -> None:
        self.policy, self.reward = StubPolicy(), StubReward()
        self.log, self.memory = InMemoryLog(), InMemoryMemory()
        self.threads = ThreadPoolExecutor(1)
        self.pipeline = Pipeline(Services(self.policy, self.reward, self.log, self.memory, self.threads))
