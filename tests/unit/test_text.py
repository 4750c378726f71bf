"""Letters without their marks."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text import folded, unmarked


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Đơn hàng", "don hang"),
        ("ĐỔI TRẢ", "doi tra"),
        ("Straße", "strasse"),
        ("ﬁve", "five"),
        ("１２", "12"),
        ("", ""),
    ],
)
def test_folded_text_has_no_case_and_no_marks(text: str, plain: str) -> None:
    assert folded(text) == folded(unicodedata.normalize("NFD", text)) == plain


@pytest.mark.parametrize(
    ("word", "plain"), [("được", "duoc"), ("bảo", "bao"), ("đ", "d"), ("\u0301", "\u0301"), ("", "")]
)
def test_an_unmarked_word_is_never_lost(word: str, plain: str) -> None:
    assert unmarked(word) == plain


@given(st.text(max_size=50))
def test_what_has_no_marks_any_more_stays(text: str) -> None:
    assert unmarked(unmarked(text)) == unmarked(text)
