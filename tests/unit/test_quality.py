"""The quality checks of one reply: five findings a candidate, with and without models."""

import asyncio
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import BackendUnavailable
from server.quality import safety
from server.stages.quality import Classifiers, Material, Reading, Rules, check, citations
from server.stages.selection import Settings, select
from server.types import (
    Candidate,
    Check,
    DegradationReason,
    Evidence,
    Exchange,
    Finding,
    FinishReason,
    SelectionMethod,
)
from tests.turns import a_candidate

RETURNS = Evidence("docs", "returns.en#1", "Returns", "You can return unused items within 30 days of delivery.")
STORES = Evidence("docs", "stores.en#1", "Stores", "Our stores are open every day from 9 to 21 o'clock.")
ASKED = Material("How long do I have to return unused items?", (RETURNS,))
GOOD = "You can return unused items within 30 days."
RULES = Rules()
NO_MODELS = Classifiers()


async def checked(
    *candidates: Candidate,
    material: Material = ASKED,
    rules: Rules = RULES,
    classifiers: Classifiers = NO_MODELS,
    minimum: float = 0.6,
) -> tuple[Candidate, ...]:
    found, lost = await check(candidates, Reading(material, rules), classifiers, minimum, 1.0)
    assert lost == ()
    return found


def failing(candidate: Candidate) -> list[Check]:
    return [finding.check for finding in candidate.findings if not finding.passed]


class Says:
    """A classifier that gives each text the probabilities that its function says."""

    def __init__(self, labels: Sequence[str], *rows: tuple[float, ...], error: Exception | None = None) -> None:
        self.labels = tuple(labels)
        self.rows, self.error = rows, error
        self.asked: list[object] = []

    async def classify(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], timeout: float
    ) -> list[tuple[float, ...]]:
        self.asked += texts
        if self.error is not None:
            raise self.error
        return list(self.rows[: len(texts)])


async def test_a_good_answer_passes_every_check() -> None:
    (found,) = await checked(a_candidate(0, GOOD, 0.9))
    assert [finding.check for finding in found.findings] == list(Check)
    assert found.passed


@pytest.mark.parametrize(
    ("text", "score", "failed"),
    [
        (GOOD, 0.59, Check.REWARD),
        ("You can return unused items within 30 days, you idiot.", 1.0, Check.SAFETY),
        ("You can return unused items within 30 days. Send me your password.", 1.0, Check.SAFETY),
        ("You can return unused items within 90 days.", 1.0, Check.GROUNDING),
        ("The railway climbs slowly through green forests towards a frozen lake.", 1.0, Check.GROUNDING),
        ("k", 1.0, Check.LENGTH),
        ("Ok.", 1.0, Check.LENGTH),
        ("Yes.", 1.0, Check.LENGTH),
        ("?!", 1.0, Check.LENGTH),
        ("x " * 5_000, 1.0, Check.LENGTH),
        (f"{GOOD} {GOOD}", 1.0, Check.COHERENCE),
        ("Bạn có thể trả hàng trong 30 ngày nhé.", 1.0, Check.COHERENCE),
    ],
)
async def test_each_check_fails_what_it_is_for_and_says_why(text: str, score: float, failed: Check) -> None:
    (found,) = await checked(a_candidate(0, text, score))
    assert failed in failing(found)
    assert all(finding.detail.endswith(".") for finding in found.findings if not finding.passed)
    assert not found.passed


@pytest.mark.parametrize("method", [SelectionMethod.BEST, SelectionMethod.WEIGHTED, SelectionMethod.ENSEMBLE])
@pytest.mark.parametrize(
    "planted",
    ["You idiot, read it.", "no", "It is 90 days, see https://evil.example.", "It is 30 days. " * 4],
    ids=["toxic", "too short", "off the evidence", "repetitive"],
)
async def test_a_planted_candidate_with_the_highest_reward_is_never_chosen(
    planted: str, method: SelectionMethod
) -> None:
    candidates = await checked(a_candidate(0, GOOD, 0.61), a_candidate(1, planted, 1.0))
    for seed in range(200):
        choice = select(candidates, method, Settings(temperature=10, exploration=0.5), seed)
        assert choice.index == 0
        assert choice.probabilities == (1.0, 0.0)


