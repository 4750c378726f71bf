"""What the context stage gives in time and late, what is kept of a conversation, and how attributes change."""

import asyncio
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import Conflict, InvalidRequest, RequestIdReused, StoreUnavailable
from server.stages import context
from server.storage.memory import GIST, SUMMARY, MemoryUnavailable, cut, gist, size, summary
from server.storage.profiles import ATTRIBUTES, REQUESTS, Attributes, Change, etag, unit
from server.types import Degradation, DegradationReason, Exchange, Recollection
from tests.inmemory import InMemoryMemory, InMemoryProfiles
from tests.turns import a_turn

GIVEN = {"tier": "gold", "language": "vi"}


class Hanging:
    """A store that never answers."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def recall(self, *_: object) -> Any:
        return await self._hang()

    async def get(self, *_: object) -> Any:
        return await self._hang()

    async def _hang(self) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def test_the_users_profile_and_the_sessions_memory_are_recalled() -> None:
    memory, profiles, turn = InMemoryMemory(), InMemoryProfiles(), a_turn()
    await memory.remember(turn.tenant_id, turn.user_id, turn.session_id, turn.response_id, Exchange("q", "r"))
    made = await profiles.put(turn.tenant_id, turn.user_id, Change(GIVEN))
    assert await context.recall(turn, memory, 5) == (Recollection((Exchange("q", "r"),)), ())
    assert await context.profile(turn, profiles, 5) == (made, ())


async def test_strangers_and_anonymous_callers_have_neither_and_nothing_is_degraded() -> None:
    memory, profiles = InMemoryMemory(), InMemoryProfiles()
    assert await context.recall(a_turn(), memory, 5) == (Recollection(), ())
    assert await context.profile(a_turn(), profiles, 5) == (None, ())
    broken = Hanging()
    nobody = a_turn(user_id="", session_id="")
    assert await context.recall(nobody, broken, 5) == (Recollection(), ())  # type: ignore[arg-type]
    assert await context.profile(nobody, broken, 5) == (None, ())  # type: ignore[arg-type]


async def test_stores_that_fail_cost_the_context_and_are_named() -> None:
    memory, profiles = InMemoryMemory(), InMemoryProfiles()
    memory.failures, profiles.failures = [MemoryUnavailable("no memory")], [StoreUnavailable("no profiles")]
    lost = Degradation(DegradationReason.MEMORY_UNAVAILABLE, "no memory")
    assert await context.recall(a_turn(), memory, 5) == (Recollection(), (lost,))
    lost = Degradation(DegradationReason.PROFILE_UNAVAILABLE, "no profiles")
    assert await context.profile(a_turn(), profiles, 5) == (None, (lost,))


async def test_stores_that_hang_are_given_up_at_their_budget() -> None:
    store = Hanging()
    recalled, lost = await context.recall(a_turn(), store, 0.01)  # type: ignore[arg-type]
    assert (recalled, [each.reason for each in lost]) == (Recollection(), [DegradationReason.MEMORY_UNAVAILABLE])
    found, lost = await context.profile(a_turn(), store, 0.01)  # type: ignore[arg-type]
    assert (found, [each.reason for each in lost]) == (None, [DegradationReason.PROFILE_UNAVAILABLE])
    assert store.cancelled == 2


async def test_a_caller_that_leaves_ends_the_lookup() -> None:
    lookup = asyncio.create_task(context.profile(a_turn(), Hanging(), 60))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    lookup.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lookup


@given(st.text(), st.text(), st.integers(1, 400))
def test_a_cut_exchange_fits_and_is_its_own_beginning(query: str, response: str, tokens: int) -> None:
    kept = cut(Exchange(query, response), tokens)
    assert query.startswith(kept.query)
    assert response.startswith(kept.response)
    assert size(kept) <= tokens
    if size(Exchange(query, response)) * 2 <= tokens:
        assert kept == Exchange(query, response)


@given(st.text(st.sampled_from("aế e\u0302\u0301\u0323🎉\n"), max_size=60), st.integers(1, 10))
def test_no_letter_loses_a_mark_where_a_text_is_cut(query: str, tokens: int) -> None:
    kept = cut(Exchange(query, ""), tokens).query
    assert not unicodedata.combining(query[len(kept) : len(kept) + 1] or "x") or not kept


@given(st.text())
def test_a_gist_is_one_short_line(query: str) -> None:
    found = gist(query)
    assert len(found) <= GIST
    assert found.splitlines() in ([found], [])


@given(st.lists(st.text(max_size=GIST).map(gist), max_size=40))
def test_a_summary_is_bounded_and_holds_the_newest(gists: list[str]) -> None:
    found = summary(gists).removeprefix("Asked before: ")
    assert len(found) <= SUMMARY
    asked = [each for each in gists if each]
    assert found == "" if not asked else found.endswith(asked[-1])


def test_a_change_adds_and_removes_and_what_it_gives_wins() -> None:
    known = Attributes({"tier": "gold", "city": "Huế"})
    assert known.after(Change({"tier": "lead"}, remove=("city", "tier"))).values == {"tier": "lead"}
    assert known.after(Change({"a": "b"}, replace=True)).values == {"a": "b"}
    assert known.after(Change({})) == known


def test_an_etag_is_of_the_attributes_in_any_order() -> None:
    assert etag({"a": "1", "b": "2"}) == etag({"b": "2", "a": "1"})
    assert (
        len({etag(each) for each in ({}, {"a": "1"}, {"a": "2"}, {"1": "a"}, {"a": "1", "b": ""}, {"a": '1", "b'})})
        == 6
    )


def test_a_change_needs_the_etag_of_what_it_changes() -> None:
    known = Attributes(GIVEN)
    assert known.after(Change({"tier": "lead"}, etag=etag(GIVEN))).values["tier"] == "lead"
    with pytest.raises(Conflict):
        known.after(Change({"tier": "lead"}, etag=etag({})))
    assert known.after(Change({"tier": "gold"}, etag=etag({}))) == known, "it has happened already"


def test_the_newest_request_ids_are_kept() -> None:
    known = Attributes({})
    for number in range(REQUESTS + 4):
        known = known.after(Change({"n": str(number)}, request_id=f"r{number}"))
    assert [name for name, _ in known.requests] == [f"r{number}" for number in range(4, REQUESTS + 4)]
    assert known.after(Change({"n": "7"}, request_id="r7")) == known
    with pytest.raises(RequestIdReused):
        known.after(Change({"n": "8"}, request_id="r7"))


def test_a_change_may_not_make_too_many_attributes() -> None:
    known = Attributes({f"k{number}": "v" for number in range(ATTRIBUTES)})
    with pytest.raises(InvalidRequest):
        known.after(Change({"one": "more"}))
    assert len(known.after(Change({"one": "more"}, remove=("k0",))).values) == ATTRIBUTES


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz")),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz")),
    st.lists(st.sampled_from("abcd")),
    st.booleans(),
)
def test_a_change_made_twice_is_the_change_made_once(
    known: dict[str, str], attributes: dict[str, str], remove: list[str], replace: bool
) -> None:
    change = Change(attributes, tuple(remove), replace, etag=etag(known))
    once = Attributes(known).after(change)
    assert once.after(change) == once


def test_a_mean_has_a_direction_or_none() -> None:
    assert unit((3.0, 4.0)) == pytest.approx((0.6, 0.8))
    assert unit((0.0, 1e-9)) is None
    assert unit(()) is None
    assert unit(None) is None
