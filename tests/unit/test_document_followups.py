"""Queries that follow others, in both languages: what is looked for."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.documents import words
from server.documents.followups import SHARE, asked
from server.documents.vocabulary import Vocabulary

ENGLISH, VIETNAMESE, BARE = "How do I delete my account?", "Mình xóa tài khoản thế nào?", "minh xoa tai khoan the nao"


def weighed(query: str, *earlier: str) -> dict[str, float]:
    return {term.plain: term.share for term in asked(query, earlier).terms}


@pytest.mark.parametrize(
    ("earlier", "query"),
    [
        (ENGLISH, "And how long does it take?"),
        (ENGLISH, "What does that cost?"),
        (ENGLISH, "How long?"),
        (ENGLISH, "Is it free?"),
        (VIETNAMESE, "Vậy mất bao lâu?"),
        (VIETNAMESE, unicodedata.normalize("NFD", "Vậy mất bao lâu?")),
        (VIETNAMESE, "Thế thì tốn bao nhiêu tiền?"),
        (VIETNAMESE, "Vậy còn phí thì sao?"),
        (BARE, "the thi mat bao lau"),
        (BARE, "vay con phi thi sao"),
    ],
)
def test_a_query_without_a_topic_takes_that_of_the_earlier_one(earlier: str, query: str) -> None:
    topic = {"delete", "account"} if earlier == ENGLISH else {"xoa", "khoan"}
    found = weighed(query, earlier)
    assert {word for word in found if found[word] == 1.0} >= {words.plain(word) for word in topic}
    assert found[words.terms(query)[-1].plain] == SHARE
    assert asked(query, [earlier]).text == f"{earlier}\n{query}"


@pytest.mark.parametrize(
    "query",
    [
        "And refunds?",
        "What about the warranty?",
        "How long does delivery take?",
        "Do you have tents that are light?",
        "Thanks, that was it!",
        "Who are you?",
        "Vậy còn bảo hành thì sao?",
        "Giao hàng mất bao lâu vậy shop?",
        "giao hang mat bao lau",
        "Cảm ơn bạn nhé",
        "is this " + "and that " * 5 + " ".join(f"word{n}" for n in range(40)),
        "",
    ],
)
def test_a_query_with_a_topic_of_its_own_or_none_at_all_stands_by_itself(query: str) -> None:
    found = asked(query, [ENGLISH])
    assert (found.follows, found.terms) == (False, words.terms(query[:2000]))


def test_a_topic_of_its_own_leads_and_the_earlier_words_together_count_half_of_it() -> None:
    found = weighed("Can I cancel it?", "How do I send back a jacket that I bought?")
    assert found["cancel"] == 1.0
    assert sum(share for word, share in found.items() if word in {"send", "back", "jacket", "bought"}) == SHARE


def test_follow_ups_that_follow_each_other_go_back_to_the_topic() -> None:
    assert {"delet", "account"} <= weighed("And is it free?", ENGLISH, "How long does it take?").keys()
    assert not asked("And is it free?", ["Why is that?"]).follows
    assert not asked("And is it free?").follows


def test_a_follow_up_to_what_no_document_speaks_of_is_unknown_too() -> None:
    vocabulary = Vocabulary(1, 1000, {"long": 100, "account": 10, "delet": 10})
    query = "And how long does it take?"
    known, unknown = (vocabulary.known(asked(query, [past]).terms) for past in (ENGLISH, "Who painted the Mona Lisa?"))
    assert unknown < 0.25 < known


@given(st.text(max_size=300), st.lists(st.text(max_size=300), max_size=6))
def test_the_own_words_are_always_looked_for(query: str, earlier: list[str]) -> None:
    own = [term.plain for term in words.terms(query)]
    assert [term.plain for term in asked(query, earlier).terms][: len(own)] == own
