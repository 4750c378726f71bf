"""Records of the spool in a file that was cut off or damaged anywhere."""

from hypothesis import given
from hypothesis import strategies as st

from server.storage.frames import MARK, frame, pieces

payloads = st.lists(st.text(max_size=40).map(str.encode), max_size=6)


def whole(data: bytes) -> list[bytes]:
    return [piece.data for piece in pieces(data) if piece.whole]


def damaged(data: bytes) -> list[bytes]:
    return [piece.data for piece in pieces(data) if not piece.whole]


@given(payloads)
def test_what_was_written_is_read(written: list[bytes]) -> None:
    data = b"".join(map(frame, written))
    assert whole(data) == written
    assert damaged(data) == []


@given(payloads.filter(bool), st.data())
def test_a_file_cut_off_anywhere_gives_all_records_before_and_nothing_of_the_torn_one(
    written: list[bytes], data: st.DataObject
) -> None:
    file = b"".join(map(frame, written))
    cut = data.draw(st.integers(0, len(file) - 1))
    lengths = [len(b"".join(map(frame, written[: n + 1]))) for n in range(len(written))]
    assert whole(file[:cut]) == written[: sum(length <= cut for length in lengths)]
    assert damaged(file[:cut]) == []


@given(payloads.filter(bool), st.data(), st.binary(min_size=1, max_size=8))
def test_damaged_bytes_cost_only_the_records_they_are_in_and_are_kept(
    written: list[bytes], data: st.DataObject, noise: bytes
) -> None:
    framed = [frame(payload) for payload in written]
    hit = data.draw(st.integers(0, len(framed) - 1))
    at = data.draw(st.integers(0, len(framed[hit]) - 1))
    broken = bytearray(framed[hit])
    broken[at : at + len(noise)] = noise[: len(broken) - at]
    if bytes(broken) == framed[hit]:
        return
    file = b"".join([*framed[:hit], bytes(broken), *framed[hit + 1 :]])
    assert whole(file) == written[:hit] + written[hit + 1 :]
    last = hit == len(framed) - 1
    assert damaged(file) == [bytes(broken)] or (last and damaged(file) == [])


def test_a_damaged_length_does_not_swallow_the_next_record() -> None:
    broken = bytearray(frame(b"one"))
    broken[5] = 0xFF
    assert whole(bytes(broken) + frame(b"two")) == [b"two"]


def test_a_damaged_last_record_is_no_torn_one() -> None:
    broken = bytearray(frame(b"acknowledged"))
    broken[-1] ^= 1
    assert damaged(frame(b"one") + bytes(broken)) == [bytes(broken)]


def test_zeros_at_the_end_are_what_a_power_cut_leaves() -> None:
    data = frame(b"one") + bytes(4096)
    assert whole(data) == [b"one"]
    assert damaged(data) == []


def test_a_text_can_not_spell_the_mark() -> None:
    assert MARK not in "õúRS".encode()
    assert whole(frame(b"before " + MARK + b" after")) == [b"before " + MARK + b" after"]


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read_and_none_that_matter_vanish(noise: bytes) -> None:
    data = noise + frame(b"kept")
    assert whole(data)[-1] == b"kept"
    assert sum(map(len, damaged(data))) == (len(noise) if noise else 0) or MARK in noise
