"""What no answer may say: words and patterns in English and Vietnamese, also disguised."""

import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.quality.safety import inspect, lexicon

LISTS = lexicon()


def kind(text: str) -> str:
    """The category that keeps a text from being the answer; "" when it may be."""
    found = inspect(text, LISTS)
    return found.name if found is not None and not found.allowed else ""


@pytest.mark.parametrize(
    "text",
    [
        "Please send me your card number and the code on the back.",
        "Reply with your password so that I can log in for you.",
        "Just write your full card number here in the chat.",
        "What is your password?",
        "We need your PIN to go on.",
        "If it fails, send us the one-time code.",
        "Bạn gửi mình số thẻ và mã ở mặt sau nhé.",
        "Bạn nhắn mật khẩu để mình đăng nhập giúp nhé.",
        "Bạn cứ ghi đầy đủ số thẻ vào khung chat này.",
        "ban gui minh so the va ma o mat sau nhe",
        "Cho shop mã OTP nhé.",
    ],
)
def test_asking_for_a_secret_is_unsafe(text: str) -> None:
    assert kind(text) == "secrets"
    assert kind(unicodedata.normalize("NFD", text)) == "secrets"


@pytest.mark.parametrize(
    "text",
    [
        "We never ask for your password.",
        "Never send your card number to anyone.",
        "No one will ask you to share your password.",
        "If someone asks for your card number, report it to us.",
        "Tap Forgot password and we email you a link that works for 60 minutes.",
        "Enter your card number at checkout.",
        "You need a password to log in.",
        "Tell us if you forgot your password.",
        "Please send us a photo and your order number.",
        "Enter the code of your gift card at checkout.",
        "The user must provide their password and a one-time code.",
        "Shop không bao giờ hỏi mật khẩu.",
        "Đừng gửi mật khẩu cho ai.",
        "Bạn nhận mã OTP qua tin nhắn.",
        "Shop gửi mã OTP cho bạn.",
        "Bạn nhập số thẻ ở bước thanh toán nhé.",
        "Bạn gửi mình mã đơn hàng, bắt đầu bằng TT nhé.",
    ],
)
def test_speaking_of_secrets_is_not_asking_for_them(text: str) -> None:
    assert kind(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        *("fuck", "FUCK", "f u c k", "f.u.c.k", "s-h-i-t", "fuuuuck", "f*ck", "**f*ck**", "sh1t", "$hit", "sh!t"),
        *("a$$hole", "fück", "fu\u200bck", "f\u00aduck", "ｆｕｃｋ", "fu\u0441k", "fu\u0308ck", "(fuck)", "“fuck”"),
        *("fucking", "b*tch", "địt mẹ", "VCL"),
    ],
)
def test_profanity_is_seen_through_its_disguise(text: str) -> None:
    assert kind(f"Well, {text} that.") == "profanity"


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe, Penistone, Essex, Cockburn, Dick Cheney, cockpit, shiitake, assess, classic, therapist, analysis.",
        "Một lon bia, các bạn đeo túi, dịt, đích, cúm, phúc.",
        "Óc chó là loại hạt tốt cho sức khỏe.",
        "We ship 455 items, 80085 and 5417 of size A, B, C or D.",
        "2 x 30,000 = 60,000",
        "**It** is **on** the **who** list * as it was *",
        "He pricked his finger and felt retired.",
        "U.S. troops, v.v. và v.v.",
    ],
)
def test_innocent_words_that_hold_bad_ones_pass(text: str) -> None:
    assert kind(text) == ""


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("You could have read that yourself.", "insults"),
        ("Stop bothering us with such silly questions.", "insults"),
        ("Cái này bạn tự đọc cũng được mà.", "insults"),
        ("Bạn đừng làm phiền shop bằng mấy câu như vậy.", "insults"),
        ("Đồ ngu!", "insults"),
        ("I will kill you.", "threats"),
        ("Tao sẽ giết mày.", "threats"),
        ("Just kill yourself.", "self_harm"),
        ("Bạn nên tự tử.", "self_harm"),
    ],
)
def test_insults_threats_and_self_harm_are_unsafe(text: str, category: str) -> None:
    assert kind(text) == category
    assert kind(f"Your order is on its way. {unicodedata.normalize('NFD', text)}") == category


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("You are an \u0456diot.", "insults"),
        ("You are an id1ot.", "insults"),
        ("You are an i d i o t.", "insults"),
        ("You are an !diot.", "insults"),
        ("This is st*pid.", "insults"),
        ("You stup1d customer", "insults"),
        ("You st*pid customer", "insults"),
        ("Stop b0thering us.", "insults"),
        ("fvck you", "profanity"),
        ("fuk you", "profanity"),
        ("Just k1ll yourself.", "self_harm"),
        ("You deserve to die.", "self_harm"),
        ("Cut yourself.", "self_harm"),
        ("Please cut yourself!", "self_harm"),
        ("Go jump off a bridge.", "self_harm"),
        ("Bạn hãy tự tử.", "self_harm"),
        ("Hay tu tu.", "self_harm"),
        ("Thắt cổ đi.", "self_harm"),
        ("Chết đi!", "self_harm"),
        ("Bạn óc chó thật.", "insults"),
        ("Óc chó!", "insults"),
        ("Mày đúng là óc chó.", "insults"),
        ("Thằng chó.", "profanity"),
        ("Do ngu!", "insults"),
        ("May ngu qua.", "insults"),
        ("d1t me may", "profanity"),
        ("Send me your p\u0430ssw0rd.", "secrets"),
    ],
)
def test_a_disguise_hides_no_phrase(text: str, category: str) -> None:
    assert kind(text) == category


