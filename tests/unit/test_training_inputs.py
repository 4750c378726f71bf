"""Every judged response is a row of tokens, however long its question's context is."""

import numpy as np
import pytest

from tests.releases import word_tokenizer
from trainer.data.inputs import Rows, encode
from trainer.data.pairs import build
from trainer.data.records import Judgement, Preferred, Question, Response
from trainer.reward.config import DataConfig
from triton_models.serializer import RewardSerializer

SPEC = {"format": "bert", "max_length": 12, "token_type_ids": True}
SPECIAL = {"start": "[CLS]", "end": "[SEP]", "pad": "[PAD]"}


def serializer() -> RewardSerializer:
    return RewardSerializer(word_tokenizer("bert"), SPEC, SPECIAL)


def rows(*questions: Question) -> Rows:
    return encode(build(questions, DataConfig())[0], serializer())


def question(name: str, *responses: Response, context: str = "", preferences: tuple[Preferred, ...] = ()) -> Question:
    return Question(id=name, topic=name, query="when a", context=context, responses=responses, preferences=preferences)


def judged(text: str, rating: float | None, **aspects: float) -> Response:
    return Response(
        text=text, judgements=(Judgement(rater="u1", rating=rating, aspects=aspects),), response_id=f"id-{text}"
    )


TWO = question(
    "one",
    judged("yes", 1.0, accuracy=1.0, safety=0.5),
    Response(text="b"),
    judged("no", 0.0),
    context="lamp parcel",
)
OTHER = question(
    "two", Response(text="c"), Response(text="d"), preferences=(Preferred(chosen=1, rejected=0, rater="u2"),)
)


def test_rows_are_the_judged_responses_with_what_was_said_of_them() -> None:
    found = rows(TWO, OTHER)
    assert found.places == (("one", 0), ("one", 2), ("two", 0), ("two", 1))
    assert found.questions.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(found.ratings, [1.0, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(found.aspects[:2], [[1.0, np.nan, np.nan, 0.5], [np.nan] * 4])
    assert found.weights.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert list(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True)) == [(0, 1), (3, 2)]
    assert found.margins.tolist() == [1.0, 0.0]


def test_an_example_has_the_specifications_format() -> None:
    found, encoder = rows(TWO), serializer()
    assert found.example(0) == {
        "input_ids": encoder.serialize("lamp parcel", "when a", ["yes"])[0],
        "attention_mask": [1] * 9,
        "labels": 1.0,
        "metadata": {
            "question": "one",
            "response": 0,
            "response_id": "id-yes",
            "user_ids": ["u1"],
            "feedback_dimensions": {"accuracy": 1.0, "safety": 0.5},
        },
    }
    assert rows(OTHER).example(0)["labels"] is None


def test_rows_that_are_too_long_lose_their_context_and_none_is_dropped() -> None:
    long = question("one", judged("yes", 1.0), judged("no " * 50, 0.0), context="parcel " * 100 + "lamp")
    found = rows(long)
    assert found.lengths.tolist() == [12, 12]
    vocabulary = word_tokenizer("bert").get_vocab()
    assert vocabulary["lamp"] in found.ids(0)
    assert vocabulary["yes"] in found.ids(0)
    assert vocabulary["parcel"] not in found.ids(1)


def test_some_rows_are_padded_to_the_longest_of_them() -> None:
    found = rows(TWO, OTHER)
    encoded = found.pad(np.array([2, 0]))
    assert encoded.attention_mask.sum(axis=1).tolist() == found.lengths[[2, 0]].tolist()
    assert encoded.input_ids.shape == (2, found.lengths[0])
    assert encoded.token_type_ids is not None


def test_nothing_judged_makes_no_rows() -> None:
    found = rows()
    assert (len(found), found.tokens.shape, found.starts.tolist(), found.aspects.shape) == (0, (0,), [0], (0, 4))
    with pytest.raises(IndexError):
        found.ids(0)
