"""The store of profiles: what is in this process, Postgres and OpenSearch pass the same."""

import asyncio
import math
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg
import pytest

from server.errors import Conflict, InvalidRequest, RequestIdReused
from server.storage import opensearch
from server.storage.profiles import ATTRIBUTES, LONGEST_MEMORY, Change, PostgresProfiles, Profiles, etag
from tests.conftest import RunningStack
from tests.inmemory import InMemoryProfiles
from tests.opensearch_api import ABSENT, PLACE, specification
from tests.opensearch_server import OpenSearchServer

MODEL = "test-3"
EAST, NORTH, UP = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
VIETNAMESE = {"ngon_ngu": "tiếng Việt", "decomposed": "tie\u0302\u0301ng Vie\u0323\u0302t", "quotes": "\"a\" \\ 'b' 🎉"}


async def _nothing() -> None: ...


@dataclass
class Store:
    """`again` is the same store as another process sees it; `settle` lets searches see all changes."""

    profiles: Profiles
    again: Profiles
    settle: Callable[[], Awaitable[None]] = _nothing
    tenant: str = field(default_factory=lambda: f"tenant-{uuid.uuid4()}")


@pytest.fixture(params=["in memory", "postgres", "opensearch", "live opensearch"])
async def store(request: pytest.FixtureRequest, stack: RunningStack, pool: asyncpg.Pool) -> AsyncIterator[Store]:
    if request.param == "in memory":
        profiles = InMemoryProfiles()
        yield Store(profiles, profiles)
    elif request.param == "postgres":
        async with asyncpg.create_pool(stack.endpoints.database_url, min_size=1, max_size=4) as other:
            yield Store(PostgresProfiles(pool), PostgresProfiles(other))
    elif request.param == "opensearch":
        if not PLACE.is_dir():
            pytest.skip(ABSENT)
        async with OpenSearchServer(specification()) as server:

            async def refresh() -> None:
                server.refresh()

            one, other = (
                await opensearch.connect(server.url, timeout=60),
                await opensearch.connect(server.url, timeout=60),
            )
            yield Store(one, other, refresh)
            await asyncio.gather(one.close(), other.close())
            assert server.requests
            assert server.problems == []
    else:
        async for live in _live():
            yield live


async def _live() -> AsyncIterator[Store]:
    url = os.environ.get("OPENSEARCH_URL")
    if not url:
        pytest.skip("OPENSEARCH_URL names no OpenSearch to test against")
    one, other = await opensearch.connect(url, timeout=30), await opensearch.connect(url, timeout=30)

    async def refresh() -> None:
        await one._client.indices.refresh(index=opensearch.ALIAS)

    yield Store(one, other, refresh)
    await asyncio.gather(one.close(), other.close())


def lit(*vectors: tuple[tuple[float, float, float], float]) -> tuple[float, ...]:
    """The weighted mean of vectors, at length 1."""
    total = [sum(weight * vector[place] for vector, weight in vectors) for place in range(3)]
    return tuple(value / math.hypot(*total) for value in total)


async def test_nothing_is_known_of_a_stranger(store: Store) -> None:
    assert await store.profiles.get(store.tenant, "nobody") is None
    assert await store.profiles.nearest(store.tenant, EAST, MODEL, 3) == []
    assert await store.profiles.delete(store.tenant, "nobody") is False


async def test_attributes_are_kept_as_they_were_given(store: Store) -> None:
    put = await store.profiles.put(store.tenant, "ann", Change(VIETNAMESE))
    got = await store.again.get(store.tenant, "ann")
    assert got == put
    assert got.attributes == VIETNAMESE
    assert (got.tenant_id, got.user_id) == (store.tenant, "ann")
    assert (got.preference, got.weight, got.model) == (None, 0.0, "")
    assert got.updated_at is not None
    assert got.updated_at.tzinfo is not None


async def test_attributes_that_are_not_named_stay_unless_all_are_replaced(store: Store) -> None:
    await store.profiles.put(store.tenant, "ann", Change({"tier": "gold", "language": "vi", "city": "Huế"}))
    merged = await store.profiles.put(store.tenant, "ann", Change({"tier": "silver"}, remove=("city", "unknown")))
    assert merged.attributes == {"language": "vi", "tier": "silver"}
    replaced = await store.profiles.put(store.tenant, "ann", Change({"city": "Vinh"}, replace=True))
    assert replaced.attributes == {"city": "Vinh"}
    assert (await store.profiles.put(store.tenant, "ann", Change({}, replace=True))).attributes == {}


async def test_a_change_of_what_someone_else_changed_is_refused(store: Store) -> None:
    read = (await store.profiles.put(store.tenant, "ann", Change({"tier": "gold"}))).attributes
    await store.again.put(store.tenant, "ann", Change({"tier": "silver"}))
    with pytest.raises(Conflict):
        await store.profiles.put(store.tenant, "ann", Change({"tier": "none"}, etag=etag(read)))
    assert (await store.profiles.get(store.tenant, "ann")).attributes == {"tier": "silver"}
    fresh = etag({"tier": "silver"})
    assert (await store.profiles.put(store.tenant, "ann", Change({"tier": "none"}, etag=fresh))).attributes == {
        "tier": "none"
    }
    again = await store.profiles.put(store.tenant, "ann", Change({"tier": "none"}, etag=fresh))
    assert again.attributes == {"tier": "none"}, "a repeated change that has happened already is no conflict"


