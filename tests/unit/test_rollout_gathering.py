"""Evidence says of which version it is, and no amount of data keeps a safety report waiting."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from server.deliberation import MINIMUM_REWARD
from server.errors import ReleaseNotFound, StoreUnavailable
from server.rollout import evidence, thresholds
from server.rollout.continuity import Continuity, Method, Rated
from server.rollout.controller import Controller
from server.rollout.decision import decide
from server.rollout.evidence import BLIND, RESTING, SETTLING, STALE, Gatherer
from server.rollout.observed import Mark, News, Replies, Report
from server.rollout.readiness import UNSEEN
from server.rollout.registry import Looked, Published, ReplicaModel, ReplicaState
from server.rollout.shadowing import ShadowAnswer
from server.rollout.types import Cause, Kind, Move, Rollout, Safety, State
from tests.rollouts import BEGAN, NEW, OLD, rollout

NAMES = ("end to end", "scoring")
NOBODY = Replies.of((), NAMES)


class Source:
    """Tells of nobody; `ready` holds its answers back, `error` is raised instead, `asked` counts."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.error: Exception | None = None
        self.reported: list[Report] = []
        self.asked: list[int] = []

    async def news(self, of: Rollout, after: Mark) -> News:
        self.asked.append(after.below)
        await self.ready.wait()
        if self.error:
            raise self.error
        return News(Mark(after.below + 10), NOBODY)

    async def reports(self, of: Rollout) -> list[Report]:
        return self.reported

    async def condemned(self, release: str) -> int:
        return 0

    async def shadow(self, rollout_id: str) -> list[ShadowAnswer]:
        return []

    async def shadow_count(self, rollout_id: str) -> int:
        return 0

    async def rated(self, rollout_id: str) -> list[Rated]:
        return []


class Store:
    """Rollouts in memory, of which one is NEW's, ready on one replica."""

    def __init__(self, *rollouts: Rollout) -> None:
        self.rollouts = {each.rollout_id: each for each in rollouts}
        self.looks: list[tuple[str, Looked]] = []
        self.unreadable = ""
        self.registered = True
        self.noted = BEGAN

    async def now(self) -> datetime:
        return BEGAN

    async def active(self) -> list[Rollout]:
        return list(self.rollouts.values())

    async def apply(self, move: Move) -> None:
        self.rollouts[move.rollout.rollout_id] = move.rollout

    async def look(self, rollout_id: str, looked: Looked) -> None:
        if rollout_id == self.unreadable:
            raise StoreUnavailable("Not now.")
        self.looks.append((rollout_id, looked))

    async def replicas(self, release: str | None = None) -> Sequence[ReplicaModel]:
        return [ReplicaModel(replica="a:1", release=NEW, state=ReplicaState.READY, since=BEGAN, checked_at=self.noted)]

    async def release(self, release: str) -> Published:
        if not self.registered:
            raise ReleaseNotFound("It is not there.")
        return Published(
            release=release,
            kind=Kind.REWARD,
            manifest={"threshold": 0.5},
            digest=b"",
            published_at=BEGAN,
            published_by="lan",
            threshold=0.5,
            continuity={"method": "kept"},
        )


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "AT_ONCE", 0.01)


CANARY = rollout(State.CANARY, rollout_id="0190c0de-0000-7000-8000-000000000001")


def gatherer(source: Source, clock: Clock, store: Store | None = None) -> Gatherer:
    return Gatherer(store or Store(CANARY), source, clock)  # type: ignore[arg-type]


async def computed(gathering: Gatherer, of: Rollout = CANARY) -> int:
    """The version of the evidence once what is under way has ended."""
    while gathering._statistics._computing:
        await asyncio.sleep(0.001)
    return (await gathering.of(of)).version


async def test_a_safety_report_is_seen_while_statistics_are_being_computed(clock: Clock) -> None:
    source = Source()
    source.ready.clear()
    source.reported = [Report(UUID(int=1), None)]
    gathering = gatherer(source, clock)
    found = await gathering.of(CANARY)
    assert (found.version, found.safety, found.samples) == (0, Safety(pending=1), 0)
    assert (await gathering.of(CANARY)).version == 0
    assert len(source.asked) == 1  # once at a time
    source.ready.set()
    assert await computed(gathering) == CANARY.version


