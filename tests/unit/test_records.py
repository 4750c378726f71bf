"""Log rows as records that another process, or another version, reads later."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rollout.registry import Assignment
from server.rollout.types import Kind
from server.storage import rows
from server.storage.records import Row, UnreadableRecord, decode, encode, spooled
from server.types import DegradationReason
from tests.turns import a_turn, an_entry


async def test_a_row_comes_back_with_its_types_and_marked() -> None:
    entry = an_entry(a_turn(request_id="r", query="Đơn hàng 🎉 \u202e e\u0323\u0302", context="\ud800 half a pair"))
    row = Row.of(entry)
    assert decode(encode(row)) == Row({**row.columns, "spooled": True}, row.fingerprint)


async def test_a_spooled_reply_says_so_in_its_row() -> None:
    entry = spooled(an_entry(a_turn()))
    reply = rows.reply_of(decode(encode(Row.of(entry))).columns)
    assert [each.reason for each in reply.degradations] == [DegradationReason.LOG_SPOOLED]


def _assigned(kind: Kind, *, challenger: bool, propensity: float) -> Assignment:
    release = f"{kind}-00000{8 if challenger else 7}"
    return Assignment(
        experiment=f"the {kind}'s",
        kind=kind,
        stage=1,
        challenger=challenger,
        release=release,
        share=0.5,
        propensity=propensity,
        sticky=True,
        held_back=False,
        timed=True,
    )


@pytest.mark.parametrize(
    ("assigned", "arm", "share"),
    [
        ([], "champion", 1.0),
        ([(Kind.REWARD, False, 0.75)], "champion", 0.75),
        ([(Kind.REWARD, True, 0.5), (Kind.POLICY, False, 0.75)], "reward-000008", 0.375),
        ([(Kind.REWARD, True, 0.5), (Kind.POLICY, True, 0.25)], "reward-000008+policy-000008", 0.125),
    ],
)
async def test_a_row_names_what_its_experiments_gave_and_how_probable_that_was(
    assigned: list[tuple[Kind, bool, float]], arm: str, share: float
) -> None:
    assignments = tuple(_assigned(kind, challenger=new, propensity=propensity) for kind, new, propensity in assigned)
    row = decode(encode(Row.of(replace(an_entry(a_turn()), assignments=assignments))))
    assert (row.columns["arm"], row.columns["arm_share"]) == (arm, share)
    assert [Assignment(**each) for each in json.loads(row.columns["assignments"])] == list(assignments)


@given(st.text(), st.floats(0, 1), st.binary())
async def test_any_text_number_and_fingerprint_survive(text: str, score: float, fingerprint: bytes) -> None:
    entry = an_entry(a_turn(query=text, fingerprint=fingerprint), text=text, score=score)
    row = decode(encode(Row.of(entry)))
    assert (row.columns["query"], row.columns["selected_response"], row.columns["reward_score"]) == (text, text, score)
    assert row.fingerprint == entry.turn.fingerprint


async def test_a_row_of_an_older_version_has_fewer_columns() -> None:
    record = json.loads(encode(Row.of(an_entry(a_turn()))))
    del record["columns"]["citations"]
    assert "citations" not in decode(json.dumps(record).encode()).columns


@pytest.mark.parametrize("change", [{"version": 2}, {"columns": {"from_the_future": 1}}, {"fingerprint": "zz"}])
async def test_a_record_of_a_newer_version_is_not_guessed_at(change: dict[str, object]) -> None:
    record = json.loads(encode(Row.of(an_entry(a_turn()))))
    with pytest.raises(UnreadableRecord):
        decode(json.dumps(record | change).encode())


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=8).map(lambda o: json.dumps(o).encode())
)
def test_anything_else_is_unreadable_and_nothing_worse(payload: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        decode(payload)
