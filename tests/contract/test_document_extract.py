"""Reading what people have: Markdown, HTML, text and PDF, and what only looks like them."""

import io
import unicodedata

import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.documents.extract import _head_title, _spoken, extract, tidy
from server.documents.formats import Format, detect
from server.documents.passages import split
from server.errors import DocumentUnreadable
from tests.pdfs import bomb, pdf


def passages_of(
    content: bytes, name: str = "page.md", said: Format | None = None, title: str = ""
) -> list[tuple[str, str]]:
    return [(one.title, one.text) for one in split(extract(content, name, said, title).sections)]


def unreadable(content: bytes, name: str = "file", said: Format | None = None) -> str:
    with pytest.raises(DocumentUnreadable) as caught:
        extract(content, name, said, "")
    return str(caught.value)


def test_each_question_of_a_help_page_is_a_passage_under_its_headings() -> None:
    page = b"# Shipping\n\n## How long?\n\n2 to 4 days.\n\n## How much?\n\n30,000 dong.\n"
    assert passages_of(page) == [("Shipping · How long?", "2 to 4 days."), ("Shipping · How much?", "30,000 dong.")]


def test_what_looks_like_a_heading_in_code_is_none() -> None:
    page = b"# Page\n\n```\n# not a heading\n```\n\nSetext\n------\n\n> # quoted\n\nafter"
    assert passages_of(page) == [
        ("Page", "```\n# not a heading\n```"),
        ("Page · Setext", "> # quoted\n\nafter"),
    ]


def test_headings_lose_their_marks_and_front_matter_goes() -> None:
    page = b"---\ntitle: x\n---\n# The **big** [page](http://x) `code`\n\ntext"
    assert passages_of(page) == [("The big page code", "text")]


def test_the_callers_title_takes_the_place_of_the_documents_own() -> None:
    page = b"# Shipping\n\n## How long?\n\n2 to 4 days."
    assert passages_of(page, title="Help") == [("Help · How long?", "2 to 4 days.")]


def test_text_without_headings_is_titled_by_its_name() -> None:
    assert passages_of(b"Open from 9 to 18.", "https://x.example/a/opening_hours.txt?v=1") == [
        ("opening hours", "Open from 9 to 18.")
    ]


def test_text_is_composed_whatever_way_it_came() -> None:
    decomposed = unicodedata.normalize("NFD", "Giao hàng tiêu chuẩn mất 2 ngày.")
    assert passages_of(decomposed.encode(), "a.txt")[0][1] == "Giao hàng tiêu chuẩn mất 2 ngày."
    assert passages_of("Đổi trả\r\nmiễn phí".encode("utf-16"), "a.txt")[0][1] == "Đổi trả\nmiễn phí"


@pytest.mark.parametrize(
    "unseen", ["\x1b", "\x9b", "\x00", "\u202e", "\u2066", "\u200b", "\ufeff", "\U000e0041", "\ue000"]
)
def test_what_can_not_be_seen_never_leaves_a_document(unseen: str) -> None:
    """Terminal controls, bidi overrides, zero width, tags and private characters, in text, heading and given title."""
    page = f"# Sh{unseen}ip\n\nPay {unseen}[31m5{unseen} now".replace("\x00", "")
    assert passages_of(page.encode(), title=f"He{unseen}lp") == [("Help", "Pay [31m5 now")]
    assert passages_of(page.encode()) == [("Ship", "Pay [31m5 now")]
    assert tidy(unseen * 3) == ""


@pytest.mark.parametrize("text", ["क्‍ष", "می‌خواهم", "👩‍👩‍👧", "ශ්‍රී", "Tiếng Việt"])
def test_joiners_stay_where_a_script_needs_them_and_only_there(text: str) -> None:
    assert tidy(text) == text
    assert tidy("f\u200dr\u200ce\u200de") == "free"


def test_text_is_composed_also_where_something_unseen_parted_it() -> None:
    assert tidy("e\u200b\u0301") == "é"


def test_every_kind_of_line_end_is_one() -> None:
    assert tidy("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h") == "\n".join("abcdefgh")


@given(st.text(st.characters()))
def test_tidy_text_stays_as_it_is(text: str) -> None:
    once = tidy(text)
    assert tidy(once) == once


def test_a_web_page_gives_its_article_and_not_its_furniture() -> None:
    page = (
        "<!doctype html><html><head><title>Returns &amp; refunds</title></head>"
        "<body><nav><a href=/>Home</a> <a href=/c>Cart</a></nav>"
        "<main><h1>Returns</h1><p>You can return unused items within 30 days of delivery, free of charge.</p>"
        "<h2>How long do refunds take?</h2><p>Refunds take 5 working days after the parcel has arrived.</p>"
        "<script>steal()</script></main><footer>Imprint</footer></body></html>"
    )
    found = passages_of(page.encode(), "https://x.example/returns")
    assert found == [
        ("Returns", "You can return unused items within 30 days of delivery, free of charge."),
        ("Returns · How long do refunds take?", "Refunds take 5 working days after the parcel has arrived."),
    ]


