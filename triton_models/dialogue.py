"""How a conversation is written down as the context of a reward input: the same for server and trainer."""

from collections.abc import Iterable


def transcript(context: str, exchanges: Iterable[tuple[str, str]]) -> str:
    """The given context, then earlier (query, response) pairs, oldest first: the serializer cuts from the oldest."""
    parts = [context.strip()] if context.strip() else []
    parts += [f"User: {query}\nAssistant: {response}" for query, response in exchanges]
    return "\n".join(parts)
