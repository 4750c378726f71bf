"""The words by which passages are found."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.documents import words
from server.documents.vocabulary import LEAST_WEIGHT, Vocabulary
from server.documents.words import Term


def plain_forms(text: str) -> list[str]:
    return [term.plain for term in words.terms(text)]


@pytest.mark.parametrize(
    "typed",
    [
        "Giao hàng mất bao lâu",
        unicodedata.normalize("NFD", "Giao hàng mất bao lâu"),
        "GIAO HÀNG MẤT BAO LÂU?",
        "giao hang mat bao lau",
    ],
)
def test_vietnamese_has_the_same_plain_words_however_it_is_typed(typed: str) -> None:
    assert plain_forms(typed) == ["giao", "hang", "mat", "bao", "lau"]


def test_marks_are_kept_beside_the_plain_form_composed_or_not() -> None:
    composed, decomposed = words.terms("đổi"), words.terms(unicodedata.normalize("NFD", "đổi"))
    assert composed == decomposed == (Term("doi", "=đổi"),)


@pytest.mark.parametrize(
    ("some", "other"),
    [
        ("shipping", "ship"),
        ("deliveries", "delivery"),
        ("returned", "returns"),
        ("exchange", "exchanging"),
        ("30,000", "30.000"),
        ("800.000", "800000"),
        ("customer's", "customer"),
        ("Refunds", "refund"),
    ],
)
def test_forms_of_one_word_are_one(some: str, other: str) -> None:
    assert plain_forms(some) == plain_forms(other)


@pytest.mark.parametrize(
    ("some", "other"), [("late", "lat"), ("bus", "bu"), ("3.5", "35"), ("king", "k"), ("this", "thi")]
)
def test_different_words_stay_different(some: str, other: str) -> None:
    assert plain_forms(some) != plain_forms(other)


def test_a_long_query_keeps_the_words_that_say_something() -> None:
    query = "what is the " + "how can you do this for me " * 40 + " ".join(f"topic{n}" for n in range(30))
    kept = words.terms(query)
    assert len(kept) == words.MOST_TERMS
    assert {f"topic{n}" for n in range(30)} <= {term.plain for term in kept}


def test_a_word_with_marks_is_judged_as_it_is_spelt() -> None:
    card, article = words.terms("thẻ the")
    assert not words.is_function_word(card)
    assert words.is_function_word(article)


@given(st.text(), st.text(), st.text())
def test_any_text_makes_a_vector_that_postgres_reads_as_it_stands(tenant: str, title: str, text: str) -> None:
    lexemes = words.vector(tenant.encode("utf-8", "replace").decode(), title, text).split(" ")
    inner = [lexeme[1:-1] for lexeme in lexemes]
    assert all(lexeme[0] == lexeme[-1] == "'" for lexeme in lexemes)
    assert not any(set(each) & set("'\\ \0") for each in inner)
    assert len(set(inner)) == len(inner)
    assert all(each.isprintable() for each in inner)


def test_words_spell_neither_a_tenant_nor_a_title() -> None:
    written = words.vector("default", "", f"{words.tenant_lexeme('other')} !refund =refund @refund")
    assert f"'{words.tenant_lexeme('other')}'" not in written.split(" ")
    assert "'!refund'" not in written.split(" ")


def test_rare_words_weigh_more_and_a_passage_with_all_of_them_weighs_everything() -> None:
    found = Vocabulary(1, 1000, {"refund": 10, "order": 400, "the": 900})
    rare, common, article = (found.weight(term) for term in words.terms("refund order the"))
    assert rare > common > article > 0
    assert found.known(words.terms("refund order")) == pytest.approx(1.0)
    assert found.known(words.terms("refund zebra")) < 0.5


def test_a_query_that_says_nothing_is_about_nothing() -> None:
    found = Vocabulary(1, 1000, {"what": 500, "can": 500, "you": 500, "do": 500})
    asked = words.terms("What can you do?")
    assert found.total(asked) == LEAST_WEIGHT
    assert found.known(asked) < 0.1


def test_a_word_spelt_otherwise_hardly_counts() -> None:
    found = Vocabulary(1, 1000, {"ban": 3, "=bán": 3})
    assert found.known(words.terms("bẩn")) < 0.3 * found.known(words.terms("bán"))
    assert found.known(words.terms("ban nuoc")) > 0


def test_the_rarest_words_are_looked_for_until_enough_passages_match() -> None:
    found = Vocabulary(1, 10_000, {"a1": 5, "b1": 50, "c1": 5000, "d1": 9000})
    assert [term.plain for term in found.rarest(words.terms("d1 c1 b1 a1 e1"), 100)] == ["a1", "b1"]
    assert [term.plain for term in found.rarest(words.terms("d1"), 100)] == ["d1"]
    assert found.rarest(words.terms("e1"), 100) == ()


def test_only_a_cosine_above_the_usual_ones_means_something() -> None:
    found = Vocabulary(1, 1000, {}, cosine_mean=0.3, cosine_deviation=0.1)
    assert found.likeness(0.5) == 0
    assert found.likeness(0.75) == pytest.approx(0.5)
    assert found.likeness(1.0) == 1.0