async def test_statistics_are_read_anew_only_when_they_are_due(clock: Clock) -> None:
    source = Source()
    gathering = gatherer(source, clock)
    await gathering.of(CANARY)
    await computed(gathering)
    for now, times in ((1.9, 1), (2.1, 2)):
        clock.now = now
        await gathering.of(CANARY)
        await computed(gathering)
        assert len(source.asked) == times
    assert source.asked == [0, 10]  # from where the last one ended


async def test_statistics_that_took_long_rest_for_longer(clock: Clock) -> None:
    source = Source()
    source.ready.clear()
    gathering = gatherer(source, clock)
    await gathering.of(CANARY)
    clock.now = 7.0  # so long it took
    source.ready.set()
    await computed(gathering)
    for now, times in ((7 + RESTING * 7 - 1, 1), (7 + RESTING * 7 + 1, 2)):
        clock.now = now
        await gathering.of(CANARY)
        await computed(gathering)
        assert len(source.asked) == times


async def test_after_a_change_the_evidence_is_of_before_until_it_is_computed(clock: Clock) -> None:
    source = Source()
    gathering = gatherer(source, clock)
    await gathering.of(CANARY)
    assert await computed(gathering) == CANARY.version
    source.ready.clear()
    changed = replace(CANARY, version=CANARY.version + 1, stage=1)
    assert (await gathering.of(changed)).version == CANARY.version
    source.ready.set()
    assert await computed(gathering, changed) == changed.version


@pytest.mark.parametrize("error", [StoreUnavailable("Postgres is away."), RuntimeError("a defect")])
async def test_statistics_that_fail_stay_as_they_were_and_grow_stale(
    clock: Clock, error: Exception, caplog: Any
) -> None:
    source = Source()
    gathering = gatherer(source, clock)
    await gathering.of(CANARY)
    assert await computed(gathering) == CANARY.version
    source.error, clock.now = error, 10.0
    await gathering.of(CANARY)
    assert await computed(gathering) == CANARY.version
    assert "stay as they were" in caplog.text
    clock.now = STALE + 1
    await gathering.of(CANARY)
    assert await computed(gathering) == 0
    while gathering._statistics._computing:
        await asyncio.sleep(0.001)
    source.error = None
    await gathering.of(CANARY)
    assert await computed(gathering) == CANARY.version


@pytest.mark.parametrize("knew", [True, False], ids=["after some", "of a new leader"])
async def test_guardrails_that_are_blind_for_long_take_all_traffic_and_say_why(clock: Clock, knew: bool) -> None:
    source = Source()
    gathering = gatherer(source, clock)
    if knew:
        await gathering.of(CANARY)
        await computed(gathering)
    source.error = StoreUnavailable("Postgres is away.")
    for now, unread in ((10.0, ""), (309.0, ""), (310.0, "What users did can't be read for 5 min: Postgres is away.")):
        clock.now = now
        await gathering.of(CANARY)
        await computed(gathering)
        found = await gathering.of(CANARY)
        assert (found.unread, found.figures["unread"]) == (unread, "Postgres is away")
    found = await gathering.of(CANARY)
    decision = decide(CANARY, found, BEGAN)
    assert isinstance(decision, Move)
    assert (set(decision.rollout.causes), decision.reason) == ({Cause.SAMPLE_RATIO}, found.unread)
    source.error = None
    await computed(gathering)
    await gathering.of(CANARY)
    await computed(gathering)
    assert (await gathering.of(CANARY)).unread == ""


async def test_time_in_which_nobody_asks_is_no_failure(clock: Clock) -> None:
    """Without Postgres no look comes so far; what was wrong before says nothing of afterwards."""
    source = Source()
    gathering = gatherer(source, clock)
    source.error = StoreUnavailable("Postgres is away.")
    await gathering.of(CANARY)
    await computed(gathering)
    clock.now = 3600.0
    source.ready.clear()
    assert (await gathering.of(CANARY)).unread == ""
    source.ready.set()
    await gathering.close()


async def test_a_reading_that_never_ends_is_blind_as_well(clock: Clock) -> None:
    source = Source()
    source.ready.clear()
    gathering = gatherer(source, clock)
    assert (await gathering.of(CANARY)).unread == ""
    clock.now = BLIND
    assert (await gathering.of(CANARY)).unread == "What users did is being read, which has not ended for 30 min."
    source.ready.set()
    await computed(gathering)
    assert (await gathering.of(CANARY)).unread == ""


