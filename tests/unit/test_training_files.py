"""What training files may hold, and what is said of a line that can't be used."""

import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import dialogues, files, lines
from trainer.data.language import language
from trainer.data.records import Question
from trainer.errors import DataError
from triton_models.dialogue import transcript

RATED = {
    "query": "Where is my lamp?",
    "responses": [{"text": "On its way.", "rating": 5}, {"text": "No.", "rating": 2}],
}


def written(path: Path, *records: Any) -> Path:
    """A file of these lines: objects as JSON, bytes as they are."""
    path.write_bytes(
        b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in records)
    )
    return path


def only(path: Path, *records: Any) -> Question:
    """The one question of such a file."""
    (found,) = files.read(written(path / "data.jsonl", *records))
    return found


def test_stars_win_rates_and_aspects_become_ratings_from_0_to_1(tmp_path: Path) -> None:
    found = only(
        tmp_path,
        {
            "query": "Đơn hàng của tôi đâu?",
            "context": "Shop",
            "source": "desk",
            "time": "2026-03-01T12:00:00+07:00",
            "user": "u1",
            "responses": [
                {"text": "a", "rating": 4, "model": "x"},
                {"text": "b", "win_rate": 0.3},
                {"text": "c", "aspects": {"accuracy": 5, "safety": 1, "clarity": None}},
                {"text": "d"},
            ],
        },
    )
    assert (found.query, found.context, found.askers) == ("Đơn hàng của tôi đâu?", "Shop", ("u1",))
    assert found.time == datetime(2026, 3, 1, 5, tzinfo=UTC)
    assert found.groups == {"source": "desk"}
    one, two, three, four = (each.judgements for each in found.responses)
    assert (one[0].rating, one[0].rater, two[0].rating) == (0.75, "u1", 0.3)
    assert (three[0].rating, three[0].aspects) == (None, {"accuracy": 1.0, "safety": 0.0})
    assert four == ()


def test_a_line_without_a_user_is_rated_by_nobody_in_particular(tmp_path: Path) -> None:
    found = only(tmp_path, RATED)
    assert {one.rater for each in found.responses for one in each.judgements} == {"file"}
    assert found.askers == ()


def test_the_same_query_and_context_on_two_lines_are_one_question_with_its_texts_once(tmp_path: Path) -> None:
    found = only(
        tmp_path, RATED, {**RATED, "responses": [{"text": "No.", "rating": 1}, {"text": "Soon.", "rating": 4}]}
    )
    assert [(each.text, len(each.judgements)) for each in found.responses] == [
        ("On its way.", 1),
        ("No.", 2),
        ("Soon.", 1),
    ]


def test_the_same_query_in_other_letters_or_contexts_is_one_topic(tmp_path: Path) -> None:
    same = ["Đơn hàng đâu?", "  ĐƠN   hàng đâu?\n", "\u0110o\u031bn hàng \u0111âu?"]
    other = [{**RATED, "query": each, "context": str(number)} for number, each in enumerate(same)]
    found = files.read(written(tmp_path / "data.jsonl", RATED, *other))
    assert len(found) == 4
    assert len({each.topic for each in found}) == 2


def test_a_pair_of_dialogues_is_a_preference_in_the_context_that_would_be_served(tmp_path: Path) -> None:
    shared = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Where is it?\n\nAssistant:"
    found = only(tmp_path, {"chosen": shared + " Let me look.", "rejected": shared + " Dunno.\n\nReally."})
    assert (found.context, found.query) == (transcript("", [("Hi", "Hello!")]), "Where is it?")
    assert [each.text for each in found.responses] == ["Let me look.", "Dunno.\n\nReally."]
    assert [(each.chosen, each.rejected) for each in found.preferences] == [(0, 1)]


def test_dialogues_that_part_early_are_compared_from_there_on(tmp_path: Path) -> None:
    begin = "\n\nHuman: Hi\n\nAssistant: "
    found = only(
        tmp_path, {"chosen": begin + "Hello!", "rejected": begin + "Go away.\n\nHuman: Why?\n\nAssistant: So."}
    )
    assert (found.context, found.query) == ("", "Hi")
    assert [each.text for each in found.responses] == ["Hello!", "Go away.\nUser: Why?\nAssistant: So."]


