"""Whether a text holds together and speaks the reader's language."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.quality.coherence import flaws
from server.quality.language import detect

ENGLISH = "How long does delivery take?"
VIETNAMESE = "Giao hàng mất bao lâu vậy shop?"


def worst(text: str, query: str = ENGLISH) -> float:
    return min((flaw.value for flaw in flaws(text, query)), default=1.0)


@pytest.mark.parametrize(
    "text",
    [
        "You can return it within 30 days. You can return it within 30 days.",
        "It is free with our label.\nit is free, with OUR label!",
        "go to the page and go to the page and go to the page and go to the page and",
        "the the the the the the the the the the the",
        "No" + "o" * 40,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "B\ufffdn c\ufffd th\ufffd xem.",
        "ChÃ¡o bÃ¡n, cÃ¡m Æ¡n.",
        "It takes 2 days.<|end|>",
        "[INST] How long? [/INST] It takes two days.",
    ],
)
def test_repetitive_and_broken_texts_fail(text: str) -> None:
    assert worst(text) < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "It takes 2 to 4 days. You see it under My orders.",
        "Yes. Yes. No.",
        "| a | b |\n|---|---|\n| 1 | 1 |\n| 1 | 1 |",
        "```\nx = 1\nfor each of these we go on\nfor each of these we go on\n```\nThat is the loop that you wanted.",
        "----------------------------------------\nIt takes two days.",
        "0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
        "Wait… wait… wait…",
        "Olá «amigá», it takes two days.",
        "Sản phẩm từ từ sẽ có, bạn xem dần dần.",
        "- item one\n- item two",
        "🎉",
    ],
)
def test_sound_texts_pass(text: str) -> None:
    assert worst(text, query="") >= 0.5


@pytest.mark.parametrize(
    "text",
    [
        "Thanks for asking cả ra nếu dong per order.",
        "Tất nhiênJoining is free for everybody.",
        "Bạn có thể return the items and we pay nếu hàng lỗi.",
        "It takes two days. You will not được trả hàng if they are used.",
    ],
)
def test_two_languages_in_one_sentence_hold_nothing_together(text: str) -> None:
    assert worst(text) < 0.5
    assert worst(unicodedata.normalize("NFD", text), VIETNAMESE) < 0.5
    assert worst(text, "How do I say this in Vietnamese?") >= 0.5


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (ENGLISH, "See our stores in Hà Nội, Đà Nẵng and Huế, you will like them."),
        (ENGLISH, "Our phở and bánh mì are what you have with the soup."),
        (ENGLISH, "Tap “Đơn hàng của tôi” and then you see it. The menu (Trả hàng và đổi hàng) is below."),
        (ENGLISH, "Nguyễn Thị Ánh will call you. Bánh Mì Của Tôi is the name of our store."),
        (VIETNAMESE, "Bạn chọn size, xem online trong app của shop rồi check out nhé."),
        (VIETNAMESE, "Shop freeship đơn từ 800k, flash sale and more, bạn xem voucher nhé."),
        (VIETNAMESE, "Bạn mở “Where is my order and what can you do” rồi bấm gửi nhé."),
        (VIETNAMESE, "Áo The North Face của bạn là hàng Made in Vietnam, Win For Life là tên thẻ."),
        (VIETNAMESE, "Bạn mở My orders, bấm Print the label rồi gửi hàng nhé."),
        (VIETNAMESE, "Dùng iPhone, YouTube, MoMo hay VietinBank đều được nhé."),
        (VIETNAMESE, "Vâng bạn. This is in English because you asked for it, so we say it."),
    ],
)
def test_names_quotes_and_borrowed_words_mix_nothing(query: str, text: str) -> None:
    assert "It mixes two languages in one sentence." not in [flaw.detail for flaw in flaws(text, query)]


def test_one_repeated_sentence_of_many_passes_and_counts() -> None:
    sentences = [f"Sentence number {i} tells of thing {i}." for i in range(12)]
    assert worst(" ".join([*sentences, sentences[0]])) == 0.8


def test_a_text_without_a_closing_mark_is_worth_less_but_passes() -> None:
    assert worst("It takes two days and then we will send") == 0.8


@pytest.mark.parametrize(
    ("query", "text", "same"),
    [
        (ENGLISH, "It takes two days and you can see it there.", True),
        (ENGLISH, "Giao hàng mất hai ngày, bạn nhé.", False),
        (VIETNAMESE, "Giao hàng mất hai ngày, bạn nhé.", True),
        (VIETNAMESE, "It takes two days and you can see it there.", False),
        ("giao hang mat bao lau vay shop, minh cam on", "Giao hàng mất hai ngày, bạn nhé.", True),
        (VIETNAMESE, "Giao hang mat hai ngay, ban xem trong don hang cua minh nhe.", True),
        ("TT-12345?", "Giao hàng mất hai ngày, bạn nhé.", True),
        ("How do you say this in Vietnamese?", "Giao hàng mất hai ngày, bạn nhé.", True),
        ("Dịch sang tiếng Anh giúp mình: giao hàng mất bao lâu", "How long does it take for you to deliver?", True),
        (ENGLISH, "Доставка занимает два дня.", False),
        ("Сколько длится доставка?", "It takes two days and you can see it there.", False),
        (ENGLISH, "See Hà Nội, Đà Nẵng and Huế on the map of our stores.", True),
        (ENGLISH, "Combien de temps?", True),
    ],
)
def test_the_answer_speaks_the_language_of_the_query_where_both_are_certain(query: str, text: str, same: bool) -> None:
    assert (worst(text, query) >= 0.5) is same
    assert (worst(unicodedata.normalize("NFD", text), unicodedata.normalize("NFD", query)) >= 0.5) is same


def test_a_users_own_language_is_right_as_well() -> None:
    answer = "Giao hàng mất hai ngày, bạn nhé."
    assert not list(flaws(answer, ENGLISH, frozenset({"vi"})))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("bao lau thi minh nhan duoc vay", "vi"),
        ("the ban on cars", "en"),
        ("", ""),
        ("12345", ""),
        ("你好，请问多久能到？", "han"),
        ("こんにちは、配送はいつですか", "kana"),
        ("สวัสดีครับ", "thai"),
        ("배송은 얼마나 걸리나요", "hangul"),
    ],
)
def test_languages_are_told_apart(text: str, language: str) -> None:
    assert detect(text) == language


@given(st.text(max_size=200), st.text(max_size=100))
def test_any_text_is_judged_without_failing(text: str, query: str) -> None:
    assert all(0 <= flaw.value <= 1 and flaw.detail for flaw in flaws(text, query))


@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=5), st.integers(12, 30))
def test_any_short_phrase_said_again_and_again_fails(phrase: list[str], times: int) -> None:
    assert worst(" ".join(phrase * times) + ".") < 0.5


@pytest.mark.parametrize(
    "unit", ["a", "a ", "aaab", "```", "word word\n", ".", "- x\n", "é", "Ã¡", "\ufffd", " ", ".'", "\n"]
)
def test_hostile_texts_of_64_kib_come_to_an_end(unit: str) -> None:
    list(flaws(unit * (65_536 // len(unit)), ENGLISH))
