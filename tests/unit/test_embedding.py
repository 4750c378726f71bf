"""The light local embedding: what is close, what is not, and that it is the same everywhere."""

import math
import subprocess
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backends.embedding import INLINE, LONGEST, HashingEmbedder, hashed
from server.errors import BackendTimeout

PARAPHRASES = [
    ("How long is the warranty?", "What is the warranty period, how long does it last?"),
    ("Where is my order?", "where's the order I placed"),
    ("How do I return shoes that don't fit?", "Returning shoes: they do not fit"),
    ("Can I pay by bank transfer?", "is payment by a bank transfer possible"),
    ("I forgot my password", "How do I reset a forgotten password?"),
    ("Bảo hành bao lâu?", "Thời gian bảo hành là bao lâu vậy shop"),
    ("Tôi muốn đổi trả hàng", "làm sao để trả hàng và đổi hàng"),
    ("Đơn hàng của tôi ở đâu?", "don hang cua toi dang o dau"),
]

GOLDEN_PLACES = [110, 85, 77, 231]
GOLDEN_VALUES = [0.491662, 0.315367, 0.245831, -0.232182]


def cosine(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(hashed(one), hashed(other), strict=True))


@pytest.mark.parametrize(("query", "paraphrase"), PARAPHRASES)
def test_paraphrase_is_closer_than_every_other_query(query: str, paraphrase: str) -> None:
    """The same content words in other order and company beat all unrelated queries, by a margin."""
    others = [other for pair in PARAPHRASES for other in pair if other not in {query, paraphrase}]
    assert cosine(query, paraphrase) > max(cosine(query, other) for other in others) + 0.1


@pytest.mark.parametrize("change", [str.upper, str.title, lambda text: f"  {text.rstrip('?')} !\n"])
def test_case_spaces_and_sentence_marks_do_not_matter(change: object) -> None:
    assert callable(change)
    for query, _ in PARAPHRASES:
        assert cosine(query, change(query)) == pytest.approx(1)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_unicode_form_does_not_matter(form: str) -> None:
    """Composed and decomposed Vietnamese are the same text."""
    text = "Đổi trả hàng trong bao nhiêu ngày?"
    assert hashed(unicodedata.normalize(form, text)) == hashed(text)  # type: ignore[arg-type]


def test_vietnamese_without_diacritics_stays_close() -> None:
    """What is typed without marks is near what it means, and a word with other marks is not the same."""
    assert cosine("Tôi muốn đổi trả hàng", "toi muon doi tra hang") > 0.85
    assert cosine("bảo hành bao lâu", "bao hanh bao lau") > 0.85
    assert cosine("bạn hàng", "bán hàng") < 0.98


@pytest.mark.parametrize(
    ("right", "typo"), [("warranty", "warrenty"), ("password", "pasword"), ("delivery", "delivry")]
)
def test_small_typos_stay_close(right: str, typo: str) -> None:
    """Character n-grams keep a misspelt word near the right one, other words are far."""
    assert cosine(right, typo) > 0.2
    assert cosine(f"question about {right}", f"question about {typo}") > 0.6
    assert abs(cosine(right, "orange")) < 0.15


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "Where is order TT-12345, please? I need it for a birthday",
            "Where is order TT-12346, please? I need it for a birthday",
        ),
        ("Can I return it after a month", "Can't I return it after a month"),
        ("Is Hanoi bigger than Hue?", "Is Hue bigger than Hanoi?"),
        ("what is 5 + 3", "what is 5 * 3"),
        ("great 👍", "great 👎"),
    ],
)
def test_what_changes_the_answer_is_no_similar_query(one: str, other: str) -> None:
    """Numbers, negations, order and symbols keep short queries below the similarity at which scores are shared."""
    assert cosine(one, other) < 0.98


@given(st.text(max_size=200))
def test_every_text_has_a_unit_vector(text: str) -> None:
    """Also the empty one, marks only, lone surrogates and control characters."""
    vector = hashed(text)
    assert len(vector) == HashingEmbedder.dimension
    assert math.fsum(x * x for x in vector) == pytest.approx(1)


def test_texts_without_words_have_vectors_of_their_own() -> None:
    """Empty, blank and marks are the same nothing; an emoji is a word."""
    assert hashed("") == hashed(" \n\t") == hashed("?!…")
    assert cosine("👍", "👎") < 0.5
    assert cosine("", "hello") < 0.5


def test_the_end_of_a_very_long_text_does_not_count() -> None:
    """A megabyte costs no more than its first characters."""
    text = "returns within thirty days " * 1000
    assert len(text) > LONGEST
    assert hashed(text) == hashed(text + "and a million more " * 50_000)


def test_is_the_same_in_every_process() -> None:
    """String hashing is randomised by process: what is stored must match tomorrow's queries."""
    code = "from server.backends.embedding import hashed; print(hashed('Bảo hành bao lâu?'))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == repr(hashed("Bảo hành bao lâu?"))


def test_features_are_those_that_the_name_stands_for() -> None:
    """Changed features need a new `model` name, or stored vectors would be compared with strangers."""
    vector = hashed("Bảo hành bao lâu? 12 months")
    largest = sorted(range(len(vector)), key=lambda place: -abs(vector[place]))[:4]
    assert (HashingEmbedder.model, largest) == ("hashing-256", GOLDEN_PLACES)
    assert [vector[place] for place in largest] == pytest.approx(GOLDEN_VALUES, abs=1e-6)


async def test_short_and_long_texts_give_the_same_vectors() -> None:
    """A thread embeds what is too long for the event loop, and nothing else about it differs."""
    texts = ["short", "", "long enough for a thread " * INLINE]
    with ThreadPoolExecutor(1) as threads:
        embedder = HashingEmbedder(threads)
        assert await embedder.embed(texts, 5) == [hashed(text) for text in texts]
        assert await embedder.embed(["short"], 5) == [hashed("short")]
        assert await embedder.embed([], 5) == []


async def test_late_vectors_are_a_timeout() -> None:
    """When its threads are taken, the embedder keeps to its time."""
    free = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(free.wait)
        try:
            with pytest.raises(BackendTimeout):
                await HashingEmbedder(threads).embed(["x" * (INLINE + 1)], 0.01)
        finally:
            free.set()