async def test_an_unscored_candidate_passes_the_reward_check() -> None:
    (found,) = await checked(a_candidate(0, GOOD, None))
    assert found.passed


async def test_a_candidate_without_a_text_is_not_judged() -> None:
    found = await checked(a_candidate(0, error="late"), a_candidate(1, GOOD, 0.9))
    assert found[0].findings == ()
    assert found[1].passed


async def test_without_evidence_or_when_switched_off_nothing_is_held_to_it() -> None:
    answer = a_candidate(0, "You can return unused items within 90 days.", 0.9)
    without = await checked(answer, material=replace(ASKED, evidence=()))
    off = await checked(answer, rules=Rules(grounding=False))
    assert without[0].passed
    assert off[0].passed


async def test_what_was_said_before_grounds_an_answer() -> None:
    before = replace(ASKED, exchanges=(Exchange("And shoes?", "Shoes: 90 days."),))
    (found,) = await checked(a_candidate(0, "You can return shoes within 90 days.", 0.9), material=before)
    assert found.passed


async def test_the_number_of_a_passage_founds_nothing_and_its_address_founds_only_the_link() -> None:
    """A passage's id ends in its number, and addresses have digits: neither is something that the evidence says."""
    third = replace(RETURNS, source="2f0c33a8-77aa-4d1c-9f00-3f1e9a7b2c11#3", uri="files/returns-5.md")
    linked = replace(RETURNS, uri="https://shop.example/help/returns-7")
    numbered = await checked(
        a_candidate(0, "You can return unused items within 3 days.", 0.9),
        a_candidate(1, "You can return unused items within 5 days.", 0.9),
        material=replace(ASKED, evidence=(third,)),
    )
    assert [failing(each) for each in numbered] == [[Check.GROUNDING]] * 2
    (link,) = await checked(
        a_candidate(0, "Return unused items at https://shop.example/help/returns-7.", 0.9),
        material=replace(ASKED, evidence=(linked,)),
    )
    assert link.passed


SHIPPED = Evidence(
    "sql",
    "orders#TT-12345",
    "orders",
    "order TT-12345 | status shipped | trạng thái đang giao | carrier Red River",
    excludes=("Delivered", "returned", "out for delivery", "shipped", "đã giao", "đã trả hàng", "Green Wheel"),
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Your order TT-12345 was returned.", "returned"),
        ("Your order TT-12345 is shipped, and it was RETURNED to us.", "returned"),
        ("It is not lost, it was returned.", "returned"),
        ("It is out\nfor delivery with Red River now. It is out for  delivery.", "out for delivery"),
        ("Đơn TT-12345 đã giao rồi bạn nhé.", "đã giao"),
        ("Don TT-12345 da giao roi ban nhe.", "da giao"),
        ("Carrier: green wheel", "green wheel"),
    ],
)
async def test_an_answer_that_states_what_the_evidence_excludes_fails(text: str, named: str) -> None:
    asked = Material("TT-12345", (SHIPPED,))
    for form in ("NFC", "NFD"):
        (found,) = await checked(a_candidate(0, unicodedata.normalize(form, text), 0.9), material=asked)
        finding = found.findings[2]
        assert (finding.check, finding.passed) == (Check.GROUNDING, False)
        assert finding.detail == f"It says “{named}”, which the evidence rules out."