async def test_what_was_noted_of_replicas_long_ago_is_not_believed_but_by_who_just_began_to_lead(clock: Clock) -> None:
    """Else a change of leaders, or a Postgres that was away, would pause it."""
    store = Store(CANARY)
    store.noted = BEGAN - timedelta(seconds=UNSEEN + 1)
    gathering = gatherer(Source(), clock, store)
    assert (await gathering.of(CANARY)).readiness.everywhere
    clock.now = SETTLING
    assert not (await gathering.of(CANARY)).readiness.everywhere
    store.noted = BEGAN
    assert (await gathering.of(CANARY)).readiness.everywhere


async def test_what_is_not_registered_is_not_published(clock: Clock) -> None:
    store = Store(CANARY)
    assert (await gatherer(Source(), clock, store).of(CANARY)).published
    store.registered = False
    assert not (await gatherer(Source(), clock, store).of(CANARY)).published


async def test_what_has_no_users_needs_no_observations(clock: Clock) -> None:
    source = Source()
    loading = replace(CANARY, state=State.PUBLISHED)
    gathering = gatherer(source, clock)
    await gathering.of(loading)
    assert await computed(gathering, loading) == loading.version
    assert source.asked == []


async def test_a_rollout_that_ended_is_forgotten(clock: Clock) -> None:
    source = Source()
    gathering = gatherer(source, clock)
    await gathering.of(CANARY)
    await computed(gathering)
    gathering.keep([])
    await gathering.of(CANARY)
    await computed(gathering)
    assert source.asked == [0, 0]


async def test_one_rollout_that_cant_be_looked_at_keeps_the_other_from_nothing() -> None:
    other = replace(CANARY, rollout_id="0190c0de-0000-7000-8000-000000000002", kind=Kind.POLICY)
    store, source = Store(CANARY, other), Source()
    store.unreadable = CANARY.rollout_id
    steering = Controller(store, source)  # type: ignore[arg-type]
    await steering.look()
    assert [name for name, _ in store.looks] == [other.rollout_id]
    await steering.close()


async def test_a_threshold_is_matched_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of scores take half a second, in which a server would answer nobody."""
    threads: list[int] = []

    def carried(*_: object) -> Continuity:
        threads.append(threading.get_ident())
        return kept

    kept = Continuity(0.5, Method.KEPT, 0, 0, None, None, "It stays.")
    monkeypatch.setattr(thresholds, "carry_over", carried)
    store: Any = Store(CANARY)
    source: Any = Source()
    assert await thresholds.carry(store, source, replace(CANARY, state=State.SHADOW)) is kept
    assert threads
    assert threading.get_ident() not in threads


async def test_a_champion_without_a_threshold_passes_what_all_do_that_have_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a challenger which has a number of its own moves nothing either."""
    given: list[float] = []

    def carried(champion: float, *_: object) -> Continuity:
        given.append(champion)
        return Continuity(champion, Method.KEPT, 0, 0, None, None, "It stays.")

    monkeypatch.setattr(thresholds, "carry_over", carried)
    store: Any = Store(CANARY)
    source: Any = Source()
    own = await store.release(OLD)
    releases: dict[str, Published] = {OLD: replace(own, threshold=None, manifest={}), NEW: replace(own, threshold=0.5)}
    kept: list[tuple[str, float]] = []

    async def release(name: str) -> Published:
        return releases[name]

    async def keep(name: str, threshold: float, _: object) -> None:
        kept.append((name, threshold))

    store.release, store.set_threshold = release, keep
    await thresholds.carry(store, source, replace(CANARY, state=State.LOADED))
    assert given == [MINIMUM_REWARD]
    assert kept == [(NEW, MINIMUM_REWARD)]


async def test_a_report_pauses_at_the_very_next_look() -> None:
    store, source = Store(CANARY), Source()
    source.ready.clear()
    source.reported = [Report(UUID(int=1), None)]
    steering = Controller(store, source)  # type: ignore[arg-type]
    await steering.look()
    assert store.rollouts[CANARY.rollout_id].causes == {Cause.SAFETY}
    await steering.close()
