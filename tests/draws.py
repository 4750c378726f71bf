"""A policy that follows a script, and what drawing makes of it."""

import asyncio

from server.stages.candidates import Patience, draw, plan
from server.types import Candidate, FinishReason, Generation, Preset, Sampling

PRESETS = (Preset("calm", 0.7, 0.9), Preset("wild", 1.0, 0.8), Preset("top", 1.0, top_k=50))
SECOND = Patience(1.0)


class Scripted:
    """A policy that does for each candidate what its list says: a text, an error, or seconds of silence."""

    def __init__(self, *script: str | BaseException | float, deaf: bool = False) -> None:
        self.script = list(script)
        self.deaf = deaf
        self.cancelled = 0

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, float):
            await self._sleep(step)
            return Generation("late", FinishReason.STOP, 1)
        return Generation(step, FinishReason.STOP, 1)

    async def _sleep(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                self.cancelled += 1
                if not self.deaf:
                    raise


async def drawn(policy: Scripted, count: int, patience: Patience = SECOND, wave: int = 0, first: int = 0) -> "Seen":
    """Draws, and what was told on the way."""
    told: list[Candidate] = []
    found = await draw("p", plan(count, 1, 8, PRESETS, first), policy, patience, told.append, wave, first)
    return Seen(found, told)


class Seen(tuple[Candidate, ...]):
    told: list[Candidate]

    def __new__(cls, found: tuple[Candidate, ...], told: list[Candidate]) -> "Seen":
        made = super().__new__(cls, found)
        made.told = told
        return made
