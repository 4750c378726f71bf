"""Between context and candidates: the prompt that fits the policy model's window.

What does not fit goes from the oldest: earlier exchanges first, then the beginning of the given context. The query is
never cut: half a question has no right answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from server.errors import QueryTooLong
from server.types import Degradation, DegradationReason, Exchange

_CHARACTERS_PER_TOKEN = 8
"""Context is cut to this many characters per token of the window before it is tokenised."""


class Window(Protocol):
    """What fitting needs of a policy release."""

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """The prompt for chat messages."""

    def count(self, text: str) -> int:
        """Tokens of a text."""

    def tail(self, text: str, tokens: int) -> str:
        """The end of a text that fits in `tokens`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The rendered prompt, what of the conversation is in it, and what had to be left out."""

    text: str
    context: str
    exchanges: tuple[Exchange, ...]
    degradations: tuple[Degradation, ...] = ()


def compose(query: str, context: str, exchanges: Sequence[Exchange], policy: Window, limit: int) -> Prompt:
    """The prompt of at most `limit` tokens. Pure, and too slow for the event loop when texts are long.

    Raises QueryTooLong when the query alone does not fit.
    """
    if (alone := policy.count(query)) > limit:  # before anything is rendered: a long query is the cheapest attack
        raise QueryTooLong(alone, limit)
    kept, given = list(exchanges), context[-limit * _CHARACTERS_PER_TOKEN :]
    text, tokens = _measure(query, given, kept, policy)
    while tokens > limit and kept:
        kept.pop(0)
        text, tokens = _measure(query, given, kept, policy)
    while tokens > limit and given:
        shorter = policy.tail(given, policy.count(given) - (tokens - limit))
        given = shorter if len(shorter) < len(given) else given[1:]
        text, tokens = _measure(query, given, kept, policy)
    if tokens > limit:
        raise QueryTooLong(tokens, limit)
    return Prompt(text, given, tuple(kept), _left_out(len(exchanges) - len(kept), len(context) - len(given)))


def _measure(query: str, context: str, exchanges: Sequence[Exchange], policy: Window) -> tuple[str, int]:
    text = policy.render(messages(query, context, exchanges))
    return text, policy.count(text)


def messages(query: str, context: str, exchanges: Sequence[Exchange]) -> list[dict[str, str]]:
    """The conversation as chat messages: the context as the system's, then the exchanges, then the query."""
    found = [{"role": "system", "content": context}] if context.strip() else []
    for exchange in exchanges:
        found.append({"role": "user", "content": exchange.query})
        found.append({"role": "assistant", "content": exchange.response})
    return [*found, {"role": "user", "content": query}]


def _left_out(exchanges: int, characters: int) -> tuple[Degradation, ...]:
    parts = []
    if exchanges:
        parts.append(f"the {exchanges} oldest exchanges of the session")
    if characters:
        parts.append(f"the first {characters} characters of the context")
    if not parts:
        return ()
    detail = f"To fit the policy model's window, {' and '.join(parts)} were left out."
    return (Degradation(DegradationReason.CONTEXT_TRUNCATED, detail),)
