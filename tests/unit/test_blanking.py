"""What is left of an erased user's rows and keys, without any store."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from server.storage.blanking import FAILED, blank, objects
from server.storage.keys import key, parts_of
from server.storage.records import Row
from server.storage.rows import reply_of
from tests.turns import a_turn, an_entry

TEXT = st.text().map("a newer text ".__add__)
LISTS = ("all_candidates", "tool_runs", "citations", "degradations")


async def test_a_blank_row_is_still_a_row_and_blanking_it_again_changes_nothing() -> None:
    row = Row.of(an_entry(a_turn(request_id="r", query="Where is Ann?", context="Ann")))
    once = blank(row, "erased-1")
    assert once.columns.keys() == row.columns.keys()
    assert blank(once, "erased-1") == once
    reply = reply_of(once.columns)
    assert (reply.response, reply.candidates[0].reward_score, reply.candidates[1].error) == ("", 0.5, FAILED)
    assert (once.fingerprint, once.columns["user_id"], once.columns["erased"]) == (b"", "erased-1", True)


@settings(max_examples=20)
@given(st.lists(st.dictionaries(TEXT, TEXT | st.lists(TEXT, max_size=2), max_size=3), max_size=3))
def test_of_objects_that_no_version_knows_nothing_stays(found: list[dict[str, Any]]) -> None:
    columns = {name: json.dumps(found) for name in LISTS} | {"selection": json.dumps({"note": found})}
    known = {"text", "error", "detail", "findings", "evidence", "tool", "source", "title", "uri", "score", "excludes"}
    for name, kept in objects(columns).items():
        assert "a newer text" not in kept
        assert name != "selection" or kept == "{}"
        assert all(each.keys() <= known for each in json.loads(kept)) or name == "selection"


@given(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers() | st.text()))
def test_columns_of_another_shape_are_emptied_and_nothing_worse(found: Any) -> None:
    columns = dict.fromkeys((*LISTS, "selection"), json.dumps(found))
    assert objects(columns) == dict.fromkeys(LISTS, "[]") | {"selection": "{}"}


@given(st.lists(st.text(), min_size=1))
def test_the_parts_of_a_key_come_back_from_it(parts: list[str]) -> None:
    assert parts_of(key("session", *parts)) == tuple(parts)


@given(st.text() | st.text("012.:ab").map("ratchet:session:".__add__))
def test_any_other_text_is_no_key_or_is_spelt_as_one(text: str) -> None:
    parts = parts_of(text)
    assert parts is None or key(text.split(":")[1], *parts) == text
