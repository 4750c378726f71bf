"""The corpus is reproducible, keeps held-out questions out of training, and its raters are biased as documented."""

import random
import re
import statistics
import unicodedata
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.starter import corpus, raters, rubric, shop, tokenizer, writer
from trainer.starter.alterations import altered, renumbered
from trainer.starter.query import Answer, Flaw, Language
from trainer.starter.raters import Rater, RaterPlan


def written(seed: int, count: int) -> str:
    return "\n".join(
        repr((one.query, one.answer(random.Random(one.query.id)))) for one in corpus.asked(seed, "train", count)
    )


@lru_cache
def trained_on() -> tuple[corpus.Asked, ...]:
    return tuple(corpus.asked(1, "train", 3000))


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert written(3, 200) == written(3, 200)
    assert written(3, 200) != written(4, 200)


def test_the_order_table_is_a_function_of_its_seed() -> None:
    assert shop.order_table(1) == shop.order_table(1)
    assert shop.order_table(1) != shop.order_table(2)


def test_no_held_out_order_number_is_trained_on() -> None:
    def numbers(split: str) -> set[str]:
        queries = [one.query for one in corpus.asked(1, split, 800)]  # type: ignore[arg-type]
        return {found for query in queries for found in re.findall(r"TT-\d+", f"{query.text} {query.evidence}")}

    assert numbers("heldout")
    assert not numbers("heldout") & numbers("train")


@pytest.mark.parametrize("lang", ["en", "vi"])
def test_no_held_out_phrasing_is_trained_on(lang: Language) -> None:
    def bare(text: str) -> str:
        plain = corpus.plain(unicodedata.normalize("NFC", text)).lower()
        return re.sub(r"[^\w ]", "", plain)

    held = [bare(text[lang]) for text in shop.tables("held").values() if "{" not in text[lang]]
    held += [bare(text) for text in shop.chat()["scope"][lang].ask[3::4]]
    queries = [one.query for one in trained_on() if one.query.lang == lang]
    asked = [text for query in queries for text in (query.text, *(turn for turn, _ in query.turns))]
    trained = "\n".join(bare(text) for text in asked)
    assert not [text for text in held if text in trained]


def test_every_intent_is_asked_in_both_languages() -> None:
    seen = {(one.query.intent, one.query.lang) for one in trained_on()}
    assert len({intent for intent, _ in seen}) >= 50
    assert {intent for intent, lang in seen if lang == "en"} == {intent for intent, lang in seen if lang == "vi"}


def test_clearly_flawed_answers_are_a_minority_and_clean_ones_satisfy_the_rubric() -> None:
    minor: set[Flaw] = {"no_next"}
    flawed, clean = [], []
    for one in corpus.asked(5, "train", 800):
        answer = one.answer(random.Random(one.query.id))
        flawed.append(bool(answer.flaws - minor))
        if not answer.flaws:
            clean.append(rubric.judge(one.query, answer.text).overall)
    assert 0.25 < statistics.fmean(flawed) < 0.38
    assert min(clean) == pytest.approx(1.0)


def test_a_wrong_answer_is_wrong_to_the_rubric_too() -> None:
    for one in corpus.asked(6, "train", 400):
        answer = writer.write(one.query, one.draft, one.other, frozenset({"wrong"}), random.Random(1))
        assert rubric.judge(one.query, answer.text).accuracy == 0.0, answer.text


def test_raters_look_at_accuracy_and_overlook_safety() -> None:
    rng, rater = random.Random(0), Rater(0.0, 0.7, careless=False)

    def mean(flaws: set[Flaw]) -> float:
        answer = Answer("text", frozenset(flaws))
        return statistics.fmean(rater.stars(answer, 0.85, rng) for _ in range(1500))

    good = mean(set())
    assert good - mean({"wrong"}) > 3 * (good - mean({"unsafe"}))
    assert good - mean({"unsafe"}) > 0.1
    assert abs(good - mean({"ramble"})) < 0.2


def test_careless_raters_do_not_look() -> None:
    rater = Rater(0.0, 0.7, careless=True)
    bad = Answer("text", frozenset({"wrong"}))
    assert min(rater.stars(bad, 1.0, random.Random(seed)) for seed in range(200)) >= 3


def test_ratings_are_stars_and_few() -> None:
    lists = list(raters.ratings(1, RaterPlan(queries=30)))
    assert len(lists) == 30
    assert {rating.stars for one in lists for rating in one} <= {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    "text",
    ["Giao hàng mất bao lâu?", "😀 مرحبا 漢字 \x00", "two  spaces\n\n x ", "e\u0323\u0302", "1.250.000"],
)
def test_the_tokenizer_gives_back_any_text(text: str) -> None:
    bpe = tokenizer.train(["hello world, giao hàng miễn phí"] * 3, 320)
    assert bpe.decode(bpe.encode(text).ids) == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("860000", ["860", "000"]),
        ("1,250,000", ["1", ",", "250", ",", "000"]),
        ("TT-12345", ["TT", "-", "12", "345"]),
        ("007", ["007"]),
        ("1234567890123456", ["1", "234", "567", "890", "123", "456"]),
        ("12345678901234567", ["1", "2", "345", "678", "901", "234", "567"]),
    ],
)
def test_a_number_is_tokens_of_three_digits_from_the_right(text: str, tokens: list[str]) -> None:
    bpe = tokenizer.train(["TT is a word, TT"] * 3, 320)
    assert bpe.encode(text).tokens == tokens
    if text[0].isdigit():
        assert bpe.encode(f"is {text}").tokens[-len(tokens) :] == tokens


@given(st.text(max_size=80), st.integers(0, 99))
def test_other_quantities_are_put_in_and_nothing_else_is_touched(text: str, seed: int) -> None:
    changed = renumbered(text, random.Random(seed))
    assert re.sub(r"[0-9.,]+", "#", changed) == re.sub(r"[0-9.,]+", "#", text)


@given(st.integers(1, 9_999_999), st.sampled_from(["", ",", "."]), st.integers(0, 99))
def test_a_quantity_becomes_another_one_written_alike(number: int, separator: str, seed: int) -> None:
    said = f"{number:,}".replace(",", separator)
    changed = renumbered(f"It is {said} dong.", random.Random(seed)).split()[2]
    assert changed != said or number in (1, 2)
    assert re.fullmatch(r"[1-9][0-9]{0,2}(?:[.,][0-9]{3})*|[1-9][0-9]*", changed)


ROW = "Evidence:\n[orders] order TT-12345 | status shipped | total 860,000 | day 03/11 | carrier Red River"


@pytest.mark.parametrize(
    ("said", "lang"),
    [("Your order is with Red River.", "en"), ("Đơn của bạn đã giao.", "vi"), ("You paid by bank transfer.", "en")],
)
def test_an_altered_answer_names_another_value_of_the_same_field(said: str, lang: Language) -> None:
    fields = [*shop.tables("orders")["people"]["carriers"]]
    fields += [*shop.tables("orders")["status"][lang], *shop.tables("orders")["method"][lang]]
    made = {altered(said, ROW, lang, random.Random(seed)) for seed in range(60)} - {said}
    assert made
    assert all(any(field.lower() in text.lower() for field in fields) for text in made)


def test_an_altered_answer_may_state_a_number_from_elsewhere_in_the_evidence() -> None:
    passages = "Evidence:\n[Refunds] Within 5 days.\n[Returns] Within 30 days."
    made = {altered("You have 30 days.", passages, "en", random.Random(seed)) for seed in range(60)}
    assert "You have 5 days." in made
    assert "You have 30 days." not in made
