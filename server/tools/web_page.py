"""What a page says about a query: unpacked, decoded, its main text, the best passages of it. Pure.

What comes from the web is hostile until shown otherwise: this runs in a process of its own (`web_reader`).
"""

import io
import re
import unicodedata
import zlib
from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from server.tools.words import words

HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
PLAIN: Final = frozenset({"text/plain", "text/markdown"})
PDF: Final = "application/pdf"
TYPES: Final = HTML | PLAIN | {PDF}
PDF_PAGES: Final = 20
LONGEST_TITLE: Final = 200
_BLOCK: Final = 400
"""Characters of a passage at most, where its sentences allow it."""
_SENTENCE: Final = re.compile(r"(?<=[.!?…])\s+")
_META_CHARSET: Final = re.compile(rb"""charset\s*=\s*["']?([\w-]{1,32})""", re.IGNORECASE)
_CHARSETS: Final = re.compile(
    r"us-ascii|utf-?(8|16|16le|16be|32)|iso-?8859-\d{1,2}|latin-?1|(windows-|cp)\d{3,4}|koi8-[ru]|shift[_-]jis|euc-\w{2}"
    r"|big5|gb(k|2312|18030)",
    re.IGNORECASE,
)
"""What texts come in. Python's other codecs are none of a page's business."""
_UNSEEN: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Cn"})
"""Controls, formats (bidi overrides, zero width), private, surrogate and unassigned characters."""


class Unreadable(Exception):
    """No text can be had from the page; the text says why."""


@dataclass(frozen=True, slots=True)
class Page:
    """What came from `url`, the last of the redirects. `body` is cut to a bound and still in `encoding`."""

    url: str
    content_type: str
    charset: str
    encoding: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """The page's title, its best passages on one line, and the share of the query's words in them, 0 to 1."""

    title: str
    text: str
    score: float


def read(page: Page, query: str, most: int, characters: int) -> Reading:
    """The passages of `page` that fit `query` best, `characters` of them about; of its body at most `most` bytes count
    once it is unpacked. Raises Unreadable."""
    body = unpack(page.body, page.encoding, most)
    if page.content_type == PDF:
        title, text = _pdf(body)
    elif page.content_type in PLAIN:
        title, text = "", decode(body, page.charset)
    else:
        title, text = _html(decode(body, page.charset))
    passages, score = best(text, query, characters)
    return Reading(clean(title)[:LONGEST_TITLE], passages, score)


def unpack(body: bytes, encoding: str, most: int) -> bytes:
    """`body` without its Content-Encoding, cut to `most` bytes, however much it would become. Raises Unreadable."""
    if encoding in ("", "identity"):
        return body[:most]
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Unreadable(f"it is packed with {encoding[:40]!r}")
    for window in (32 + zlib.MAX_WBITS, -zlib.MAX_WBITS):  # gzip or zlib; some send deflate without its header
        try:
            return zlib.decompressobj(window).decompress(body, most)
        except zlib.error:
            continue
    raise Unreadable("it is packed wrongly")


def decode(body: bytes, charset: str) -> str:
    """The text of `body`: UTF-8 where it is valid, else as the server or the page says, else Western."""
    named = _META_CHARSET.search(body[:2048])
    for name in ("utf-8-sig", charset, named[1].decode("ascii", "replace") if named else ""):
        if name == "utf-8-sig" or _CHARSETS.fullmatch(name):
            try:
                return getincrementaldecoder(name)().decode(body)  # a character cut at the end is no error
            except (UnicodeError, LookupError):
                continue
    return body.decode("cp1252", "replace")


def clean(text: str) -> str:
    """`text` on one line, composed, without what can't be seen."""
    plain = "".join(c if c.isspace() or unicodedata.category(c) not in _UNSEEN else "" for c in text)
    return unicodedata.normalize("NFC", " ".join(plain.split()))


def best(text: str, query: str, characters: int) -> tuple[str, float]:
    """The passages with most of the query's words, in their order, `characters` about; and the share of those words.

    A word counts the more, the fewer passages have it. The beginning, and 0, when none of them is there.
    """
    blocks = list(_blocks(text))
    found = [words(block) for block in blocks]
    weights = {word: 1 / max(1, sum(word in each for each in found)) for word in words(query)}
    worth = [sum(weights[word] for word in each & weights.keys()) for each in found]
    chosen = _fitting(blocks, worth, characters)
    seen = frozenset[str]().union(*(found[index] for index in chosen)) & weights.keys()
    share = sum(weights[word] for word in seen) / sum(weights.values()) if weights else 0.0
    return " ".join(blocks[index] for index in chosen)[:characters], share


def _fitting(blocks: list[str], worth: list[float], characters: int) -> list[int]:
    """Indices of the blocks of most worth that fit, at least one, in their order; worthless ones only when all are."""
    chosen, length = list[int](), 0
    for index in sorted(range(len(blocks)), key=lambda index: (-worth[index], index)):
        if chosen and (length + len(blocks[index]) > characters or worth[index] == 0 < max(worth)):
            break
        chosen.append(index)
        length += len(blocks[index]) + 1
    return sorted(chosen)


def _blocks(text: str) -> Iterator[str]:
    """Sentences of one paragraph, put together up to _BLOCK characters; a longer one is cut."""
    for paragraph in text.splitlines():
        block = ""
        for sentence in _SENTENCE.split(clean(paragraph)):
            if block and len(block) + len(sentence) >= _BLOCK:
                yield block
                block = ""
            block = f"{block} {sentence}".strip()[:_BLOCK]
        if block:
            yield block


def _html(source: str) -> tuple[str, str]:
    import trafilatura

    tree = trafilatura.load_html(source)
    if tree is None:
        raise Unreadable("it is no HTML")
    title = tree.findtext(".//title") or ""
    document = trafilatura.bare_extraction(tree, fast=True, include_comments=False)
    text = getattr(document, "text", None) or trafilatura.html2txt(source)
    return title, str(text or "")


def _pdf(body: bytes) -> tuple[str, str]:
    import pypdf

    try:
        reader = pypdf.PdfReader(io.BytesIO(body))
        title = str((reader.metadata and reader.metadata.title) or "")
        return title, "\n".join(page.extract_text() for page in reader.pages[:PDF_PAGES])
    except Exception as error:  # pypdf raises many kinds on what is no PDF, or was cut
        raise Unreadable("it is no PDF that can be read") from error
