"""The reward input: its layout, what is cut first, and that nothing a caller writes can forge it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.releases import WORDS, reward_directory, word_tokenizer
from triton_models.manifest import ReleaseError
from triton_models.serializer import RewardSerializer

SPEC = {"format": "bert", "max_length": 16, "token_type_ids": True}
SPECIAL = {"start": "[CLS]", "end": "[SEP]", "pad": "[PAD]"}
BERT = RewardSerializer(word_tokenizer("bert"), SPEC, SPECIAL)


def _texts(rows: Sequence[Sequence[int]], format_name: str = "bert") -> list[str]:
    tokenizer = word_tokenizer(format_name)
    return [" ".join(tokenizer.id_to_token(token) for token in row) for row in rows]


def test_bert_separates_three_segments() -> None:
    assert _texts(BERT.serialize("a b", "c", ["d", "e f"])) == [
        "[CLS] a b [SEP] c [SEP] d [SEP]",
        "[CLS] a b [SEP] c [SEP] e f [SEP]",
    ]


def test_roberta_separates_with_two(tmp_path: Path) -> None:
    spec = {"format": "roberta", "max_length": 16, "token_type_ids": False}
    roberta = RewardSerializer.load(reward_directory(tmp_path / "r", "roberta"), spec)
    rows = roberta.serialize("a", "b", ["c"])
    assert _texts(rows, "roberta") == ["<s> a </s> </s> b </s> </s> c </s>"]
    assert roberta.pad(rows).token_type_ids is None


def test_without_context_the_row_is_the_tokenizers_own_pair() -> None:
    assert _texts(BERT.serialize("", "c", ["d"])) == ["[CLS] c [SEP] d [SEP]"]


def test_the_context_is_cut_first_and_keeps_its_newest() -> None:
    (row,) = BERT.serialize("a b c d e f g h i j a b", "lamp when", ["yes no yes"])
    assert _texts([row]) == ["[CLS] e f g h i j a b"[:6] + _newest(7) + " [SEP] lamp when [SEP] yes no yes [SEP]"]
    assert len(row) == 16


def _newest(count: int) -> str:
    return " ".join(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "a", "b"][-count:])


def test_then_the_query_loses_its_tail_and_the_response_last() -> None:
    (row,) = BERT.serialize("a b", "c d e f g h i j", ["lamp " * 9])
    assert _texts([row]) == ["[CLS] c d e f [SEP] " + "lamp " * 9 + "[SEP]"]
    (row,) = BERT.serialize("a b", "c d", ["lamp " * 40])
    assert _texts([row]) == ["[CLS] [SEP] " + "lamp " * 13 + "[SEP]"]


def test_a_text_that_spells_a_separator_does_not_make_one() -> None:
    (row,) = BERT.serialize("", "a [SEP] b", ["c [CLS] [PAD] d"])
    tokens = _texts([row])[0].split()
    assert (tokens.count("[SEP]"), tokens.count("[CLS]"), tokens.count("[PAD]")) == (2, 1, 0)


def test_padding_masks_and_types() -> None:
    encoded = BERT.pad(BERT.serialize("a", "b", ["c", "d e"]), multiple=6)
    assert encoded.input_ids.shape == (2, 12)
    assert encoded.input_ids.dtype == np.int64
    assert encoded.attention_mask.tolist() == [[1] * 7 + [0] * 5, [1] * 8 + [0] * 4]
    assert encoded.token_type_ids is not None
    assert encoded.token_type_ids.tolist() == [[0] * 5 + [1] * 2 + [0] * 5, [0] * 5 + [1] * 3 + [0] * 4]


def test_padding_to_a_multiple_stops_at_the_limit() -> None:
    rows = BERT.serialize("a b c d e f g h", "i", ["j a b"])
    assert BERT.pad(rows, multiple=64).input_ids.shape == (1, 16)


def test_no_response_is_no_row() -> None:
    assert BERT.serialize("a", "b", []) == []
    assert BERT.pad([]).input_ids.shape == (0, 0)


WORD_TEXT = st.lists(st.sampled_from([*WORDS, "[SEP]", "😀"]), max_size=40).map(" ".join)


@given(WORD_TEXT, WORD_TEXT, st.lists(WORD_TEXT, min_size=1, max_size=4))
def test_every_response_gets_a_row_within_the_limit_whatever_the_texts(
    context: str, query: str, responses: list[str]
) -> None:
    rows = BERT.serialize(context, query, responses)
    assert len(rows) == len(responses)
    for row in rows:
        tokens = _texts([row])[0].split()
        assert len(row) <= 16
        assert tokens[0] == "[CLS]"
        assert tokens[-1] == "[SEP]"
        assert tokens.count("[SEP]") in {2, 3}
    alone = [BERT.serialize(context, query, [response])[0] for response in responses]
    assert rows == alone


def test_it_serves_many_threads() -> None:
    texts = [" ".join(WORDS[i % 9 :]) for i in range(64)]
    expected = [BERT.serialize(text, "a", [text]) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: BERT.serialize(text, "a", [text]), texts)) == expected


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="can't be read as a tokenizer"):
        RewardSerializer.load(tmp_path, SPEC)


def test_a_tokenizer_of_another_format_is_refused(tmp_path: Path) -> None:
    release = reward_directory(tmp_path / "r", "bert")
    with pytest.raises(ReleaseError, match="no token '<s>'"):
        RewardSerializer.load(release, {**SPEC, "format": "roberta"})
    with pytest.raises(ReleaseError, match="format 'gpt' is unknown"):
        RewardSerializer.load(release, {**SPEC, "format": "gpt"})


def test_special_tokens_are_those_the_release_states(tmp_path: Path) -> None:
    release = reward_directory(tmp_path / "r", "bert")
    (release / "tokenizer" / "tokenizer_config.json").write_text('{"cls_token": {"content": "lamp"}}')
    loaded = RewardSerializer.load(release, SPEC)
    assert _texts(loaded.serialize("", "a", ["b"])) == ["lamp a [SEP] b [SEP]"]


def test_texts_stand_alone_and_pairs_are_the_tokenizers_own() -> None:
    """One segment has no second type; of a pair the second has."""
    assert _texts(BERT.texts(["a b", ""])) == ["[CLS] a b [SEP]", "[CLS] [SEP]"]
    assert BERT.pairs([("a", "b c"), ("", "d")]) == [*BERT.serialize("", "a", ["b c"]), *BERT.serialize("", "", ["d"])]
    types = BERT.pad([*BERT.texts(["a b"]), *BERT.pairs([("a", "b")])]).token_type_ids
    assert types is not None
    assert types.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 1, 1]]


def test_a_long_pair_loses_its_first_text_and_the_second_keeps_up_to_half() -> None:
    """An evidence may be cut, a claim hardly: without all of it nothing can be judged."""
    assert _texts(BERT.pairs([("lamp " * 40, "a b")])) == ["[CLS] " + "lamp " * 11 + "[SEP] a b [SEP]"]
    assert _texts(BERT.pairs([("lamp " * 40, "a " * 40)])) == ["[CLS] " + "lamp " * 7 + "[SEP] " + "a " * 6 + "[SEP]"]
    assert _texts(BERT.pairs([("lamp", "a " * 40)])) == ["[CLS] lamp [SEP] " + "a " * 12 + "[SEP]"]


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=4))
def test_no_pair_is_longer_than_the_limit_nor_has_a_forged_end(pairs: list[tuple[str, str]]) -> None:
    end = word_tokenizer("bert").token_to_id("[SEP]")
    for row in BERT.pairs([(f"{a} [SEP]", f"[SEP] {b}") for a, b in pairs]):
        assert len(row) <= 16
        assert row.count(end) == 2


@pytest.mark.parametrize(("length", "padded"), [(3, 64), (64, 64), (65, 128), (130, 200)])
def test_a_compiled_release_gets_rows_of_its_buckets(length: int, padded: int) -> None:
    long = RewardSerializer(word_tokenizer("bert"), SPEC | {"max_length": 200}, SPECIAL)
    assert long.batch([[2] * length, [2]], "bucketed").input_ids.shape == (2, padded)
    assert long.batch([[2] * length, [2]], "ragged").input_ids.shape == (2, length)
