"""What goes into a prompt that must fit a window."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import QueryTooLong
from server.stages.prompt import compose
from server.types import DegradationReason, Exchange


class WordWindow:
    """A policy whose tokens are words, and whose template adds one token a message."""

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        return " ".join(f"<{m['role']}> {m['content']}" for m in messages)

    def count(self, text: str) -> int:
        return len(text.split())

    def tail(self, text: str, tokens: int) -> str:
        words = text.split()
        return text if len(words) <= tokens else " ".join(words[len(words) - tokens :]) if tokens > 0 else ""


EARLIER = [Exchange("one", "two"), Exchange("three", "four")]


def test_everything_that_fits_is_there_in_order() -> None:
    prompt = compose("now", "facts", EARLIER, WordWindow(), 100)
    assert prompt.text == "<system> facts <user> one <assistant> two <user> three <assistant> four <user> now"
    assert prompt.degradations == ()


def test_the_oldest_exchange_goes_first_and_the_reply_says_so() -> None:
    prompt = compose("now", "facts", EARLIER, WordWindow(), 8)
    assert prompt.exchanges == (EARLIER[1],)
    assert [d.reason for d in prompt.degradations] == [DegradationReason.CONTEXT_TRUNCATED]
    assert "the 1 oldest exchanges" in prompt.degradations[0].detail


def test_context_keeps_its_end() -> None:
    prompt = compose("now", "a b c d e f", [], WordWindow(), 6)
    assert prompt.context == "d e f"
    assert prompt.text == "<system> d e f <user> now"


def test_a_query_is_never_cut() -> None:
    with pytest.raises(QueryTooLong) as caught:
        compose("q " * 50, "facts", EARLIER, WordWindow(), 20)
    assert caught.value.limit == 20
    assert caught.value.tokens == 50


def test_a_megabyte_of_context_is_cut_before_it_is_tokenised() -> None:
    seen: list[int] = []

    class Counting(WordWindow):
        def count(self, text: str) -> int:
            seen.append(len(text))
            return super().count(text)

    prompt = compose("now", "word " * 200_000, [], Counting(), 50)
    assert max(seen) < 1000
    assert len(prompt.text.split()) <= 50


words = st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=30).map(" ".join)


@given(words, st.lists(st.tuples(words, words), max_size=4), st.integers(4, 60))
def test_a_prompt_never_exceeds_its_limit(context: str, earlier: list[tuple[str, str]], limit: int) -> None:
    exchanges = [Exchange(*pair) for pair in earlier]
    prompt = compose("now", context, exchanges, WordWindow(), limit)
    assert len(prompt.text.split()) <= limit
    assert prompt.text.endswith("<user> now")
    assert context.endswith(prompt.context)
    assert list(prompt.exchanges) == exchanges[len(exchanges) - len(prompt.exchanges) :]