def test_a_web_page_is_read_in_the_charset_that_it_names() -> None:
    page = '<html><head><meta charset="windows-1258"><title>Cửa</title></head><body><p>Cửa hàng ở Huế</p></body></html>'
    encoded = (
        unicodedata.normalize("NFC", page)
        .replace("ử", "ư\u0309")
        .replace("ế", "ê\u0301")
        .replace("ở", "ơ\u0309")
        .encode("cp1258")
    )
    assert passages_of(encoded, "x.html") == [("Cửa", "Cửa hàng ở Huế")]


def test_a_pdf_gives_its_pages() -> None:
    content = pdf(["Returns are free within 30 days.", "", "Refunds take 5 days."], title="Policy")
    assert passages_of(content, "policy.bin") == [
        ("Policy · p. 1", "Returns are free within 30 days."),
        ("Policy · p. 3", "Refunds take 5 days."),
    ]


def test_an_encrypted_pdf_says_what_to_do() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(["secret"])))
    writer.encrypt("password", algorithm="RC4-128")
    locked = io.BytesIO()
    writer.write(locked)
    assert "without a password" in unreadable(locked.getvalue(), "a.pdf")


def test_a_pdf_that_unpacks_to_too_much_is_not_called_damaged() -> None:
    said = unreadable(bomb(80_000_000), "a.pdf")
    assert "unpacks to far more" in said
    assert "Error" not in said


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "a.txt", "empty"),
        (b" \n\t", "a.md", "empty"),
        (b"\xef\xbb\xbf", "a.txt", "empty"),
        (b"%PDF-1.7\ngarbage", "a.pdf", "damaged"),
        (pdf(["text"])[:300], "a.pdf", "damaged"),
        (pdf([""]), "a.pdf", "OCR"),
        (b"plain", "a.pdf", "named as a PDF"),
        (b"PK\x03\x04rest", "a.docx", "Zip"),
        (b"\x89PNG\r\n", "a.md", "PNG"),
        (b"text \0 text", "a.txt", "binary"),
        (b"\xff\xfe\xfa\xfb\x00", "a.txt", "utf-16"),
        ("Tiếng Việt".encode("utf-16-le"), "a.txt", "UTF-8"),
        ("naïve".encode("latin-1"), "a.txt", "UTF-8"),
        (b"<html><body><script>x()</script></body></html>", "a.html", "no text"),
    ],
)
def test_what_can_not_be_read_is_refused_with_a_reason(content: bytes, name: str, words: str) -> None:
    assert words in unreadable(content, name)


def test_the_content_tells_more_than_the_name() -> None:
    assert detect(pdf(["x"]), "a.txt") is Format.PDF
    assert detect(b"  <!DOCTYPE html><p>x", "a.md") is Format.HTML
    assert detect(b"# x", "a.md", Format.TEXT) is Format.TEXT
    assert detect(b"# x", "https://x.example/a%20b.MD?raw=1#top") is Format.MARKDOWN


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xef\xbb\xbf \n<?xml version='1.0'?>\n<!-- a -->\n<!---->\n<HTML>", Format.HTML),
        (b"<!-- licence --><!doctype  html>", Format.HTML),
        (b"<!-- never closed <html>", Format.TEXT),
        (b"<!---->" * 60 + b"Hello", Format.TEXT),
        (b"<!--" * 1000 + b"-->" * 30 + b"Hello", Format.TEXT),
        (b"<?xml ?>" * 400 + b" " * 800 + b"Hello", Format.TEXT),
    ],
)
def test_html_is_told_by_its_beginning_in_steady_time(head: bytes, kind: Format) -> None:
    """Comments without end or number don't keep the reading process busy: this would not end."""
    assert detect(head, "a.txt") is kind


@pytest.mark.parametrize(
    "hostile",
    ["<title" * 300_000, "<title>" * 300_000, "<html><title>" + "<" * 1_000_000 + "</title>"],
)
def test_a_title_without_end_is_looked_for_once(hostile: str) -> None:
    """Each would take minutes if every beginning were followed to the end."""
    assert len(_head_title(hostile)) <= 1_000


@pytest.mark.parametrize("hostile", ["[" * 300_000, "[](" * 300_000])
def test_a_heading_of_brackets_is_no_work(hostile: str) -> None:
    assert len(_spoken(hostile)) <= 1_000


@given(st.binary(max_size=400), st.sampled_from(["a.txt", "a.md", "a.pdf", "http://[", "", "a/"]))
def test_any_bytes_give_passages_or_a_reason(content: bytes, name: str) -> None:
    try:
        found = passages_of(content, name)
    except DocumentUnreadable:
        pass
    else:
        assert found
        assert all(text and "\0" not in text for _, text in found)