def test_preferred_texts_may_stand_beside_their_query_or_without_one(tmp_path: Path) -> None:
    beside = {"query": "Hi", "context": "Shop", "chosen": "Hello!", "rejected": "What?"}
    alone = {"chosen": "A good essay.", "rejected": "A bad one."}
    other = {"chosen": "A fine poem.", "rejected": "A poor one."}
    found = files.read(written(tmp_path / "data.jsonl", beside, alone, other))
    assert [(each.query, each.context) for each in found] == [("Hi", "Shop"), ("", ""), ("", "")]
    assert len({each.topic for each in found}) == 3


def test_a_second_preference_of_the_same_question_finds_its_texts_again(tmp_path: Path) -> None:
    ask = {"query": "Hi"}
    first, second = {"chosen": "a", "rejected": "b"}, {"chosen": "b", "rejected": "c"}
    found = only(tmp_path, ask | first, ask | second)
    assert [(each.chosen, each.rejected) for each in found.preferences] == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "it is not JSON"),
        (b"[1]", "it is no object"),
        (b'{"query": "q", "responses": [{"text": "t", "rating": NaN}]}', "NaN, which is no number"),
        (b'{"query": "q", "responses": [{"text": "t", "rating": 1e999}]}', "too large"),
        (b'{"query": "q", "n": ' + b"9" * 5000 + b"}", "a number that is too long"),
        (b"[" * 100_000, "too deep"),
        (b'{"query": "\xff"}', "it is not UTF-8"),
        ({"query": "q", "responses": [{"text": "t", "rating": 7}]}, "rating must be a number from 1 to 5, not 7"),
        ({"query": "q", "responses": [{"text": "t", "rating": True}]}, "rating must be a number from 1 to 5, not true"),
        ({"query": "q", "responses": [{"text": "t", "rating": "5"}]}, 'rating must be a number from 1 to 5, not "5"'),
        ({"query": "q", "responses": [{"text": "t", "win_rate": 55}]}, "win_rate must be a number from 0 to 1, not 55"),
        ({"query": "q", "responses": [{"text": "t", "rating": 5, "win_rate": 1}]}, "either a rating or a win_rate"),
        ({"query": "q", "responses": [{"text": "t", "aspects": {"acuracy": 5}}]}, "aspects must be an object with"),
        ({"query": "q", "responses": [{"text": "t", "aspects": {"safety": 0}}]}, "aspects.safety must be a number"),
        ({"query": "q", "responses": []}, "responses must be a list of objects"),
        ({"query": "q"}, "responses must be a list of objects"),
        ({"query": "q", "responses": ["t"]}, "responses[0] must be an object"),
        ({"query": "q", "responses": [{"text": 3}]}, "responses[0] must be an object"),
        ({"responses": [{"text": "t"}]}, "query is missing"),
        ({"query": " ", "responses": [{"text": "t"}]}, "query is empty"),
        ({"query": 4, "responses": [{"text": "t"}]}, "query must be a text, not 4"),
        ({"query": "q", "context": 4, "responses": [{"text": "t"}]}, "context must be a text"),
        ({"query": "q", "time": "yesterday", "responses": [{"text": "t"}]}, "time must be as in RFC 3339"),
        ({"query": "q", "time": "0001-01-01T00:00:00+14:00", "responses": [{"text": "t"}]}, "time must be as in"),
        ({"chosen": "a"}, "rejected is missing"),
        ({"chosen": "a", "rejected": None}, "rejected must be a text, not null"),
        ({"chosen": "a", "rejected": "b", "responses": []}, "either responses, or chosen and rejected"),
        ({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: b"}, "does not end with an Assistant turn"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"},
            "do not begin with the same Human turn",
        ),
    ],
)  # fmt: skip
def test_a_line_that_cant_be_used_is_named_in_one_sentence(tmp_path: Path, line: Any, complaint: str) -> None:
    path = written(tmp_path / "data.jsonl", RATED, line)
    with pytest.raises(DataError) as caught:
        files.read(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_marks_line_ends_and_empty_lines_of_other_systems_do_no_harm(tmp_path: Path) -> None:
    line = json.dumps(RATED).encode()
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line)
    assert files.read(path) == files.read(written(tmp_path / "other.jsonl", RATED, RATED))


