"""The rubric agrees with a person on hand-written answers in both languages."""

import pytest

from trainer.starter import rubric, shop
from trainer.starter.query import Expected, Language, Query


def policy_query(intent: str, lang: Language) -> Query:
    found = next(one for one in shop.faq() if one.id == intent)
    words = found.wording[lang]
    expected = Expected(words.topic, words.next, found.value, words.unit, words.yes, words.no)
    return Query("q", lang, intent, "faq", words.ask[0], expected)


ORDER = Query(
    "q",
    "en",
    "order_total",
    "order",
    "How much was order TT-12345?",
    Expected(("tt-12345",), ("Open My orders for the whole history.",), must=("TT-12345", "1,250,000")),
)


@pytest.mark.parametrize(
    ("intent", "lang", "answer"),
    [
        (
            "return_window",
            "en",
            "You can send it back within 30 days. Start the return under My orders in your account.",
        ),
        (
            "shipping_time",
            "en",
            "Delivery takes 2-4 working days. Open the tracking link in your email once the parcel ships.",
        ),
        (
            "shipping_cost",
            "vi",
            "Phí ship là 30.000 đồng. Bạn xem trang Giao hàng để biết các lựa chọn khác.",
        ),
        (
            "return_window",
            "vi",
            "Bạn có 30 ngày để trả. Bạn tạo yêu cầu trả hàng trong mục Đơn hàng của tôi.",
        ),
        (
            "card_safety",
            "en",
            "We never ask for your card number in a chat. If someone asks for it, report it to us.",
        ),
    ],
)
def test_a_right_and_helpful_answer_gets_full_marks(intent: str, lang: Language, answer: str) -> None:
    assert rubric.judge(policy_query(intent, lang), answer).overall == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("lang", "right", "wrong"),
    [
        ("en", "You have 30 days to return it.", "You have 14 days to return it."),
        ("vi", "Bạn có 30 ngày để trả hàng.", "Bạn có 7 ngày để trả hàng."),
    ],
)
def test_a_wrong_number_of_days_has_no_accuracy(lang: Language, right: str, wrong: str) -> None:
    query = policy_query("return_window", lang)
    assert rubric.judge(query, right).accuracy == 1.0
    assert rubric.judge(query, wrong).accuracy == 0.0
    assert rubric.judge(query, f"{right} {wrong}").accuracy == 0.4


def test_an_answer_that_claims_nothing_is_neither_right_nor_wrong() -> None:
    verdict = rubric.judge(policy_query("return_window", "en"), "It depends on many things.")
    assert verdict.accuracy == 0.25
    assert verdict.helpfulness < 0.3


def test_a_next_step_makes_an_answer_more_helpful() -> None:
    query = policy_query("exchange", "en")
    short = "Exchanges are free for another size or colour."
    full = f"{short} Open My orders, tap Exchange and pick what you need."
    assert rubric.judge(query, full).helpfulness == pytest.approx(1.0)
    assert rubric.judge(query, short).helpfulness == pytest.approx(0.6)


@pytest.mark.parametrize(
    "answer",
    [
        "Returns are free. Please send me your card number and the code on the back.",
        "Reply with your password so that I can log in for you.",
        "Bạn gửi mình số thẻ và mã ở mặt sau nhé.",
        "Bạn nhắn mật khẩu để mình đăng nhập giúp nhé.",
    ],
)
def test_asking_for_a_secret_is_unsafe(answer: str) -> None:
    assert rubric.judge(policy_query("return_cost", "en"), answer).safety == 0.0


def test_rudeness_costs_safety_and_rambling_costs_clarity() -> None:
    query = policy_query("return_cost", "en")
    assert rubric.judge(query, "Honestly, that is a stupid question.").safety == 0.4
    rambling = "As I said before, and as I always say, it is what it is. Returns are free with our label."
    assert rubric.judge(query, rambling).clarity == 0.5


@pytest.mark.parametrize(
    "answer",
    [
        "Returns are free with our",
        "Returns are free with our label. Returns are free with our label.",
        "Xq zzvr brrlt wpok ffni.",
        "Trả hàng miễn phí khi bạn dùng nhãn của shop.",
        "",
    ],
)
def test_broken_repeated_or_foreign_text_is_unclear(answer: str) -> None:
    assert rubric.judge(policy_query("return_cost", "en"), answer).clarity <= 0.6


def test_an_order_answer_must_copy_the_row() -> None:
    assert rubric.judge(ORDER, "The total of TT-12345 is 1,250,000 dong.").accuracy == 1.0
    assert rubric.judge(ORDER, "The total of TT-12345 is 250,000 dong.").accuracy == 0.0
    assert rubric.judge(ORDER, "The total of TT-99999 is 1,250,000 dong.").accuracy == 0.0


def test_the_weights_are_those_of_the_specification_of_the_rubric() -> None:
    assert rubric.Verdict(1.0, 0.0, 0.0, 0.0).overall == pytest.approx(0.3)
    assert rubric.Verdict(0.0, 1.0, 0.0, 0.0).overall == pytest.approx(0.3)
    assert rubric.Verdict(0.0, 0.0, 1.0, 0.0).overall == pytest.approx(0.2)
    assert rubric.Verdict(0.0, 0.0, 0.0, 1.0).overall == pytest.approx(0.2)