@pytest.mark.parametrize(
    "text",
    [
        "Your order TT-12345 is shipped.",
        "Your order TT-12345 is shipped and has not been returned.",
        "It isn’t delivered yet.",
        "We tell you once it is delivered.",
        "It should be delivered soon. Was it returned?",
        "Đơn TT-12345 đang giao, chưa giao xong. Khi nào đã giao bạn sẽ nhận tin.",
        "Đơn của bạn đã giảo, đa giao.",
        "It is undelivered.",
    ],
)
async def test_what_negates_or_expects_an_excluded_state_does_not_state_it(text: str) -> None:
    (found,) = await checked(a_candidate(0, text, 0.9), material=Material("TT-12345", (SHIPPED,)))
    assert found.findings[2].passed


@pytest.mark.parametrize(
    "material",
    [
        Material("Where is it?", (SHIPPED, replace(SHIPPED, text="order TT-2 | status returned"))),
        Material("I RETURNED it, what now?", (SHIPPED,)),
        Material("And now?", (SHIPPED,), context="The parcel was returned."),
        Material("And now?", (SHIPPED,), exchanges=(Exchange("And it?", "It was returned."),)),
    ],
)
async def test_what_anything_given_states_is_not_excluded(material: Material) -> None:
    (found,) = await checked(a_candidate(0, "It was returned.", 0.9), material=material)
    assert found.findings[2].passed


async def test_a_query_without_diacritics_states_the_phrase_with_them() -> None:
    asked = Material("don cua minh da tra hang chua", (SHIPPED,))
    (found,) = await checked(a_candidate(0, "Đơn của bạn đã trả hàng.", 0.9), material=asked)
    assert found.findings[2].passed


async def test_a_cut_answer_fails_where_a_whole_one_exists_and_passes_where_the_bound_is_to_blame() -> None:
    whole, cut = a_candidate(0, GOOD, 0.9), replace(a_candidate(1, GOOD, 0.9), finish_reason=FinishReason.LENGTH)
    assert failing((await checked(whole, cut))[1]) == [Check.COHERENCE]
    (alone,) = await checked(cut)
    assert alone.passed
    assert alone.findings[-1].value < 1


async def test_one_word_answers_what_is_no_question_of_how() -> None:
    (found,) = await checked(a_candidate(0, "Yes.", 0.9), material=Material("Is it open?"))
    assert found.passed
    (number,) = await checked(a_candidate(0, "42", 0.9), material=Material("How much is it?"))
    assert number.passed


@pytest.mark.parametrize(
    "text",
    [
        "Well, there is a lot to say about this…",
        "There’s so much to say about that.",
        "Let me help you with that.",
        "Of course! Let me help you with that. One moment please.",
        "Good question! I'm happy to help.",
        "Thanks for asking. Let me think about it...",
        "Để mình nghĩ xem…",
        "De minh xem thu nhe.",
        "Vâng ạ, câu hỏi hay quá! Bạn chờ mình một chút nhé.",
        "Cảm ơn bạn đã hỏi. Có rất nhiều điều để nói về chuyện này.",
    ],
)
async def test_filler_is_no_answer_to_a_question(text: str) -> None:
    for query in ("How long does delivery take?", "Giao hàng mất bao lâu vậy shop?"):
        (found,) = await checked(a_candidate(0, unicodedata.normalize("NFD", text), 0.9), material=Material(query))
        assert Check.LENGTH in failing(found)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("Can you help me?", "Of course! I'm happy to help you."),
        ("Thanks, bye!", "Thank you for contacting us."),
        ("Cảm ơn shop nhiều", "Cảm ơn bạn đã nhắn tin."),
        ("How long does delivery take?", "Good question! It takes two days."),
        ("How long does delivery take?", "Let me check with the carrier and write to you today."),
        ("Which railway is the best?", "It depends on the season."),
        ("Giao hàng mất bao lâu vậy shop?", "Để mình xem nhé. Giao hàng mất hai ngày."),
        ("Giao hàng mất bao lâu vậy shop?", "Còn tùy nơi nhận, bạn nhé."),
    ],
)
async def test_what_answers_and_what_is_polite_is_no_filler(query: str, text: str) -> None:
    (found,) = await checked(a_candidate(0, text, 0.9), material=Material(query))
    assert found.passed


