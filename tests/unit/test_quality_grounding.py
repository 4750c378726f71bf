"""Whether an answer keeps to the evidence: numbers, names, links, topic."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.quality import numbers
from server.quality.grounding import Basis, judge, support

SHIPPING = "Standard delivery takes 2 to 4 working days. Shipping costs 30,000 dong per order."
RETURNS = "You can return unused items within 30 days of delivery. Open My orders to print the label."
ORDER = "order TT-12345 | customer Lan Nguyen | status shipped | total 890,000 | day 14/03 | carrier Red River"


MORE_OR_LESS = (
    "one year",
    "một năm",
    "a week",
    "một tuần",
    "a fortnight",
    "nửa tháng",
    "a dozen months",
    "a lifetime warranty",
    "bảo hành trọn đời",
    "a hundred months",
    "It is half off.",
    "một triệu rưỡi",
    "within a day",
    "30 000 dong",
)


def unfounded(answer: str, *evidence: str, query: str = "", others: tuple[str, ...] = ()) -> tuple[str, ...]:
    return judge(answer, Basis.of(query, evidence, others)).unfounded


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        ("It takes 2-4 ngày.", SHIPPING),
        ("Mất hai đến bốn ngày làm việc.", SHIPPING),
        ("Phí là 30.000 đồng.", SHIPPING),
        ("The fee is 30k.", SHIPPING),
        ("Phí 30 nghìn đồng.", SHIPPING),
        ("It costs VND 30000.", "It costs 30 000 dong, that is 30000."),
        ("Two weeks", "14 days"),
        ("hai tuần", "14 days"),
        ("2 years", "24 months"),
        ("24 tháng", "two years"),
        ("1 day", "24 hours"),
        ("ngày 14 tháng 3", ORDER),
        ("March 14th", ORDER),
        ("2024-03-14", "14/03"),
        ("from 9:00 to 21:00", "từ 9 đến 21 giờ"),
        ("9 pm", "21 giờ"),
        ("10 percent", "10%"),
        ("10 phần trăm", "10%"),
        ("1,2 triệu đồng", "1,200,000 dong"),
        ("10.000 mm", "10,000 mm"),
        ("Order tt-12345 is shipped.", ORDER),
        ("twenty-four months", "24 months"),
        ("hai mươi bốn tháng", "24 months"),
        ("trong năm ngày", "5 days"),
        ("14/03/2025", "14/03/2025"),
        ("March 14, 2025", "14/03/2025"),
        ("14 tháng 3 năm 2025", "14/03/2025"),
        ("on 14 March 2025", "2025-03-14"),
        ("14/03/25", "14/03/2025"),
        ("on March 14", "14/03/2025"),
        ("in 2025", "14/03/2025"),
        ("30 000 dong", "30,000 dong"),
        ("1 200 000 đồng", "1.200.000 đồng"),
        ("Call 19001234.", "Call 1900 1234."),
        ("Call 1900 1234.", "Call 19001234."),
        ("Call +84 901 234 567.", "0901 234 567"),
        ("open 9-21", "from 9 to 21"),
        ("open 9-21", "09:00–21:00"),
        ("We open at 9 am and close at 9 pm.", "09:00–21:00"),
        ("Mở cửa lúc 9 giờ sáng, đóng cửa lúc 9 giờ tối.", "từ 9 đến 21 giờ"),
        ("a week", "7 days"),
        ("within a day", "24 hours"),
        ("one year", "12 months"),
        ("một năm", "12 months"),
        ("nửa tháng", "half a month"),
        ("a fortnight", "two weeks"),
        ("a dozen months", "one year"),
        ("half off", "50%"),
        ("trọn đời", "a lifetime warranty"),
        ("một triệu rưỡi", "1,500,000 dong"),
        ("1 triệu rưỡi đồng", "1.500.000 đồng"),
        ("hai năm rưỡi", "30 months"),
    ],
)
def test_the_same_number_in_another_form_is_grounded(answer: str, evidence: str) -> None:
    assert unfounded(answer, evidence) == ()
    assert unfounded(unicodedata.normalize("NFD", answer), unicodedata.normalize("NFD", evidence)) == ()


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        ("It takes 5 working days.", SHIPPING),
        ("You have 30 months.", RETURNS),
        ("It costs 40,000 dong.", SHIPPING),
        ("It costs 30 dong.", SHIPPING),
        ("ngày 15/03", ORDER),
        ("Order TT-12346 is shipped.", ORDER),
        ("bảy ngày", RETURNS),
        ("seven weeks", RETURNS),
        ("You save 15%.", "You save 10%."),
        ("2 discount codes per order", "1 discount code per order"),
        ("on 14/03/2026", "14/03/2025"),
        ("on March 14, 2026", "14/03/2025 and 01/01/2026"),
        *((text, "24 months, or 2 to 4 days") for text in MORE_OR_LESS),
        ("We open at 9 pm.", "Open 09:00–21:00."),
        ("We close at 9 am.", "Open 09:00–21:00."),
        ("Cửa hàng mở cửa lúc 21 giờ.", "Mở cửa từ 9 đến 21 giờ."),
        ("Call 1900 1235.", "Call 1900 1234."),
        ("See https://evil.example/refund", RETURNS),
        ("Write to help@evil.example.", RETURNS),
        ("Your parcel comes with Green Wheel.", ORDER),
    ],
)
def test_what_nothing_says_is_unfounded(answer: str, evidence: str) -> None:
    assert len(unfounded(answer, evidence)) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "1. Open the page.\n2. Print it.\n  3) Send it.",
        "Step 2: tap it. Bước 3: gửi.",
        "There are 3 ways to do it.",
        "We are there 24/7, seven days a week, bảy ngày trong tuần.",
        "One of them, on the one hand. Một trong những cách.",
        "## 4. Heading\n- **5.** item",
        "Open My Orders and tap Print Label.",
        "1. Open the page. 2. Tap it. 3. See it.",
        "Do this: 1) open it, 2) print it… 3) send it.",
        "Leave us a 5-star review, cho shop 5 sao nhé.",
        "Bạn mở Đơn Hàng Của Tôi nhé. Bạn hỏi Dịch Vụ Khách Hàng.",
        "Once a week, twice a month, mỗi tuần một lần, ngày một ngày hai.",
        "One day you will like it, a day like this. A thousand thanks!",
    ],
)
def test_numbers_that_claim_nothing_need_no_ground(answer: str) -> None:
    assert unfounded(answer, RETURNS) == ()


def test_claims_may_rest_on_the_query_the_context_and_earlier_answers() -> None:
    told = ("The caller says 7 days.", "Earlier: 99 dong.")
    assert unfounded("7 days, 99 dong, TT-555", RETURNS, query="Where is TT-555?", others=told) == ()


def test_the_value_is_higher_the_more_the_evidence_says_it() -> None:
    basis = Basis.of("How long do I have to return something?", (RETURNS,), ())
    exact, vague, wrong = (
        judge(text, basis).value
        for text in ("You can return unused items within 30 days.", "It is up to you and me.", "Within 90 days.")
    )
    assert wrong < 0.5 <= vague < exact


@pytest.mark.parametrize(
    ("answer", "astray"),
    [
        ("The mountain railway climbs slowly through green forests towards a frozen lake in winter.", True),
        ("You can return unused items within 30 days.", False),
        ("Sorry, I can only help with questions about mountains, lakes, forests and frozen railways.", False),
        ("Bạn có thể gửi lại món hàng trong khung thời gian cho phép của cửa hàng chúng tôi.", False),
        ("Which mountain railway climbs through green forests towards a frozen lake?", False),
        ("Sorry, our warranty covers accidents, and every jacket is free for life.", True),
        ("We can't wait to show our warranty for accidents, every jacket is free for life.", True),
        ("Sorry, I don't know. Our colleagues at the desk answer by mail, telephone or letter.", False),
        ("We cannot take back unused items bought at a market abroad, whatever somebody promised there.", False),
    ],
)
def test_an_answer_about_something_else_is_astray_unless_it_states_nothing(answer: str, astray: bool) -> None:
    basis = Basis.of("How long do I have to return unused items?", (RETURNS,), ())
    assert judge(answer, basis).astray is astray


STORES = "Our stores in Hanoi and Da Nang are open every day from 9 to 21 o'clock, with parking and lockers."


def test_a_right_number_does_not_bring_a_stray_answer_home() -> None:
    basis = Basis.of("How long do I have to return unused items?", (RETURNS,), ())
    stray = (
        "It is 30 days of walking to the mountain railways that climb slowly by forests, icy rivers and frozen lakes."
    )
    assert judge(stray, basis).astray
    assert not judge(stray, Basis.of("How long do I have to return unused items?", (RETURNS,), (stray,))).astray


def test_an_answer_is_held_to_the_passage_that_is_about_the_question_and_not_to_any() -> None:
    basis = Basis.of("How long do I have to return unused items?", (RETURNS, STORES), ())
    assert judge("Our stores in Hanoi and Da Nang have a place for parking and for lockers.", basis).astray
    assert judge("Return unused items within 30 days, at our stores in Hanoi and Da Nang.", basis).passed


def test_passages_that_share_scattered_words_of_a_question_bind_nobody() -> None:
    passages = ("Bring railways to the desk.", "All tickets are sold.", "Mountain boots are waxed.")
    basis = Basis.of(
        "Which trains or tickets bring people from mountain valleys towards southern coasts?", passages, ()
    )
    assert judge("A slow night express leaves early and arrives with coffee, blankets, plus breakfast.", basis).passed


def test_an_apology_in_vietnamese_does_not_hide_that_an_answer_is_about_something_else() -> None:
    passage = "Bạn có thể trả hàng chưa dùng trong 30 ngày kể từ khi nhận."
    basis = Basis.of("Mình trả hàng chưa dùng trong bao lâu?", (passage,), ())
    assert judge("Rất tiếc, bảo hiểm tai nạn phủ mọi áo khoác mùa đông suốt đời miễn phí.", basis).astray
    assert not judge("Rất tiếc, mình không có thông tin về bảo hiểm tai nạn áo khoác mùa đông.", basis).astray


def test_evidence_that_has_nothing_to_do_with_the_question_binds_nobody() -> None:
    basis = Basis.of("Tell me about mountain railways.", (RETURNS,), ())
    assert judge("The railway climbs slowly through green forests towards a frozen lake in winter.", basis).passed


def test_a_passage_supports_what_it_says_and_its_numbers_weigh_more() -> None:
    shares = support("You can return items within 30 days.", [SHIPPING, RETURNS, ""])
    assert shares[1] > 0.8 > 0.4 > shares[0] >= shares[2] == 0
    assert support("…", [SHIPPING]) == (0.0,)


def test_vietnamese_without_diacritics_supports_the_same_words() -> None:
    (share,) = support("Ban co the tra hang trong 30 ngay.", ["Bạn có thể trả hàng trong 30 ngày."])
    assert share > 0.7


@given(st.integers(2, 999), st.sampled_from(["days", "hours", "dong", "ngày", "tháng", "%", "points", "kg"]))
def test_a_number_rests_on_itself_and_on_no_other(value: int, unit: str) -> None:
    assert unfounded(f"It is {value} {unit}.", f"We say {value} {unit}.") == ()
    assert unfounded(f"It is {value + 1} {unit}.", f"We say {value} {unit}.") != ()


@given(st.integers(1_000, 10**9))
def test_thousands_read_the_same_with_points_commas_or_nothing(value: int) -> None:
    forms = (f"{value} dong", f"{value:,} dong", f"{value:,}".replace(",", ".") + " đồng")
    for form in forms:
        for other in forms:
            assert unfounded(form, other) == ()


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_texts_are_compared_without_failing(answer: str, evidence: str) -> None:
    found = judge(answer, Basis.of("q", (evidence,), ()))
    assert 0 <= found.value <= 1
    assert found.passed == (found.value >= 0.5)


@given(st.text("0123456789.,:/- ahgk%tới\n", max_size=60))
def test_what_a_text_states_it_grounds_itself(text: str) -> None:
    ground = numbers.ground(text)
    assert all(ground.holds(claim) for claim in numbers.stated(text))


@pytest.mark.parametrize("unit", ["1", "1,", "1 ", "1.1", "-", "a1", "two ", "hai ", "A b ", "A", "x@", "1/", "www."])
def test_hostile_texts_of_16_kib_come_to_an_end(unit: str) -> None:
    text = unit * (16_384 // len(unit))
    judge(text, Basis.of("q", (text[:4_096],), ()))