def test_half_a_surrogate_pair_becomes_a_mark_that_a_tokenizer_takes(tmp_path: Path) -> None:
    found = only(tmp_path, b'{"query": "a\\ud83d", "responses": [{"text": "\\ude00 \\ud83d\\ude00", "rating": 3}]}')
    assert (found.query, found.responses[0].text) == ("a\ufffd", "\ufffd 😀")


def test_an_empty_response_is_a_response(tmp_path: Path) -> None:
    found = only(tmp_path, {"query": "q", "responses": [{"text": "", "rating": 1}]})
    assert [each.text for each in found.responses] == [""]


def test_gzip_is_known_by_its_first_bytes_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(gzip.compress(json.dumps(RATED).encode()))
    assert len(files.read(path)) == 1


@pytest.mark.parametrize("lost", [1, 8, 200])
def test_a_torn_gzip_file_is_never_read_as_a_shorter_one(tmp_path: Path, lost: int) -> None:
    whole = gzip.compress(
        b"".join(json.dumps({**RATED, "query": f"{n} {n * 7919 % 1000}"}).encode() + b"\n" for n in range(300))
    )
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(whole[:-lost])
    with pytest.raises(DataError, match=r"is torn after line \d+"):
        files.read(path)


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_BYTES", 100)
    source = io.BytesIO(b'{"query": "' + b"x" * 1000)
    with pytest.raises(DataError, match=r"^data, line 1: it is longer than"):
        list(lines.objects(source, "data"))


@pytest.mark.parametrize("records", [[], [{"query": "q", "responses": [{"text": "t"}]}]])
def test_a_file_that_judges_nothing_is_refused(tmp_path: Path, records: list[Any]) -> None:
    with pytest.raises(DataError, match="holds nothing to train on"):
        files.read(written(tmp_path / "data.jsonl", *records))


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cant_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="can't be read"):
        files.read(tmp_path / name)


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,queryrsponet0159.eE-\\ud8 \n', max_size=80).map(str.encode))
def test_no_bytes_make_anything_but_objects_or_a_sentence(data: bytes) -> None:
    try:
        found = list(lines.objects(io.BytesIO(data), "data"))
    except DataError as error:
        found, said = [], str(error)
    else:
        said = "data"
    assert said.startswith("data")
    assert all(isinstance(each, dict) for _, each in found)


@given(
    st.lists(
        st.tuples(st.sampled_from(["Human", "Assistant"]), st.text("aé đ:\n", max_size=8).map(str.strip)), min_size=1
    )
)
def test_turns_are_read_back_as_they_were_written(said: list[tuple[str, str]]) -> None:
    kept = [(who, what.replace("\n\n", "\n")) for who, what in said]
    assert list(dialogues.turns("".join(f"\n\n{who}: {what}" for who, what in kept))) == kept


def test_many_empty_lines_in_a_dialogue_take_no_time() -> None:
    assert len(dialogues.turns("\n\nHuman: a" + "\n" * 200_000 + "b")) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Đơn hàng của tôi đâu rồi?", "vi"),
        ("Đơn hàng của tôi đâu rồi?".encode().decode(), "vi"),
        ("Where is my café order, señor?", "latin"),
        ("À la fête, l’élève a été très gênée : où était-elle ?", "latin"),
        ("Где мой заказ?", "cyrillic"),
        ("注文はどこですか", "ja"),
        ("我的订单在哪里", "zh"),
        ("주문은 어디에 있나요", "ko"),
        ("42 + 1 = ?", "unknown"),
        ("", "unknown"),
    ],
)
def test_letters_tell_what_a_text_is_written_in(text: str, expected: str) -> None:
    assert language(text) == expected
