"""From a document's bytes to its title and sections. Slow or endless on hostile input: runs in the reading process."""

import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from server.documents import formats
from server.documents.formats import Format
from server.documents.passages import Section
from server.errors import DocumentUnreadable

if TYPE_CHECKING:
    from pypdf import PdfReader

MOST_PAGES = 2_000
MOST_CHARACTERS = 4_000_000

_BLANK = re.compile(r"[ \t\u00a0]+")
_BREAKS = re.compile(r"\n{3,}")
_LINE_ENDS = dict.fromkeys(map(ord, "\r\v\f\x85\u2028\u2029"), "\n")
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs"})
"""Controls, formats (bidi overrides, zero width, tags), private and surrogate characters."""
_JOINER = re.compile(
    "(?<=[\u0600-\u0dff\u0f00-\u109f\u1780-\u18af\u2190-\u2bff\ufb50-\ufdff\ufe0f\ufe70-\ufefc\U0001f000-\U0001faff])"
    "[\u200c\u200d]"
)
"""What joins or parts the letters of Arabic, Indic and some other scripts, and makes one emoji of several."""
_HYPHENATED = re.compile(r"(?<=[a-zà-ỹ])-\n(?=[a-zà-ỹ])")
_TITLE = re.compile(r"<title\b[^>]{0,200}>", re.IGNORECASE)
_TITLE_END = re.compile(r"</title", re.IGNORECASE)
_LONGEST_HEADING = 1_000
"""Characters of a title or heading that are looked at; fewer are kept."""


@dataclass(frozen=True, slots=True)
class Extract:
    """What was read. Every section's path begins with the title, unless there is a heading of the highest level."""

    kind: Format
    title: str
    sections: tuple[Section, ...]


def extract(content: bytes, name: str, said: Format | None, title: str) -> Extract:
    """Title and sections. `title`, when given, is the document's; else its first heading of level 1, else its name.

    Raises DocumentUnreadable, one sentence that says what to do.
    """
    kind = formats.detect(content, name, said)
    own, found = _READERS[kind](content)
    own = tidy(own)
    sections = [Section(tuple(map(tidy, section.path)), tidy(section.text)) for section in found]
    if not any(section.text or section.path for section in sections):
        raise DocumentUnreadable(_NOTHING[kind])
    if sum(len(section.text) for section in sections) > MOST_CHARACTERS:
        raise DocumentUnreadable(f"The document has more than {MOST_CHARACTERS:,} characters of text: split it.")
    top = tidy(title) or own or tidy(name_of(name))
    return Extract(kind, top, tuple(_under(section, top, own) for section in sections))


def name_of(name: str) -> str:
    """The file's name without its ending, in words."""
    stem = PurePosixPath(formats.path_of(name).rstrip("/")).stem or name
    return re.sub(r"[_-]+", " ", stem).strip() or name


def tidy(text: str) -> str:
    """Composed (NFC), without what can't be seen, and with single spaces; line ends stay, whatever their kind."""
    lines = text.replace("\r\n", "\n").translate(_LINE_ENDS).split("\n")
    tidied = "\n".join(_BLANK.sub(" ", _seen(line)).strip() for line in lines)
    return unicodedata.normalize("NFC", _BREAKS.sub("\n\n", tidied).strip())


def _seen(line: str) -> str:
    """The line without controls, bidi overrides, private characters and the like."""
    if line.isprintable():
        return line
    joiners = {found.start() for found in _JOINER.finditer(line)}
    return "".join(
        c for place, c in enumerate(line) if c == "\t" or place in joiners or unicodedata.category(c) not in _UNSEEN
    )


def _under(section: Section, top: str, own: str) -> Section:
    path = section.path
    if path and path[0] == own:  # the document's own title gives way to the one that the caller chose
        path = path[1:]
    return Section((top, *path), section.text)


def _text(content: bytes) -> tuple[str, list[Section]]:
    return "", [Section((), formats.characters(content, Format.TEXT))]


def _markdown(content: bytes) -> tuple[str, list[Section]]:
    return markdown_sections(formats.characters(content, Format.MARKDOWN))


