"""Rewritten queries: what a new question keeps, what is refused, and that nothing but the train part changes."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.augment import augment, rewritten
from trainer.data.records import Dataset, Judgement, Labelled, Pair, PairKind, Question, Response
from trainer.reward.config import AugmentConfig

QUERIES = ("Where is order 17?", "How do I return a lamp?", "Đơn hàng của tôi đâu rồi?", "Is it late?")


def _question(name: str, query: str) -> Question:
    responses = tuple(
        Response(text=f"{name}-{place}", judgements=(Judgement(rater="a", rating=place / 2),)) for place in range(3)
    )
    return Question(id=name, topic=name, query=query, context="before", responses=responses)


def _dataset(queries: Sequence[str] = QUERIES) -> Dataset:
    questions = {f"q{index}": _question(f"q{index}", query) for index, query in enumerate(queries)}
    labels = tuple(
        Labelled(question=name, response=place, rating=place / 2, aspects={}, weight=1.0, raters=("a",))
        for name in questions
        for place in range(3)
    )
    pairs = [
        Pair(chosen=(name, 2), rejected=(name, 0), kind=PairKind.DIRECT, margin=1.0, sources=("f",))
        for name in questions
    ]
    across = Pair(chosen=("q0", 2), rejected=("q1", 0), kind=PairKind.ABSOLUTE, margin=1.0)
    return Dataset(questions=questions, labels=labels, pairs=(*pairs, across) if len(queries) > 1 else tuple(pairs))


def _politely(texts: Sequence[str]) -> list[str]:
    return [f"Tell me: {text}" for text in texts]


def test_a_rewritten_question_has_the_responses_labels_and_own_pairs_of_its_original() -> None:
    train = _dataset()
    found = rewritten(train, [_politely], 1.0, seed=1)
    assert found.made == 4
    copies = [one for name, one in found.dataset.questions.items() if name not in train.questions]
    assert {one.query for one in copies} == {f"Tell me: {query}" for query in QUERIES}
    for copy in copies:
        original = train.questions[copy.topic]
        assert (copy.responses, copy.context) == (original.responses, original.context)
        assert [one.rating for one in found.dataset.labels if one.question == copy.id] == [0.0, 0.5, 1.0]
        (pair,) = (one for one in found.dataset.pairs if one.chosen[0] == copy.id)
        assert (pair.rejected, pair.sources) == ((copy.id, 0), ("f",))
    assert found.dataset.pairs[: len(train.pairs)] == train.pairs
    assert len(found.dataset.pairs) == len(train.pairs) + 4, "a pair of two questions was copied"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "rewritten_empty"),
        ("  ", "rewritten_empty"),
        ("where is ORDER 17", "rewritten_known"),
        ("is it   late", "rewritten_known"),
        ("What do you sell here?", "rewritten_known"),
        ("17?", "rewritten_length"),
        ("Where is order 17, and " + "also " * 20, "rewritten_length"),
        ("Where is order 71?", "rewritten_numbers"),
        ("Where is my order?", "rewritten_numbers"),
    ],
)
def test_a_query_that_says_something_else_or_what_is_there_already_is_refused(text: str, reason: str) -> None:
    train = _dataset(("Where is order 17?", "Is it late?"))
    only = Dataset(questions={"q0": train.questions["q0"]}, labels=train.labels[:3], pairs=train.pairs[:1])
    known = Dataset(questions=only.questions | {"q1": train.questions["q1"]}, labels=only.labels, pairs=only.pairs)

    def to_text(texts: Sequence[str]) -> list[str]:
        return [text if query.startswith("Where") else query for query in texts]

    found = rewritten(known, [to_text], 1.0, seed=1, away=["What do you sell, here?"])
    assert found.dataset == known
    expected = {reason: 1, "rewritten_known": 1} if reason != "rewritten_known" else {reason: 2}  # q1 stays as it was
    assert {one.reason: one.count for one in found.dropped} == expected


def test_two_models_never_make_the_same_question_twice() -> None:
    found = rewritten(_dataset(), [_politely, _politely], 1.0, seed=1)
    assert found.made == 4
    assert [(one.reason, one.count) for one in found.dropped] == [("rewritten_known", 4)]


def test_without_models_nothing_changes_and_noise_is_left_to_the_loop() -> None:
    train = _dataset()
    found = augment(train, _dataset(("Other?",)), AugmentConfig(embedding_noise=5.0), seed=1)
    assert found.dataset is train
    assert (found.made, found.dropped) == (0, ())


@given(share=st.floats(0, 1), seed=st.integers(0, 2**32), count=st.integers(0, 12))
def test_a_share_of_the_questions_is_rewritten_the_same_ones_for_the_same_seed(
    share: float, seed: int, count: int
) -> None:
    train = _dataset([f"What is thing number {index}?" for index in range(count)])
    found = rewritten(train, [_politely], share, seed)
    assert found.made == round(share * count)
    assert found == rewritten(train, [_politely], share, seed)
    held = found.dataset.questions
    assert all(one.question in held for one in found.dataset.labels)
    assert all(place[0] in held for one in found.dataset.pairs for place in (one.chosen, one.rejected))
