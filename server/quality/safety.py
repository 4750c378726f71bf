"""Whether a text may be said at all: a layer of word lists and patterns in English and Vietnamese.

It knows words, not meanings: a classifier (see `server/stages/quality.py`) sees what is hurtful without a bad word. The
lists are `words/*.toml`. Words count whole, so that Scunthorpe is a town; what people do to slip through is undone
first (invisible and decomposed characters, look-alike letters, digits for letters, spacing, stars, stretching).
"""

import bisect
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from server.quality.text import bare, clean, sentences

WORDS = Path(__file__).parent / "words"
LONGEST_PHRASE = 4
LONGEST_WORD = 40
"""Characters of a disguised word that are looked at."""
SHORTEST_MASKED = SHORTEST_BARE = 4
REACH = 80
"""Characters between a verb and its object."""


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of harm. `value` is what a text is worth that has it, 0 to 1; `detail` the sentence for people."""

    name: str
    value: float
    detail: str

    @property
    def allowed(self) -> bool:
        """Whether such a text may still be the answer."""
        return self.value >= 0.5


_KINDS = (
    Category("slurs", 0.0, "It contains a slur."),
    Category("threats", 0.0, "It threatens someone."),
    Category("self_harm", 0.0, "It encourages self-harm."),
    Category("secrets", 0.0, "It asks for a secret, such as a card number or a password."),
    Category("blocked", 0.1, "It contains a blocked word."),
    Category("profanity", 0.2, "It contains profanity."),
    Category("insults", 0.3, "It insults the reader."),
    Category("mild", 0.8, "Its language is rough."),
)
CATEGORIES: Mapping[str, Category] = {kind.name: kind for kind in _KINDS}


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A regular expression as written, and without diacritics for texts that have none."""

    exact: re.Pattern[str]
    plain: re.Pattern[str]

    @classmethod
    def of(cls, source: str) -> "_Pattern":
        return cls(re.compile(source), re.compile(bare(source)))

    def on(self, text: "_Text") -> re.Pattern[str]:
        return self.plain if text.plain else self.exact


@dataclass(frozen=True, slots=True)
class _Text:
    """Lower-case text. `plain`: it has no Vietnamese diacritics."""

    text: str
    plain: bool

    @classmethod
    def of(cls, text: str) -> "_Text":
        return cls(text, text.isascii() or bare(text) == text)


