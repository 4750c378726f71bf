"""Splits sections of text into passages of bounded length, which overlap a little where a section is long. Pure.

No word of a section is lost, and each passage keeps the headings above it as its title.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST = 800
"""Characters of a passage at most: three of them fit a small model's window beside the question."""
OVERLAP = 120
"""Characters of a passage that the next one of its section repeats, at most."""
LONGEST_TITLE = 200
BETWEEN = " · "

_PARAGRAPH_END = re.compile(r"\n{2,}")
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|\n+")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of text under its headings, the outermost first. Paragraphs are parted by an empty line."""

    path: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """What is searched and cited."""

    title: str
    text: str


def split(sections: Sequence[Section]) -> Iterator[Passage]:
    """The passages of all sections, in order. A heading with nothing under it is a passage by itself."""
    for index, section in enumerate(sections):
        title = title_of(section.path)
        if section.text.strip():
            for text in pieces(section.text.strip()):
                yield Passage(title, text)
        elif not _has_children(sections, index) and title:
            yield Passage(title, title)


def title_of(path: Sequence[str]) -> str:
    """The headings in one line; those in the middle go first when it is too long."""
    names = [_SPACE.sub(" ", name).strip() for name in path if name.strip()]
    while len(names) > 2 and len(BETWEEN.join(names)) > LONGEST_TITLE:
        del names[1]
    title = BETWEEN.join(names)
    return title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1].rstrip() + "…"


def pieces(text: str) -> Iterator[str]:
    """The text in parts of at most LONGEST characters, cut at paragraphs, else sentences, else words."""
    start = 0
    while len(text) - start > LONGEST:
        end = _cut(text, start, start + LONGEST)
        yield text[start:end].strip()
        start = _again(text, start, end)
    if rest := text[start:].strip():
        yield rest


def _cut(text: str, start: int, limit: int) -> int:
    """Where the part that begins at `start` ends: at the last good place in its second half."""
    window = text[start:limit]
    for end in (_PARAGRAPH_END, _SENTENCE_END, _SPACE):
        places = [found.end() for found in end.finditer(window, LONGEST // 2)]
        if places:
            return start + places[-1]
    return limit


def _again(text: str, start: int, end: int) -> int:
    """Where the next part begins: at the last sentence of this one, when it is short and not all of it."""
    first = max(start + 1, end - OVERLAP)
    if _PARAGRAPH_END.search(text, max(start, end - 2), end):
        return end  # a new paragraph stands by itself
    places = [found.end() for found in _SENTENCE_END.finditer(text, first, end) if found.end() < end]
    return places[0] if places else end


def _has_children(sections: Sequence[Section], index: int) -> bool:
    path = sections[index].path
    following = sections[index + 1].path if index + 1 < len(sections) else ()
    return len(following) > len(path) and following[: len(path)] == path
