"""Between tools and candidates: the prompt that fits the policy model's window.

The system's message says what the deployment asks of every answer, who asks (the profile's attributes), what the tools
found and what the caller gave, in this order. What does not fit is given up from the least: earlier exchanges, oldest
first; then the given context, from its beginning; then evidence, from its end; the instructions last. The query is
never cut: half a question has no right answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from server.errors import QueryTooLong
from server.types import Degradation, DegradationReason, Evidence, Profile, Recollection

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


NOTHING = Recollection()


@dataclass(frozen=True, slots=True)
class Material:
    """What a prompt may hold beside the query."""

    context: str = ""
    recollection: Recollection = NOTHING
    evidence: tuple[Evidence, ...] = ()
    profile: Profile | None = None
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The rendered prompt, the system's message in it but for the instructions, which are for who writes and not for
    who judges, the material that it holds, and what had to be left out."""

    text: str
    system: str
    material: Material
    degradations: tuple[Degradation, ...] = ()


def compose(query: str, material: Material, policy: Window, limit: int, evidence_limit: int) -> Prompt:
    """The prompt of at most `limit` tokens, about `evidence_limit` of them evidence. Pure, and too slow for the event
    loop when texts are long.

    Raises QueryTooLong when the query alone does not fit.
    """
    if (alone := policy.count(query)) > limit:  # before anything is rendered: a long query is the cheapest attack
        raise QueryTooLong(alone, limit)
    kept = replace(
        material,
        context=material.context[-limit * _CHARACTERS_PER_TOKEN :],
        evidence=_within(material.evidence, policy, min(evidence_limit, limit)),
    )
    text, tokens = _measure(query, kept, policy)
    while tokens > limit and (shorter := _shorten(kept, tokens - limit, policy)) is not None:
        kept = shorter
        text, tokens = _measure(query, kept, policy)
    if tokens > limit:
        raise QueryTooLong(tokens, limit)
    return Prompt(text, system_message(replace(kept, instructions="")), kept, _left_out(material, kept))


def _within(evidence: Sequence[Evidence], policy: Window, limit: int) -> tuple[Evidence, ...]:
    """The first passages that fit in `limit` tokens; the first one is cut to it."""
    kept: list[Evidence] = []
    for each in evidence:
        text = each.text[: limit * _CHARACTERS_PER_TOKEN]
        tokens = policy.count(_passage(replace(each, text=text)))
        if tokens <= limit:
            kept.append(replace(each, text=text))
            limit -= tokens
        elif not kept:
            return (replace(each, text=text[: max(1, len(text) * limit // tokens)]),)
        else:
            break
    return tuple(kept)


def _shorten(kept: Material, excess: int, policy: Window) -> Material | None:
    """The material with less of what matters least, by about `excess` tokens; None when nothing is left to give up."""
    recalled = kept.recollection
    if recalled.summary:
        return replace(kept, recollection=replace(recalled, summary=""))
    if recalled.exchanges:
        return replace(kept, recollection=replace(recalled, exchanges=recalled.exchanges[1:]))
    if kept.context:
        shorter = policy.tail(kept.context, policy.count(kept.context) - excess)
        return replace(kept, context=shorter if len(shorter) < len(kept.context) else kept.context[1:])
    if kept.evidence:
        return replace(kept, evidence=kept.evidence[:-1])
    if kept.profile:
        return replace(kept, profile=None)
    return replace(kept, instructions="") if kept.instructions else None


def _measure(query: str, material: Material, policy: Window) -> tuple[str, int]:
    text = policy.render(messages(query, material))
    return text, policy.count(text)


def messages(query: str, material: Material) -> list[dict[str, str]]:
    """The conversation as chat messages: the system's, then the exchanges, then the query."""
    system = system_message(material)
    found = [{"role": "system", "content": system}] if system else []
    for exchange in material.recollection.exchanges:
        found.append({"role": "user", "content": exchange.query})
        found.append({"role": "assistant", "content": exchange.response})
    return [*found, {"role": "user", "content": query}]


def system_message(material: Material) -> str:
    """The system's message: instructions, profile, evidence, what was said earlier in short, given context; "" when all
    are empty."""
    parts = [material.instructions] if material.instructions else []
    if material.profile and material.profile.attributes:
        parts.append("User: " + "; ".join(f"{_value(k)} = {_value(v)}" for k, v in material.profile.attributes.items()))
    if material.evidence:
        parts.append("\n".join(["Evidence:", *map(_passage, material.evidence)]))
    if material.recollection.summary:
        parts.append(f"Earlier: {_line(material.recollection.summary)}")
    if material.context.strip():
        parts.append(material.context)
    return "\n".join(parts)


def _passage(evidence: Evidence) -> str:
    title = _line(evidence.title).replace("[", "(").replace("]", ")")  # a title must end where the passage begins
    return f"[{title}] {_line(evidence.text)}"


def _value(text: str) -> str:
    """A name or value that can't pose as a further one."""
    return _line(text).replace(";", ",")


def _line(text: str) -> str:
    """The text on one line: a passage must not be able to look like two."""
    return " ".join(text.split())


def _left_out(given: Material, kept: Material) -> tuple[Degradation, ...]:
    found = []
    parts = []
    if exchanges := len(given.recollection.exchanges) - len(kept.recollection.exchanges):
        parts.append(f"the {exchanges} oldest exchanges of the session")
    if characters := len(given.context) - len(kept.context):
        parts.append(f"the first {characters} characters of the context")
    if given.recollection.summary and not kept.recollection.summary:
        parts.append("the summary of what was said before")
    if given.profile and given.profile.attributes and not kept.profile:
        parts.append("what is known of the user")
    if given.instructions and not kept.instructions:
        parts.append("the instructions")
    if parts:
        detail = f"To fit the policy model's window, {' and '.join(parts)} were left out."
        found.append(Degradation(DegradationReason.CONTEXT_TRUNCATED, detail))
    if given.evidence and [e.text for e in given.evidence] != [e.text for e in kept.evidence]:
        detail = f"{len(kept.evidence)} of {len(given.evidence)} passages of evidence fit the prompt."
        found.append(Degradation(DegradationReason.EVIDENCE_TRUNCATED, detail))
    return tuple(found)
