"""API keys in memory: which are taken, for how long, and what a flood of wrong ones costs."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import keyring
from server.errors import Overloaded, StoreUnavailable, Unauthenticated
from server.identity import Caller, Role
from server.keyring import WAITING, KeyRing, bearer, issue, key_id_of
from server.storage.api_keys import ApiKey


class Store:
    """Keys in this process. `away`: nothing is told; `delay`: seconds that a reading takes."""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.away = False
        self.delay = 0.0
        self.readings = 0
        self.changes = 0

    def add(self, *roles: Role, tenant: str = "default", user: str = "", lasts: timedelta | None = None) -> str:
        """The text of a new key."""
        until = datetime.now(UTC) + lasts if lasts is not None else None
        key, text = issue(tenant, f"key of {tenant}", roles or (Role.CALLER,), user, until)
        self.keys[key.key_id] = key
        self.changes += 1
        return text

    def revoke(self, text: str) -> None:
        del self.keys[key_id_of(text)]
        self.changes += 1

    async def usable(self, known: str) -> tuple[str, list[ApiKey] | None]:
        self.readings += 1
        found, state = list(self.keys.values()), str(self.changes)
        await asyncio.sleep(self.delay)
        if self.away:
            raise StoreUnavailable("Postgres is away.")
        return state, None if state == known else found


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def ring(store: Store) -> AsyncIterator[KeyRing]:
    """Reads on its own accord never while a test runs, and for unknown keys as often as they come."""
    found = KeyRing(store, grace=60, every=3600, at_most_every=0)
    await found.start()
    yield found
    await found.stop()


async def test_a_key_is_its_owners_and_nothing_of_its_secret_is_kept(store: Store, ring: KeyRing) -> None:
    text = store.add(Role.RATER, tenant="công-ty", user="ann")
    who = await ring.caller_of(text)
    assert who == Caller("công-ty", frozenset({Role.RATER}), key_id_of(text), "key of công-ty", "ann")
    secret = text.rpartition("_")[2]
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in f"{ring.__dict__} {store.keys} {who}"
    assert store.keys[who.key_id].digest.hex() not in f"{ring.__dict__} {store.keys} {who}"


async def test_a_new_key_works_at_once_although_a_reading_that_missed_it_is_under_way(
    store: Store, ring: KeyRing
) -> None:
    store.delay = 0.02
    early = asyncio.create_task(ring.caller_of(issue("t", "unknown", [Role.CALLER])[1]))
    while store.readings < 2:
        await asyncio.sleep(0)
    text = store.add()
    assert (await ring.caller_of(text)).key_id == key_id_of(text)
    with pytest.raises(Unauthenticated):
        await early


async def test_a_revoked_key_works_until_the_next_reading_and_not_after(store: Store) -> None:
    ring = KeyRing(store, grace=60, every=0.01, at_most_every=0)
    text = store.add()
    await ring.start()
    who = await ring.caller_of(text)
    ring.require(who)
    store.revoke(text)
    while not ring.empty:
        await asyncio.sleep(0.005)
    with pytest.raises(Unauthenticated):
        await ring.caller_of(text)
    with pytest.raises(Unauthenticated):
        ring.require(who)
    await ring.stop()


async def test_a_key_ends_by_the_clock_without_any_reading(
    store: Store, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = store.add(lasts=timedelta(hours=1))
    who = await ring.caller_of(text)
    later = time.time() + 3600
    clock = SimpleNamespace(time=lambda: later, monotonic=time.monotonic)
    monkeypatch.setattr(keyring, "time", clock)
    for refused in (ring.caller_of(text), _of(lambda: ring.require(who))):
        with pytest.raises(Unauthenticated):
            await refused


async def _of(call: object) -> None:
    call()  # type: ignore[operator]


async def test_while_the_store_is_away_known_keys_work_and_of_others_nobody_can_tell(
    store: Store, ring: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    text = store.add()
    await ring.caller_of(text)
    store.away = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await ring.caller_of(issue("t", "unknown", [Role.CALLER])[1])
    assert (await ring.caller_of(text)).key_id == key_id_of(text)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    store.away = False
    another = store.add()
    assert (await ring.caller_of(another)).key_id == key_id_of(another)


async def test_known_keys_work_no_longer_than_the_grace_without_the_store(store: Store) -> None:
    ring = KeyRing(store, grace=0.0, every=3600)
    text = store.add()
    await ring.start()
    with pytest.raises(StoreUnavailable, match="can't be checked"):
        await ring.caller_of(text)
    await ring.stop()


async def test_a_store_that_is_away_at_the_start_is_told(store: Store) -> None:
    store.away = True
    with pytest.raises(StoreUnavailable):
        await KeyRing(store, grace=60).start()


async def test_a_flood_of_unknown_keys_is_one_reading_a_while_and_few_wait(store: Store) -> None:
    ring = KeyRing(store, grace=60, every=3600, at_most_every=0.05)
    text = store.add()
    await ring.start()
    size = _size(ring)
    began = asyncio.get_running_loop().time()
    flood = [ring.caller_of(issue("t", "unknown", [Role.CALLER])[1]) for _ in range(1000)]
    kinds = [type(error) for error in await asyncio.gather(*flood, return_exceptions=True)]
    assert (kinds.count(Unauthenticated), kinds.count(Overloaded)) == (WAITING, 1000 - WAITING)
    rounds = (asyncio.get_running_loop().time() - began) / 0.05
    assert store.readings <= 2 + rounds
    assert _size(ring) == size, "nothing is kept of keys that are refused"
    assert await ring.caller_of(text)
    await ring.stop()


def _size(ring: KeyRing) -> int:
    return len(ring._held)


async def test_a_wrong_secret_for_a_known_id_is_refused_without_a_reading(store: Store, ring: KeyRing) -> None:
    text = store.add()
    await ring.caller_of(text)
    readings = store.readings
    with pytest.raises(Unauthenticated):
        await ring.caller_of(f"ratchet_{key_id_of(text)}_{secrets.token_hex(32)}")
    assert store.readings == readings


async def test_a_caller_who_leaves_while_it_waits_takes_nobody_along(store: Store, ring: KeyRing) -> None:
    store.delay = 0.02
    unknown = issue("t", "unknown", [Role.CALLER])[1]
    leaving = asyncio.create_task(ring.caller_of(unknown))
    staying = asyncio.create_task(ring.caller_of(unknown))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(Unauthenticated):
        await staying
    assert leaving.cancelled()
    assert ring._waiting == 0


async def test_a_defect_while_reading_ends_neither_the_ring_nor_who_waits(store: Store, ring: KeyRing) -> None:
    original, store.usable = store.usable, None  # type: ignore[method-assign,assignment]
    with pytest.raises(StoreUnavailable):
        await ring.caller_of(issue("t", "unknown", [Role.CALLER])[1])
    store.usable = original  # type: ignore[method-assign]
    assert await ring.caller_of(store.add())


@given(st.text() | st.from_regex(r"ratchet_[0-9a-z]{0,40}_[0-9a-f]{0,70}", fullmatch=True))
async def test_no_text_but_a_known_key_is_one(text: str) -> None:
    ring = KeyRing(Store(), grace=60, every=3600, at_most_every=0)
    await ring.start()
    with pytest.raises(Unauthenticated):
        await ring.caller_of(text)
    await ring.stop()


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("x", "Bearer ratchet_a")],
        [("authorization", "")],
        [("authorization", "Basic dTpw")],
        [("authorization", "ratchet_a")],
        [("authorization", b"Bearer ratchet_a")],
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
    ],
)
def test_metadata_without_one_bearer_key_is_refused(metadata: list[tuple[str, str | bytes]]) -> None:
    with pytest.raises(Unauthenticated):
        bearer(metadata)


def test_the_scheme_may_be_written_in_any_case() -> None:
    assert bearer([("user-agent", "x"), ("authorization", "bEARER  ratchet_a ")]) == "ratchet_a"