@dataclass(frozen=True, slots=True)
class _Secrets:
    """How one language asks for secrets; see words/en.toml."""

    nouns: _Pattern
    verbs: _Pattern
    entering: _Pattern
    not_before: _Pattern
    not_between: _Pattern
    elsewhere: _Pattern
    here: _Pattern

    def asked(self, text: _Text) -> bool:
        """Whether a sentence of the text asks the reader for a secret."""
        if not self.nouns.on(text).search(text.text):
            return False
        return any(self._asked(_Text.of(sentence)) for sentence in sentences(text.text))

    def _asked(self, sentence: _Text) -> bool:
        text = sentence.text
        nouns = [found.start() for found in self.nouns.on(sentence).finditer(text)]
        if not nouns:
            return False
        here = bool(self.here.on(sentence).search(text))
        if not here and self.elsewhere.on(sentence).search(text):
            return False
        verbs = [*self.verbs.on(sentence).finditer(text)]
        verbs += self.entering.on(sentence).finditer(text) if here else ()
        return any(self._demands(sentence, verb, nouns) for verb in verbs)

    def _demands(self, sentence: _Text, verb: re.Match[str], nouns: list[int]) -> bool:
        """Whether this verb has one of the nouns (positions, ascending) as its object."""
        place = bisect.bisect_left(nouns, verb.end())
        if place == len(nouns) or nouns[place] - verb.end() > REACH:
            return False
        if self.not_between.on(sentence).search(sentence.text, verb.end(), nouns[place]):
            return False
        return not self.not_before.on(sentence).search(sentence.text[max(0, verb.start() - REACH) : verb.start()])


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What no answer may contain: words and phrases, beginnings of words, patterns, requests for secrets."""

    words: Mapping[str, Category]
    stems: Mapping[str, Category]
    beginnings: tuple[str, ...]
    """The stems, for `str.startswith`."""
    patterns: tuple[tuple[_Pattern, Category], ...]
    secrets: tuple[_Secrets, ...]
    harmless: tuple[_Pattern, ...] = ()
    """What is blanked out first."""


@cache
def lexicon(blocked: Path | None = None) -> Lexicon:
    """The shipped lists, and the words or phrases of the file `blocked`, one a line; # begins a comment.

    Reads files: once, at start. Raises OSError or UnicodeDecodeError for a file that can't be read.
    """
    words: dict[str, Category] = {}
    patterns: list[tuple[_Pattern, Category]] = []
    secrets = []
    harmless = []
    for path in sorted(WORDS.glob("*.toml")):
        lists: dict[str, dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))
        secrets.append(_Secrets(**{name: _Pattern.of(source) for name, source in lists.pop("secrets").items()}))
        harmless += [_Pattern.of(source) for source in lists.pop("harmless")["patterns"]]
        for name, entries in lists.items():
            words |= dict.fromkeys(map(_key, entries.get("words", ())), CATEGORIES[name])
            patterns += [(_Pattern.of(source), CATEGORIES[name]) for source in entries.get("patterns", ())]
    words |= dict.fromkeys(map(_key, _lines(blocked)), CATEGORIES["blocked"])
    stems = {word[:-1]: category for word, category in words.items() if word.endswith("*")}
    whole = {word: category for word, category in words.items() if not word.endswith("*")}
    return Lexicon(whole, stems, tuple(stems), tuple(patterns), tuple(secrets), tuple(harmless))


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return [line for line in lines if line]


def _key(entry: str) -> str:
    return " ".join(clean(entry).casefold().split())


def inspect(text: str, lists: Lexicon) -> Category | None:
    """The worst that was found in a text; None for nothing."""
    plain = clean(text).casefold().replace("’", "'")
    for pattern in lists.harmless:
        plain = pattern.on(_Text.of(plain)).sub(" ", plain)
    found = [*_read(plain, lists), *_disguised(plain, lists)]
    deciphered = _decipher(plain, lists)
    if deciphered != plain:
        found += _read(deciphered, lists)
    return min(found, key=lambda category: category.value, default=None)


def _read(plain: str, lists: Lexicon) -> Iterable[Category]:
    """What a text says in its letters."""
    read = _Text.of(plain)
    yield from _listed(plain, lists)
    yield from (category for pattern, category in lists.patterns if pattern.on(read).search(plain))
    if any(secrets.asked(read) for secrets in lists.secrets):
        yield CATEGORIES["secrets"]


_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


def _listed(plain: str, lists: Lexicon) -> Iterable[Category]:
    """Listed words and phrases as they are written."""
    tokens = _TOKEN.findall(plain)
    for token in set(tokens):
        if (category := _word(token, lists)) is not None:
            yield category
    for length in range(2, LONGEST_PHRASE + 1):
        for phrase in set(map(" ".join, zip(*(tokens[start:] for start in range(length)), strict=False))):
            if phrase in lists.words:
                yield lists.words[phrase]


def _word(token: str, lists: Lexicon) -> Category | None:
    if token in lists.words:
        return lists.words[token]
    if not token.startswith(lists.beginnings):
        return None
    return next(category for stem, category in lists.stems.items() if token.startswith(stem))


_LEET = str.maketrans("013457@$!|€", "oieastasiie")
_LETTER = re.compile(r"[^\W\d_]")
_EDGES = "*_.,;:?!\"'()[]{}<>“”‘’«»…~`"
_MARKS = re.compile(r"[_.\-]")
_LOOKALIKES = str.maketrans("аеорсухіјѕԁһкмтвнαεορικντυ", "aeopcyxijsdhkmtbhaeopikvtu")
_SPACED = re.compile(r"(?<![^\W_])(?:[^\W_][ .\-_*·•,/\\|]{1,2}){2,}[^\W_](?![^\W_])")
"""Single letters with the same little between them."""
_ODD = re.compile(r"[\d@$!|€*#_.\-]")
_INSIDE = re.compile(r"(?<=[^\W\d_])[013457@$!|€*#]{1,2}(?=[^\W\d_])|(?<!\S)[013457@$!|€](?=[^\W\d_]{3})")
"""Signs for letters, within a word or before it."""
_STARRED = re.compile(r"\w[*#]+\w")
_NO_BLANKS = re.compile(r"\S+")
_STRETCHED = re.compile(r"([^\W\d_])\1\1")
_RUN = re.compile(r"(.)\1+")


def _disguised(plain: str, lists: Lexicon) -> Iterable[Category]:
    """Listed words behind what usually hides them."""
    for match in _SPACED.finditer(plain):
        yield from _known("".join(filter(str.isalnum, match.group())).translate(_LEET), lists)
    stretched = _STRETCHED.search(plain) is not None
    for token in set(plain.split()):
        if len(token) > LONGEST_WORD:
            continue
        word = token if token.isalpha() else token.strip(_EDGES)
        if not word.isascii():
            yield from _known(_latin(word), lists)
        if not word.isalpha():
            yield from _deciphered(word, lists)
        elif stretched:
            yield from _known(word, lists)


def _decipher(plain: str, lists: Lexicon) -> str:
    """The text with its disguised words in plain letters, so that phrases and patterns find them."""
    joined = _SPACED.sub(lambda match: "".join(filter(str.isalnum, match.group())), plain)
    if joined.isascii() and not _INSIDE.search(joined):
        return joined
    return _NO_BLANKS.sub(lambda match: _revealed(match.group(), lists), joined)


def _revealed(token: str, lists: Lexicon) -> str:
    """One token in plain letters. Vietnamese keeps its own, and what is no word with signs in it stays as it is."""
    if len(token) > LONGEST_WORD:
        return token
    if not token.isascii() and any(map(_is_lookalike, token)):
        token = _latin(token)
    if _STARRED.search(token):
        return _unmasked(token, lists)
    return _INSIDE.sub(lambda match: match.group().translate(_LEET), token)


def _is_lookalike(letter: str) -> bool:
    return ord(letter) in _LOOKALIKES or unicodedata.normalize("NFKC", letter) != letter


def _unmasked(token: str, lists: Lexicon) -> str:
    """A starred token as the first word of the lists that it can stand for."""
    word = token.strip(_EDGES)
    return next((entry for entry, _ in _behind_stars(word, lists)), token) if word else token


def _deciphered(word: str, lists: Lexicon) -> Iterable[Category]:
    """What a token with other signs than letters may stand for."""
    if _LETTER.search(word) and _ODD.search(word):
        yield from _known(word.translate(_LEET), lists)
        yield from _masked(word, lists)


def _known(token: str, lists: Lexicon) -> Iterable[Category]:
    """A listed word, also with its stretched letters doubled or single."""
    if len(token) > LONGEST_WORD:
        return
    readings = (token, _RUN.sub(r"\1\1", token), _RUN.sub(r"\1", token)) if _RUN.search(token) else (token,)
    for reading in readings:
        if (category := _word(reading, lists)) is not None:
            yield category


def _latin(token: str) -> str:
    """Look-alikes of other scripts and styles as Latin letters, accents off.

    Short words keep their accents: without them, many Vietnamese ones are another language's bad words.
    """
    folded = bare(token)
    if not folded.isascii():
        folded = unicodedata.normalize("NFKC", token).casefold().translate(_LOOKALIKES)
        folded = "".join(letter for letter in unicodedata.normalize("NFD", folded) if not unicodedata.combining(letter))
    return folded if len(folded) >= SHORTEST_BARE else token


def _masked(token: str, lists: Lexicon) -> Iterable[Category]:
    """A listed word of which some letters are stars, or which has marks between its letters."""
    if not any(star in token for star in "*#"):
        yield from _known(_MARKS.sub("", token), lists)
        return
    for _, category in _behind_stars(token, lists):
        yield CATEGORIES["insults"] if category.allowed else category


def _behind_stars(token: str, lists: Lexicon) -> Iterator[tuple[str, Category]]:
    """The listed words that a token with stars may be."""
    if not token[0].isalpha() or len(token) < SHORTEST_MASKED or sum(map(str.isalpha, token)) * 2 < len(token):
        return
    pattern = re.compile("".join("." if letter in "*#" else re.escape(letter) for letter in token))
    entries = (*lists.words.items(), *lists.stems.items())
    yield from (entry for entry in entries if len(entry[0]) == len(token) and pattern.fullmatch(entry[0]))
