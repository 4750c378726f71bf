"""By what the same question is known again, in later snapshots and in files."""

import hashlib
import json
import unicodedata


def question_id(tenant: str, query: str, context: str) -> str:
    """Of a query in its context, both to the letter: what the model is given is the same."""
    return _digest("question", tenant, context, query)


def topic_id(tenant: str, query: str) -> str:
    """Of a query in any context, by its letters and digits alone (`plain`); where it has none, by all of its signs.

    Queries that differ in signs ("C" and "C++") share a topic: that parts less, where parting would give answers away.
    """
    return _digest("topic", tenant, plain(query) or "".join(query.split()))


def plain(text: str) -> str:
    """Without case, punctuation, spaces and the form of accents (Unicode NFKC): what says the same to the letter."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", text).casefold() if letter.isalnum())


def _digest(*parts: str) -> str:
    """SHA-256, hexadecimal. A text may hold half a surrogate pair: it has a digest, too."""
    written = json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.sha256(written).hexdigest()
