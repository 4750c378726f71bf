"""Receipts: made by us, for one reply to one user, and for nobody else."""

import base64
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import ReceiptInvalid
from server.feedback.receipts import Receipts, _signature
from server.feedback.types import GivenReply

SECRET = b"s" * 32
RECEIPTS = Receipts([SECRET])
REPLY = GivenReply(
    tenant_id="default",
    response_id=UUID("0190b5a4-1111-7222-8333-444455556666"),
    user_id="Nguyễn Thị Ánh",
    session_id="s1",
    created_at=datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC),
    policy_release="policy-000001",
    reward_release="reward-000001",
    logged=False,
)
RECEIPT = RECEIPTS.make(REPLY)
NAMES = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=128)


@given(NAMES, NAMES, st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)), st.uuids())
def test_a_receipt_says_of_which_reply_it_is(user: str, session: str, created: datetime, response_id: UUID) -> None:
    reply = replace(REPLY, user_id=user, session_id=session, created_at=created, response_id=response_id)
    receipt = RECEIPTS.make(reply)
    assert RECEIPTS.read(receipt) == reply
    assert RECEIPTS.require(receipt, "default", response_id, user) == reply
    assert len(receipt) <= 2048
    assert set(receipt) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


@given(st.integers(0, len(RECEIPT) - 1), st.characters())
def test_any_changed_character_is_refused(place: int, character: str) -> None:
    changed = RECEIPT[:place] + character + RECEIPT[place + 1 :]
    if changed != RECEIPT:
        with pytest.raises(ReceiptInvalid):
            RECEIPTS.read(changed)


@given(st.integers(0, len(RECEIPT) - 1))
def test_a_part_of_a_receipt_is_refused(length: int) -> None:
    with pytest.raises(ReceiptInvalid):
        RECEIPTS.read(RECEIPT[:length])


@given(st.text())
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(ReceiptInvalid):
        RECEIPTS.read(text)


def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    body, _, signature = RECEIPT.partition(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(signature[-1]) ^ 1]  # the last two bits of 43 characters belong to no byte
    assert base64.urlsafe_b64decode(signature + "=") == base64.urlsafe_b64decode(signature[:-1] + other + "=")
    for spelling in (f"{body}.{signature[:-1]}{other}", f"{body}.{signature}=", f"{body}=.{signature}", f"{RECEIPT}."):
        with pytest.raises(ReceiptInvalid):
            RECEIPTS.read(spelling)


@pytest.mark.parametrize(
    "claim",
    [
        ("other", REPLY.response_id, REPLY.user_id),
        ("default", uuid4(), REPLY.user_id),
        ("default", REPLY.response_id, "bob"),
    ],
)
def test_a_receipt_of_another_tenant_reply_or_user_is_refused(claim: tuple[str, UUID, str]) -> None:
    with pytest.raises(ReceiptInvalid):
        RECEIPTS.require(RECEIPT, *claim)


def test_who_does_not_know_the_secret_can_make_none() -> None:
    with pytest.raises(ReceiptInvalid):
        RECEIPTS.read(Receipts([b"x" * 32]).make(REPLY))


def test_older_secrets_still_verify_and_the_newest_signs() -> None:
    rotated = Receipts([b"n" * 32, SECRET])
    assert rotated.read(RECEIPT) == REPLY
    assert Receipts([b"n" * 32]).read(rotated.make(REPLY)) == REPLY


def test_a_version_that_is_not_known_is_refused() -> None:
    body = base64.urlsafe_b64encode(b"\x02[]").decode().rstrip("=")
    with pytest.raises(ReceiptInvalid):
        RECEIPTS.read(f"{body}.{_signature(SECRET, body)}")


def test_the_longest_names_fit() -> None:
    reply = replace(REPLY, tenant_id="t" * 64, user_id="𠜎" * 128, session_id="𠜎" * 128, policy_release="p" * 64)
    assert len(RECEIPTS.make(reply)) <= 2048
