"""What the console's pages are made of: words, Markdown, votes, troubles."""

import importlib
import pkgutil
import re
import string
from html.parser import HTMLParser

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import client, words
from console.ask.votes import DIMENSIONS, Votes
from console.markdown import to_html
from ratchet.v1 import errors_pb2
from ratchet.v1 import feedback_pb2 as pb

TABLES = {
    module.name: importlib.import_module(f"console.words.{module.name}").WORDS
    for module in pkgutil.iter_modules(words.__path__)
}


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("room", TABLES)
def test_each_word_is_there_in_both_languages_with_the_same_places(room: str) -> None:
    for key, (english, vietnamese) in TABLES[room].items():
        assert english.strip(), key
        assert vietnamese.strip(), key
        assert places(english) == places(vietnamese), key


def test_words_are_found_by_table_and_key_and_outside_of_a_page_in_english() -> None:
    assert words.t("ask.n_stars", n=3) == "3 of 5 stars"
    assert words.has("shell.ask")
    assert not words.has("shell.nothing")
    with pytest.raises(KeyError):
        words.t("shell.nothing")


class Tags(HTMLParser):
    """Which tags and attributes a text has."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.links: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(name for name, _ in attrs)}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


TAGS = {"p", "br", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "hr", "a"}
TAGS |= {"h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"href", "title", "rel", "target", "class", "style", "start"}
MARKDOWN = ["](", "[a", "`", "```\n", "![", ")", "\n", "\n\n", "    ", "| a |", "|---|", "*", "_", "# ", "\\", "&lt;"]
HTML = ["<script>", "<img src=x onerror=", "<", ">", '"', "'", "<a href=", " ", "<!--", "-->", "<svg/onload="]
LINKS = ["javascript:", "data:text/html,", "http://e.x/", "&#106;avascript:", "JaVaScRiPt\t:", "vbscript:", "//e.x"]
PIECES = st.sampled_from([*MARKDOWN, *HTML, *LINKS, "à", "\u202e", "\x00"])


@given(st.lists(PIECES, max_size=14).map("".join))
def test_whatever_is_written_becomes_harmless_html(text: str) -> None:
    tags = Tags(to_html(text))
    assert tags.found <= TAGS | ATTRIBUTES, tags.found
    assert all(re.match(r"(https?://|mailto:)", link, re.IGNORECASE) for link in tags.links), tags.links


def test_markdown_is_rendered() -> None:
    html = to_html("**Bold** [a](https://x.example)\n\n| a |\n|---|\n| 1 |\n\n```\nx < 1\n```")
    assert "<strong>Bold</strong>" in html
    assert 'rel="noopener noreferrer nofollow ugc"' in html
    assert "<table>" in html
    assert "x &lt; 1" in html


def test_a_text_beyond_measure_is_cut() -> None:
    assert len(to_html("a" * 5_000_000)) < 300_000


RATING = pb.Feedback(
    kind=pb.FEEDBACK_KIND_RATING,
    rating_overall=4,
    reaction_type=pb.REACTION_TYPE_THUMBS_UP,
    text_feedback="Good.",
    rating_dimensions=pb.RatingDimensions(clarity=5),
)


def test_votes_are_what_the_newest_feedback_of_each_kind_says() -> None:
    report = pb.Feedback(kind=pb.FEEDBACK_KIND_SAFETY_REPORT)
    preference = pb.Feedback(kind=pb.FEEDBACK_KIND_PREFERENCE, preference=pb.Preference(chosen_index=2))
    votes = Votes().after([RATING, report, preference])
    assert (votes.stars, votes.comment, votes.better) == (4, "Good.", 2)
    assert [votes.dimension(name) for name in DIMENSIONS] == [0, 0, 5, 0]
    gone = pb.Feedback()
    gone.CopyFrom(RATING)
    gone.withdrawn = True
    assert votes.after([gone]).rating is None
    assert votes.after([gone]).report == report


@pytest.mark.parametrize("reason", [*errors_pb2.ErrorReason.keys(), "NEW_REASON"])
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED])
def test_whatever_goes_wrong_there_is_a_sentence_for_it(reason: str, code: grpc.StatusCode) -> None:
    trouble = client.Trouble(reason.removeprefix("ERROR_REASON_"), code, "the details", retry_after=None)
    assert trouble.sentence
    assert "{" not in trouble.sentence