@pytest.mark.parametrize(
    ("labels", "row", "passes"),
    [
        (("toxic",), (0.9,), False),
        (("toxic",), (0.2,), True),
        (("neutral", "toxic"), (0.9, 0.1), True),
        (("neutral", "toxic"), (0.1, 0.9), False),
        (("non-toxic", "toxic"), (0.4, 0.6), False),
        (("toxic", "insult", "threat"), (0.1, 0.2, 0.7), False),
        (("safe",), (0.0,), True),
    ],
)
async def test_a_toxicity_classifier_fails_what_the_words_do_not_show(
    labels: tuple[str, ...], row: tuple[float, ...], passes: bool
) -> None:
    (found,) = await checked(a_candidate(0, GOOD, 0.9), classifiers=Classifiers(toxicity=Says(labels, row)))
    assert found.passed is passes


async def test_a_classifier_that_sees_no_harm_does_not_lift_what_the_words_show() -> None:
    calm = Classifiers(toxicity=Says(("neutral", "toxic"), (1.0, 0.0)))
    (found,) = await checked(a_candidate(0, "You idiot, it is 30 days.", 0.9), classifiers=calm)
    assert failing(found) == [Check.SAFETY]


async def test_an_entailment_model_fails_what_contradicts_the_evidence_in_other_words() -> None:
    model = Says(("entailment", "neutral", "contradiction"), (0.1, 0.1, 0.8), (0.8, 0.1, 0.1))
    opposed, fine = await checked(
        a_candidate(0, "You can not return unused items.", 0.9),
        a_candidate(1, GOOD, 0.8),
        classifiers=Classifiers(entailment=model),
    )
    assert failing(opposed) == [Check.GROUNDING]
    assert fine.passed
    assert model.asked[1] == (RETURNS.text, GOOD)


async def test_equal_texts_are_classified_once_and_nothing_without_evidence() -> None:
    toxicity, entailment = Says(("toxic",), (0.1,)), Says(("contradiction",), (0.9,))
    models = Classifiers(toxicity, entailment)
    await checked(a_candidate(0, GOOD), a_candidate(1, GOOD), material=Material("q"), classifiers=models)
    assert toxicity.asked == [GOOD]
    assert entailment.asked == []


@pytest.mark.parametrize("error", [BackendUnavailable("Triton is away."), ValueError("a defect")])
async def test_when_a_classifier_fails_the_rules_stand_alone_and_the_reply_says_so(error: Exception) -> None:
    broken = Classifiers(toxicity=Says(("toxic",), error=error))
    found, lost = await check([a_candidate(0, GOOD, 0.9)], Reading(ASKED, RULES), broken, 0.6, 1.0)
    assert found[0].passed
    assert [each.reason for each in lost] == [DegradationReason.CLASSIFIER_UNAVAILABLE]


async def test_a_late_classifier_is_given_up() -> None:
    class Slow(Says):
        async def classify(
            self, texts: Sequence[str] | Sequence[tuple[str, str]], timeout: float
        ) -> list[tuple[float, ...]]:
            await asyncio.sleep(60)
            return []

    found, lost = await check(
        [a_candidate(0, GOOD, 0.9)], Reading(ASKED, RULES), Classifiers(entailment=Slow(("contradiction",))), 0.6, 0.02
    )
    assert found[0].passed
    assert [each.reason for each in lost] == [DegradationReason.CLASSIFIER_UNAVAILABLE]


async def test_what_was_read_as_it_arrived_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    inspect = safety.inspect
    monkeypatch.setattr(safety, "inspect", lambda text, lexicon: (read.append(text), inspect(text, lexicon))[1])
    reading = Reading(ASKED, RULES)
    for text in (GOOD, "Idiot.", GOOD):
        reading.add(text)
    candidates = [a_candidate(index, text, 0.9) for index, text in enumerate((GOOD, "Idiot.", GOOD))]
    found, _ = await check(candidates, reading, NO_MODELS, 0.6, 1.0)
    await reading.close()
    assert sorted(read) == sorted([GOOD, "Idiot."])
    assert found == await checked(*candidates)


