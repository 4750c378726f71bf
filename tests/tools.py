"""Tools that do what a test says."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from server.tools.tool import Question
from server.types import Evidence

Work = Callable[[Question], Awaitable[tuple[Evidence, ...]]]


def a_question(query: str = "How long is the warranty?", **changes: Any) -> Question:
    return Question("default", "ann", query, **changes)


def an_evidence(text: str = "24 months.", tool: str = "docs") -> Evidence:
    return Evidence(tool, f"{tool}/1", "Warranty", text)


@dataclass
class ScriptedTool:
    """Gives, raises or does what `script` says; counts what was cancelled and closed."""

    name: str = "docs"
    script: tuple[Evidence, ...] | BaseException | Work = ()
    fits: float | Exception = 0.9
    description: str = "Finds passages."
    questions: list[Question] = field(default_factory=list)
    cancelled: int = 0
    closed: int = 0

    def relevance(self, question: Question) -> float:
        if isinstance(self.fits, Exception):
            raise self.fits
        return self.fits

    async def run(self, question: Question) -> tuple[Evidence, ...]:
        self.questions.append(question)
        if isinstance(self.script, BaseException):
            raise self.script
        if isinstance(self.script, tuple):
            return self.script
        try:
            return await self.script(question)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def close(self) -> None:
        self.closed += 1


async def forever(question: Question) -> tuple[Evidence, ...]:
    await asyncio.Event().wait()
    raise AssertionError
