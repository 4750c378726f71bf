"""What a document is, told by its bytes and its name, and its characters. Reads nothing of its structure."""

import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from server.errors import DocumentUnreadable


class Format(StrEnum):
    """The media types that can be read."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"


ENDINGS: Final = {
    ".md": Format.MARKDOWN,
    ".markdown": Format.MARKDOWN,
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".xhtml": Format.HTML,
    ".pdf": Format.PDF,
    ".txt": Format.TEXT,
    ".text": Format.TEXT,
}
"""File name endings, in lower case, and what they mean."""

_FOREIGN: Final = {
    b"PK\x03\x04": "a Zip archive, as Word, Excel, OpenDocument and EPUB files are",
    b"\xd0\xcf\x11\xe0": "an old Microsoft Office file",
    b"{\\rtf": "Rich Text",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x1f\x8b": "compressed by gzip",
    b"\x7fELF": "a program",
    b"%!PS": "PostScript",
}
_MARKUP = re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_BEFORE_MARKUP = re.compile(rb"\s+|<\?xml[^>]*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([\w.:-]{1,40})", re.IGNORECASE)
_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_HEAD: Final = 1024
"""Bytes in which a PDF's signature, or a page's charset, is looked for (ISO 32000-1, Annex H; the HTML standard)."""


def detect(content: bytes, name: str, said: Format | None = None) -> Format:
    """What the content is. What it shows itself to be counts most, then what the caller `said`, then the name's ending.

    Raises DocumentUnreadable when it is empty or something that is not read here.
    """
    if not content.strip():
        raise DocumentUnreadable("The document is empty.")
    if b"%PDF-" in content[:_HEAD]:
        return Format.PDF
    for signature, what in _FOREIGN.items():
        if content.startswith(signature):
            raise DocumentUnreadable(f"The document is {what}: only text, Markdown, HTML and PDF can be read.")
    if said is Format.PDF:
        raise DocumentUnreadable("The document is no PDF: it does not begin as one.")
    if _is_markup(content[: 4 * _HEAD].removeprefix(b"\xef\xbb\xbf")):
        return Format.HTML
    told = said or ENDINGS.get(PurePosixPath(path_of(name)).suffix.lower(), Format.TEXT)
    if told is Format.PDF:
        raise DocumentUnreadable("The document is named as a PDF, but it does not begin as one.")
    return told


def characters(content: bytes, kind: Format) -> str:
    """The text of what is not PDF: by its byte order mark, by an HTML page's charset, else UTF-8.

    Raises DocumentUnreadable when it is binary or in another encoding.
    """
    text = _decode(content, kind)
    if "\0" in text:
        raise DocumentUnreadable("The document is binary: only text, Markdown, HTML and PDF can be read.")
    if not text.strip():
        raise DocumentUnreadable("The document is empty.")
    return text


def path_of(name: str) -> str:
    """The path of a URI, or the name as it is."""
    try:
        parts = urlsplit(name)
    except ValueError:
        return name
    return unquote(parts.path) if parts.scheme and parts.path else name


def _is_markup(head: bytes) -> bool:
    """Whether HTML begins here, after spaces, comments and an XML declaration; each of them is looked at once."""
    place = 0
    while before := _BEFORE_MARKUP.match(head, place):
        place = before.end()
    return _MARKUP.match(head, place) is not None


def _decode(content: bytes, kind: Format) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _strictly(content.removeprefix(mark), encoding)
    declared = _CHARSET.search(content[:_HEAD]) if kind is Format.HTML else None
    try:
        return _strictly(content, declared.group(1).decode("ascii") if declared else "utf-8")
    except LookupError:  # a charset that there is not
        return _strictly(content, "utf-8")


def _strictly(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DocumentUnreadable(
            f"The document can't be read as {encoding} from its byte {error.start} on: save it as UTF-8."
        ) from error
