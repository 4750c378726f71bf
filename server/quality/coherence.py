"""Whether a text holds together: it does not repeat itself, it ends, its characters are whole, and it speaks the
reader's language. Truncation that the policy itself reports is not seen here."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from server.quality import language
from server.quality.text import bare, clean, sentences, words

LONGEST_LOOP = 8
"""Words of a phrase that may be said again and again."""
LOOP_WORDS = 8
"""Words in a row that only repeat what came before: a loop."""
LEAST_SENTENCE = 4
"""Words of a sentence that counts as said twice; shorter ones may well be."""
REPEATED_SHARE = 0.15
"""Share of the words that are in sentences said before."""
LONGEST_FILLER = 240
"""Characters of a text that may be nothing but filler."""
LEAST_ASKED = 2
"""Words with a meaning that a question has, to which filler is no answer; "Can you help?" has one."""
STRETCH = 24
"""The same character in a row, apart from those that draw lines."""

_WORD = re.compile(r"\w+")
_STRETCHED = re.compile(rf"([^\s\-=_.*#~+|─━═·…])\1{{{STRETCH - 1},}}")
_BROKEN = re.compile(r"[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ue000-\uf8ff]")
_MOJIBAKE = re.compile(
    r"Ã[\u0080-\u00bf¡-¿]|â€[\u0080-\u00bf™œž\u009d¦“”]|á[º»][\u0080-\u00bf¡-¿]|Ä[‘\u0090\u0091ƒ\u0083]|Æ[°¡]"
)
_MARKUP = re.compile(r"<\|[a-z_]{1,32}\|>|\[/?INST\]|<<SYS>>|<(?:start|end)_of_turn>|</s>")
_CLOSING = re.compile(r"[.!?…。！？:;)\]}\"'”’»`|>~*_]\Z|[\U0001f300-\U0001faff\u2600-\u27bf]\ufe0f?\Z")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_LISTED = re.compile(r"^[ \t]*(?:[-*•|]|\d+[.)])[^\n]*\Z", re.MULTILINE)
_SAYS_NOTHING = frozenset(language.DATA["empty"]["any"].split())
_YES_OR_NO = frozenset(language.DATA["empty"]["yes_no"].split())
_FILLER = re.compile("|".join(language.DATA["filler"].values()))
"""A sentence that only fills, in lower case and without diacritics."""
_ASKS_WHAT = re.compile(
    r"\b(?:how|what|when|where|which|who|why|bao nhiêu|bao lâu|bao giờ|khi nào|ở đâu|thế nào|vì sao|tại sao|là gì)\b"
)


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a text. `value` (0 to 1) is what is left of it; from 0.5 on it may still be the answer."""

    value: float
    detail: str


def flaws(text: str, query: str, languages: frozenset[str] = frozenset()) -> Iterator[Flaw]:
    """Each flaw of a text as an answer to `query`; `languages` are those that are right beside the query's own."""
    if _BROKEN.search(text) or len(_MOJIBAKE.findall(text)) > 1:
        yield Flaw(0.2, "It has broken characters.")
    if _MARKUP.search(text):
        yield Flaw(0.2, "It has control tokens of the model in its text.")
    yield from _repetitions(_CODE.sub("\n", clean(text)))
    if not language.names_language(query) and language.is_garbled(_CODE.sub("\n", text)):
        yield Flaw(0.3, "It mixes two languages in one sentence.")
    yield from _foreign(text, query, languages)
    end = text[-400:].rstrip()
    if not _CLOSING.search(end) and not _LISTED.search(end) and len(_WORD.findall(end)) > LEAST_SENTENCE:
        yield Flaw(0.8, "It ends without a closing mark.")


def says_nothing(text: str, query: str) -> bool:
    """Whether a text has no word or number, or only words such as "ok"; yes and no answer some questions only. Of what
    asks something, also whether each sentence only fills ("Let me think about it.")."""
    if _only_fills(text) and _asks(query):
        return True
    found = re.findall(r"\w+", clean(text[:200]).lower())
    if _ASKS_WHAT.search(clean(query).lower()):
        return set(found) <= _SAYS_NOTHING | _YES_OR_NO
    return set(found) <= _SAYS_NOTHING


def _only_fills(text: str) -> bool:
    """Whether each sentence of a short text says nothing."""
    if len(text) > LONGEST_FILLER:
        return False
    said = [" ".join(_WORD.findall(bare(part))) for part in sentences(clean(text).lower().replace("’", "'"))]
    return any(said) and all(not part or _FILLER.fullmatch(part) for part in said)


def _asks(query: str) -> bool:
    """Whether a query wants to know something: it asks what, or has words enough."""
    lower = clean(query).lower()
    meant = [word for word in words(lower) if word not in language.STOP_WORDS]
    return len(meant) >= LEAST_ASKED and (bool(_ASKS_WHAT.search(lower)) or "?" in lower)


def _repetitions(text: str) -> Iterator[Flaw]:
    if _STRETCHED.search(text):
        yield Flaw(0.2, "It repeats a character over and over.")
    if _loops(_WORD.findall(text.casefold())):
        yield Flaw(0.1, "It repeats the same words over and over.")
    said = [" ".join(_WORD.findall(sentence)) for sentence in sentences(text.casefold())]
    lengths = {sentence: sentence.count(" ") + 1 for sentence in said}
    twice = Counter(sentence for sentence in said if lengths[sentence] >= LEAST_SENTENCE)
    repeated = sum((count - 1) * lengths[sentence] for sentence, count in twice.items())
    share = repeated / max(1, sum(lengths[sentence] for sentence in said))
    if share >= REPEATED_SHARE:
        yield Flaw(max(0.0, 0.4 - 0.4 * share), "It says the same sentence more than once.")
    elif repeated:
        yield Flaw(0.8, "It repeats itself a little.")


def _loops(words: list[str]) -> bool:
    """Whether a phrase of up to LONGEST_LOOP words comes again and again, at least three times in all."""
    if len(words) - len(set(words)) < LOOP_WORDS:
        return False
    for period in range(1, LONGEST_LOOP + 1):
        run = 0
        for before, after in zip(words, words[period:], strict=False):
            run = run + 1 if before == after and not after.isdigit() else 0
            if run >= max(2 * period, LOOP_WORDS):
                return True
    return False


def _foreign(text: str, query: str, languages: frozenset[str]) -> Iterator[Flaw]:
    asked = language.detect(query)
    spoken = language.detect(text)
    if asked and spoken and spoken != asked and spoken not in languages and not language.names_language(query):
        yield Flaw(0.3, "It is not in the language of the query.")
