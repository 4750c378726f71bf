"""Splitting text into passages."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from server.documents import passages
from server.documents.passages import LONGEST, LONGEST_TITLE, OVERLAP, Section, split, title_of

WORDS = st.sampled_from(
    ["a", "giao", "hàng.", "delivery", "takes!", "x" * 30, "y" * 900, "\n\n", "\n", "…", "tiền?", "🎉"]
)
TEXTS = st.one_of(st.text(max_size=3000), st.lists(WORDS, max_size=400).map(" ".join))


def bare(text: str) -> str:
    return "".join(text.split())


@given(TEXTS)
def test_no_character_is_lost_and_no_passage_is_too_long(text: str) -> None:
    whole, covered = bare(text), 0
    for piece in passages.pieces(text.strip()):
        assert 0 < len(piece) <= LONGEST
        part = bare(piece)
        # It begins no later than where the one before ended, and repeats no more than is allowed.
        start = next(at for at in range(covered, max(covered - OVERLAP, 0) - 1, -1) if whole.startswith(part, at))
        covered = start + len(part)
    assert covered == len(whole)


@given(st.lists(st.tuples(st.lists(st.text(max_size=300), max_size=5).map(tuple), TEXTS), max_size=5))
def test_sections_never_share_a_passage_and_titles_are_bounded(sections: list[tuple[tuple[str, ...], str]]) -> None:
    given_ = [Section(path, text) for path, text in sections]
    found = list(split(given_))
    assert all(len(passage.title) <= LONGEST_TITLE and passage.text for passage in found)
    apart = [passage for section in given_ for passage in split([section])]
    assert [one for one in found if one.text != one.title] == [one for one in apart if one.text != one.title]


def test_a_long_section_repeats_its_last_sentence_in_the_next_passage() -> None:
    sentences = [f"Sentence number {number} says something of its own." for number in range(60)]
    found = list(passages.pieces(" ".join(sentences)))
    assert len(found) > 2
    for before, after in pairwise(found):
        first = after.split(". ")[0] + "."
        assert before.endswith(first) or first.removesuffix(".") in before


def test_a_heading_with_nothing_under_it_can_still_be_found() -> None:
    found = list(
        split([Section(("Page",), ""), Section(("Page", "Opening hours"), ""), Section(("Page", "More"), "text")])
    )
    assert [(one.title, one.text) for one in found] == [
        ("Page · Opening hours", "Page · Opening hours"),
        ("Page · More", "text"),
    ]


def test_the_middle_of_a_long_path_goes_first() -> None:
    title = title_of(["Handbook", "x" * 150, "y" * 100, "Refunds"])
    assert title == f"Handbook · {'y' * 100} · Refunds"