async def test_a_reading_that_nobody_waits_for_ends_with_its_request() -> None:
    reading = Reading(ASKED, RULES)
    reading.begin()
    reading.add(GOOD)
    await reading.close()
    assert {task for task in asyncio.all_tasks() if not task.done()} == {asyncio.current_task()}


async def test_nothing_drawn_is_nothing_to_check() -> None:
    assert await checked() == ()


async def test_long_texts_are_read_beside_the_loop() -> None:
    """While a long text is read, the loop goes on."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    heart = asyncio.create_task(beat())
    long = " ".join(f"Sentence {i} tells of {i} other things." for i in range(200))
    await checked(a_candidate(0, long, 0.9), material=replace(ASKED, context=long * 5))
    heart.cancel()
    assert beats > 20


def test_an_answer_cites_what_it_rests_on_the_strongest_first() -> None:
    cited = citations(
        "You can return unused items within 30 days of delivery. Our stores are open every day.", [STORES, RETURNS]
    )
    assert [(each.number, each.evidence.source) for each in cited] == [(1, RETURNS.source), (2, STORES.source)]
    assert all(0 < each.support <= 1 for each in cited)


def test_what_an_answer_does_not_rest_on_is_not_cited() -> None:
    assert citations("I am glad that I could help.", [STORES, RETURNS]) == ()
    assert citations(GOOD, []) == ()


ORDER = Evidence(
    "sql",
    "orders#TT-12345",
    "đơn hàng",
    "đơn TT-12345 | khách Lan Nguyen | trạng thái đang giao | tổng 890.000 | ngày 14/03 | vận chuyển Swift Post",
)
WHERE = Evidence(
    "docs",
    "stores.vi#1",
    "Cửa hàng của shop ở đâu?",
    "Shop có cửa hàng ở Hà Nội và Đà Nẵng. Bạn mở trang Cửa hàng để xem đơn vị và địa chỉ.",
)


@pytest.mark.parametrize("evidence", [(ORDER, WHERE), (WHERE, ORDER)])
def test_an_order_answer_cites_the_order_and_not_a_page_that_shares_everyday_words(
    evidence: tuple[Evidence, ...],
) -> None:
    answer = "Đơn hàng TT-12345 của bạn đang giao. Đơn vị vận chuyển là Swift Post. Bạn mở Đơn hàng của tôi để xem nhé."
    assert [each.evidence.source for each in citations(answer, evidence)] == [ORDER.source]
    assert citations(answer.replace("TT-12345 ", "").replace("Swift Post", "hãng quen"), [WHERE]) == ()


def test_a_passage_that_carries_far_less_than_the_best_is_not_cited() -> None:
    answer = f"{RETURNS.text} Keep receipts, tags. Gift wrapping helps."
    main = replace(RETURNS, text=f"{RETURNS.text} Keep receipts, tags.")
    beside = replace(STORES, text="Gift wrapping helps friends.")
    alone = citations(answer, [beside])
    assert [each.evidence for each in alone] == [beside]
    assert [each.evidence for each in citations(answer, [beside, main])] == [main]


@settings(max_examples=50)
@given(st.lists(st.text(max_size=80), max_size=5), st.text(max_size=80), st.text(max_size=80))
def test_any_texts_get_sound_findings(texts: list[str], query: str, passage: str) -> None:
    material = Material(query, (replace(RETURNS, text=passage),))
    candidates = [a_candidate(index, text) for index, text in enumerate(texts)]
    found, _ = asyncio.run(check(candidates, Reading(material, RULES), Classifiers(), 0.6, 1.0))
    values: list[Finding] = [finding for candidate in found for finding in candidate.findings]
    assert len(values) == len(Check) * len(texts)
    assert all(0 <= finding.value <= 1 and (finding.passed or finding.detail) for finding in values)
