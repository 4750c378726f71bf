"""The policy that is the champion at the moment, for what outlives a turn: tools that have a policy write or choose."""

from collections.abc import Callable, Sequence
from typing import Protocol

from server.backends.policy import Function, Message, ServedPolicy
from server.types import Generation, Sampling


class ToolPolicy(Protocol):
    """What tools need of a policy release."""

    @property
    def can_call_functions(self) -> bool:
        """Whether it was trained to, and its chat template shows it the functions."""

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        """Tokens for (prompt, answer)."""

    def render(self, messages: Sequence[Message], functions: Sequence[Function] = ()) -> str:
        """The prompt; raises BackendRefused."""

    def count(self, text: str) -> int:
        """Length in tokens."""

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """A text; raises BackendError."""


class ChampionPolicy:
    """`ToolPolicy` that is whoever `current` gives at each call."""

    def __init__(self, current: Callable[[], ServedPolicy]) -> None:
        self._current = current

    @property
    def can_call_functions(self) -> bool:
        """See ServedPolicy."""
        return self._current().can_call_functions

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        """See ServedPolicy."""
        return self._current().window(max_output_tokens)

    def render(self, messages: Sequence[Message], functions: Sequence[Function] = ()) -> str:
        """See ServedPolicy."""
        return self._current().render(messages, functions)

    def count(self, text: str) -> int:
        """See ServedPolicy."""
        return self._current().count(text)

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """See ServedPolicy."""
        return await self._current().generate(prompt, sampling, timeout)