async def test_of_many_changes_of_the_same_version_one_wins(store: Store) -> None:
    before = etag((await store.profiles.put(store.tenant, "ann", Change({"n": "start"}))).attributes)
    changes = [Change({"n": str(number)}, etag=before) for number in range(8)]
    outcomes = await asyncio.gather(
        *(store.profiles.put(store.tenant, "ann", change) for change in changes), return_exceptions=True
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7


async def test_changes_at_once_lose_none(store: Store) -> None:
    stores = (store.profiles, store.again)
    await asyncio.gather(*(stores[n % 2].put(store.tenant, "ann", Change({f"k{n}": "v"})) for n in range(12)))
    assert set((await store.profiles.get(store.tenant, "ann")).attributes) == {f"k{n}" for n in range(12)}


async def test_a_repeated_request_changes_nothing_even_after_others(store: Store) -> None:
    first = Change({"tier": "gold"}, request_id="r1")
    await store.profiles.put(store.tenant, "ann", first)
    await store.profiles.put(store.tenant, "ann", Change({"tier": "silver"}, request_id="r2"))
    assert (await store.again.put(store.tenant, "ann", first)).attributes == {"tier": "silver"}
    with pytest.raises(RequestIdReused):
        await store.profiles.put(store.tenant, "ann", Change({"tier": "lead"}, request_id="r1"))


async def test_too_many_attributes_are_refused_and_change_nothing(store: Store) -> None:
    full = {f"k{number}": "v" for number in range(ATTRIBUTES)}
    await store.profiles.put(store.tenant, "ann", Change(full))
    with pytest.raises(InvalidRequest):
        await store.profiles.put(store.tenant, "ann", Change({"one": "more"}))
    assert (await store.profiles.get(store.tenant, "ann")).attributes == full


async def test_a_refused_change_makes_no_profile(store: Store) -> None:
    with pytest.raises(Conflict):
        await store.profiles.put(store.tenant, "new", Change({"a": "b"}, etag="0123456789abcdef"))
    assert await store.profiles.get(store.tenant, "new") is None


async def test_the_preference_is_the_mean_of_what_was_learned(store: Store) -> None:
    await store.profiles.put(store.tenant, "ann", Change({"tier": "gold"}))
    for vector, weight in ((EAST, 1.0), (NORTH, 3.0), (EAST, 1.0)):
        await store.profiles.learn(store.tenant, "ann", vector, weight, MODEL)
    found = await store.again.get(store.tenant, "ann")
    assert found.preference == pytest.approx(lit((EAST, 2), (NORTH, 3)), abs=1e-6)
    assert (found.weight, found.model, found.attributes) == (5.0, MODEL, {"tier": "gold"})


async def test_what_is_learned_at_once_is_all_in_the_mean(store: Store) -> None:
    lessons = [(EAST, 1.0)] * 6 + [(NORTH, 1.0)] * 9 + [(UP, 0.5)] * 4
    stores = (store.profiles, store.again)
    await asyncio.gather(
        *(stores[n % 2].learn(store.tenant, "ann", *lesson, MODEL) for n, lesson in enumerate(lessons))
    )
    found = await store.profiles.get(store.tenant, "ann")
    assert found.preference == pytest.approx(lit((EAST, 6), (NORTH, 9), (UP, 2)), abs=1e-5)
    assert found.weight == pytest.approx(17)


async def test_learning_and_changing_at_once_lose_neither(store: Store) -> None:
    lessons = (store.profiles.learn(store.tenant, "ann", EAST, 1.0, MODEL) for _ in range(8))
    changes = (store.again.put(store.tenant, "ann", Change({f"k{n}": "v"})) for n in range(8))
    await asyncio.gather(*lessons, *changes)
    found = await store.profiles.get(store.tenant, "ann")
    assert (len(found.attributes), found.weight) == (8, pytest.approx(8))


async def test_what_is_disliked_pushes_the_preference_away(store: Store) -> None:
    await store.profiles.learn(store.tenant, "ann", EAST, 1.0, MODEL)
    await store.profiles.learn(store.tenant, "ann", NORTH, -1.0, MODEL)
    found = await store.profiles.get(store.tenant, "ann")
    assert found.preference == pytest.approx(lit((EAST, 1), (NORTH, -1)), abs=1e-6)
    await store.profiles.learn(store.tenant, "bob", NORTH, -2.0, MODEL)
    assert (await store.profiles.get(store.tenant, "bob")).preference == pytest.approx((0, -1, 0))


async def test_likes_and_dislikes_that_cancel_leave_no_preference_and_no_neighbour(store: Store) -> None:
    await store.profiles.learn(store.tenant, "ann", EAST, 1.0, MODEL)
    await store.profiles.learn(store.tenant, "ann", EAST, -1.0, MODEL)
    found = await store.profiles.get(store.tenant, "ann")
    assert (found.preference, found.weight) == (None, 2.0)
    await store.settle()
    assert await store.profiles.nearest(store.tenant, EAST, MODEL, 3) == []
    await store.profiles.learn(store.tenant, "ann", NORTH, 1.0, MODEL)
    found = await store.profiles.get(store.tenant, "ann")
    assert (found.preference, found.weight) == (pytest.approx(NORTH), 3.0)


async def test_the_past_fades_so_that_preferences_can_move(store: Store) -> None:
    await store.profiles.learn(store.tenant, "ann", EAST, 10 * LONGEST_MEMORY, MODEL)
    assert (await store.profiles.get(store.tenant, "ann")).weight == LONGEST_MEMORY
    await store.profiles.learn(store.tenant, "ann", NORTH, LONGEST_MEMORY, MODEL)
    await store.profiles.learn(store.tenant, "ann", NORTH, LONGEST_MEMORY, MODEL)
    found = await store.profiles.get(store.tenant, "ann")
    assert found.weight == LONGEST_MEMORY
    assert found.preference == pytest.approx(lit((EAST, 1), (NORTH, 3)), abs=1e-6)


async def test_another_model_starts_anew_also_with_other_dimensions(store: Store) -> None:
    await store.profiles.learn(store.tenant, "ann", EAST, 5.0, MODEL)
    await store.profiles.learn(store.tenant, "ann", NORTH, 1.0, "other-3")
    found = await store.profiles.get(store.tenant, "ann")
    assert (found.preference, found.weight, found.model) == (pytest.approx(NORTH), 1.0, "other-3")
    await store.profiles.learn(store.tenant, "ann", (0.6, 0.8), 2.0, "other-2")
    found = await store.profiles.get(store.tenant, "ann")
    assert (found.preference, found.weight, found.model) == (pytest.approx((0.6, 0.8)), 2.0, "other-2")


async def test_a_weight_of_nothing_teaches_nothing(store: Store) -> None:
    await store.profiles.learn(store.tenant, "ann", EAST, 0.0, MODEL)
    assert await store.profiles.get(store.tenant, "ann") is None


async def test_erasing_leaves_nothing(store: Store) -> None:
    await store.profiles.put(store.tenant, "ann", Change({"tier": "gold"}, request_id="r1"))
    await store.profiles.learn(store.tenant, "ann", EAST, 5.0, MODEL)
    await store.settle()
    assert await store.profiles.delete(store.tenant, "ann") is True
    assert await store.again.get(store.tenant, "ann") is None
    assert await store.again.nearest(store.tenant, EAST, MODEL, 3) == [], "searches don't find the erased at once"
    assert await store.profiles.delete(store.tenant, "ann") is False
    await store.profiles.learn(store.tenant, "ann", NORTH, 1.0, MODEL)
    found = await store.profiles.get(store.tenant, "ann")
    assert (found.attributes, found.weight, found.preference) == ({}, 1.0, pytest.approx(NORTH))


async def test_tenants_and_users_never_mix(store: Store) -> None:
    hostile = [
        ("t", "u:1"),
        ("t:u", "1"),
        ("t", "U:1"),
        ("t", "u:1 "),
        ("t", "ú:1"),
        ("t", "u\u0301:1"),
        ("t", "'; --"),
    ]
    pairs = [(f"{store.tenant}{tenant}", user) for tenant, user in hostile]
    for number, pair in enumerate(pairs):
        await store.profiles.put(*pair, Change({"number": str(number)}))
    for number, pair in enumerate(pairs):
        assert (await store.profiles.get(*pair)).attributes == {"number": str(number)}


async def test_the_most_alike_come_first_and_of_this_tenant_and_model_only(store: Store) -> None:
    await store.profiles.prepare(MODEL, 3)
    await store.again.prepare(MODEL, 3)
    near, far = (0.8, 0.6, 0.0), (-1.0, 0.0, 0.0)
    for user, vector in (("near", near), ("same", EAST), ("far", far), ("across", UP)):
        await store.profiles.learn(store.tenant, user, vector, 2.0, MODEL)
    for stranger in range(60):  # more of them than an index looks at, at first
        await store.profiles.learn(f"{store.tenant}-x", f"stranger-{stranger}", EAST, 1.0, MODEL)
    await store.profiles.learn(store.tenant, "elsewhere", EAST, 1.0, "other-3")
    await store.settle()
    found = await store.again.nearest(store.tenant, EAST, MODEL, 3)
    assert [each.user_id for each in found] == ["same", "near", "across"]
    assert [each.similarity for each in found] == pytest.approx([1.0, 0.8, 0.0], abs=1e-6)
    everyone = await store.again.nearest(store.tenant, EAST, MODEL, 50)
    assert (everyone[-1].user_id, everyone[-1].similarity) == ("far", pytest.approx(-1.0))