def _html(content: bytes) -> tuple[str, list[Section]]:
    import trafilatura

    page = formats.characters(content, Format.HTML)
    found = trafilatura.extract(page, output_format="markdown", include_comments=False, favor_recall=True)
    title, sections = markdown_sections(found or trafilatura.html2txt(page) or "")
    return title or _head_title(page), sections


def _head_title(page: str) -> str:
    """What stands in the page's title element, "" without a whole one."""
    import html

    begin = _TITLE.search(page)
    end = begin and _TITLE_END.search(page, begin.end())
    if not begin or not end:
        return ""
    markup = page[begin.end() : min(end.start(), begin.end() + _LONGEST_HEADING)]
    return " ".join(html.unescape(re.sub(r"<[^<>]*>", " ", markup)).split())


def _pdf(content: bytes) -> tuple[str, list[Section]]:
    """One section a page."""
    import pypdf
    from pypdf.errors import LimitReachedError, PyPdfError

    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentUnreadable("The PDF is encrypted: save it without a password.")
        if len(reader.pages) > MOST_PAGES:
            raise DocumentUnreadable(f"The PDF has more than {MOST_PAGES:,} pages: split it.")
        pages = list(_pdf_pages(reader))
        title = str((reader.metadata.title if reader.metadata else None) or "").strip()
    except LimitReachedError as error:
        raise DocumentUnreadable(
            "The PDF unpacks to far more than a document needs, or refers to itself: save it anew, or as text."
        ) from error
    except (PyPdfError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OSError) as error:
        # pypdf raises any of these for PDFs that are damaged or made to be.
        raise DocumentUnreadable(f"The PDF is damaged ({type(error).__name__}): save it again.") from error
    return title, [Section((f"p. {number}",), text) for number, text in enumerate(pages, 1) if text.strip()]


def _pdf_pages(reader: "PdfReader") -> Iterator[str]:
    size = 0
    for page in reader.pages:
        text = _HYPHENATED.sub("", page.extract_text())
        size += len(text)
        if size > MOST_CHARACTERS:
            raise DocumentUnreadable(f"The PDF has more than {MOST_CHARACTERS:,} characters of text: split it.")
        yield text


def markdown_sections(source: str) -> tuple[str, list[Section]]:
    """The title (the only heading of level 1, or the first) and the sections: text as it is written, headings as paths.

    Headings are found by a CommonMark parser, so that neither code nor a quotation makes one.
    """
    from markdown_it import MarkdownIt

    source = _without_front_matter(source)
    lines = source.split("\n")
    tokens = MarkdownIt("commonmark", {"maxNesting": 20}).enable("table").parse(source)
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    since, title = 0, ""
    for index, token in enumerate(tokens):
        if token.type != "heading_open" or token.level or token.map is None:
            continue
        sections.append(Section(tuple(name for _, name in path), "\n".join(lines[since : token.map[0]])))
        level, name = int(token.tag[1:]), _spoken(tokens[index + 1].content)
        path = [*(one for one in path if one[0] < level), (level, name)]
        title = title or (name if level == 1 else "")
        since = token.map[1]
    sections.append(Section(tuple(name for _, name in path), "\n".join(lines[since:])))
    return title, [section for section in sections if section.path or section.text.strip()]


def _without_front_matter(source: str) -> str:
    """Without the YAML block that site generators put first."""
    if source.startswith("---\n"):
        end = source.find("\n---\n", 3)
        if end >= 0:
            return source[end + 5 :]
    return source


def _spoken(heading: str) -> str:
    """A heading without the marks of emphasis, code and links."""
    short = heading[:_LONGEST_HEADING]
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", short).replace("**", "").replace("`", "").strip()


_READERS = {Format.TEXT: _text, Format.MARKDOWN: _markdown, Format.HTML: _html, Format.PDF: _pdf}
_NOTHING = {
    Format.TEXT: "The document is empty.",
    Format.MARKDOWN: "The document is empty.",
    Format.HTML: "The page has no text of its own: perhaps a script makes it.",
    Format.PDF: "The PDF has no text: scanned pages need text recognition (OCR) first.",
}