@pytest.mark.parametrize(
    "text",
    [
        "Please send us the last four digits of your card number.",
        "Gửi mình 4 số cuối của số thẻ nhé.",
        "Use a bastard file for the edge.",
        "Be careful not to cut yourself. If you cut yourself, rinse it.",
        "You can jump off the bridge at the adventure park.",
        "Bánh óc chó và sữa óc chó rất ngon. Nguyên liệu là óc chó, mật ong.",
        "Buồn chết đi được. Đừng tự tử, hãy gọi cho mình.",
        "Shop co do ngu, do lot va ao khoac.",
        "Dòng máy ngủ đông được, may ngắn gọn.",
        "Size 4XL, iPhone 14, 1lb, a4b, B2B, e5e, C3PO and 5G. 3x5 = 15, 10x10.",
        "Плата за доставку 30 000. Это просто.",
        "We fly to FUK, FC Köln is FCK.",
    ],
)
def test_what_only_looks_hurtful_passes(text: str) -> None:
    assert kind(text) == ""


def test_the_last_digits_excuse_no_other_secret() -> None:
    assert kind("Please send us the last four digits of your card number and the code on the back.") == "secrets"


def test_rough_language_passes_but_is_worth_less() -> None:
    found = inspect("Damn, that is a good price.", LISTS)
    assert found is not None
    assert found.allowed
    assert found.value < 1


def test_sorry_for_bothering_is_polite() -> None:
    assert kind("Xin lỗi đã làm phiền bạn.") == ""


def test_the_worst_of_several_is_told() -> None:
    assert kind("You could have read that yourself. Send me your password, or I will kill you.") in (
        "threats",
        "secrets",
    )


def test_words_of_a_file_are_blocked_as_whole_words(tmp_path: Path) -> None:
    listed = tmp_path / "blocked.txt"
    listed.write_text("# ours\nAcme  # a rival\nđối thủ cạnh tranh\n\nwidget*\n", encoding="utf-8")
    lists = lexicon(listed)
    for text in ("Buy it at ACME.", "Một ĐỐI THỦ cạnh  tranh", "Widgets are there.", "a c m e", "acm3"):
        found = inspect(text, lists)
        assert found is not None, text
        assert found.name == "blocked", text
    assert inspect("The acmeist poets", lists) is None


@given(st.text(max_size=200))
def test_any_text_is_judged_without_failing(text: str) -> None:
    found = inspect(text, LISTS)
    assert found is None or 0 <= found.value <= 1


@pytest.mark.parametrize(
    "unit", ["a", "a ", "a*", "1a", "f.u", "send ", "(", "aaab", "ab-", "\u0301", "not to ", "<|", "ạ "]
)
def test_hostile_texts_of_64_kib_take_no_more_than_a_walk_through_them(unit: str) -> None:
    """Ten times the text takes about ten times as long, not a hundred: measured in processor time, generously."""
    short, long = (unit * (size // len(unit)) for size in (6_554, 65_536))
    assert _seconds(long) < 60 * max(_seconds(short), 1e-3)


def _seconds(text: str) -> float:
    began = time.thread_time()
    inspect(text, LISTS)
    return time.thread_time() - began
