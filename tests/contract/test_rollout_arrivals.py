"""What training makes is published once, or refused with a reason, and rolled out by itself only where that is set."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from server.errors import StoreUnavailable
from server.publisher import Publisher
from server.rollout.arrivals import SETTING, Arrivals
from server.rollout.orders import Order, Orders
from server.rollout.registry import Published
from server.rollout.types import Kind, Rollout, State
from server.storage import arrivals, releases, rollouts
from server.storage.arrivals import PostgresArrivals
from server.storage.rollouts import PostgresRollouts
from server.storage.safety import PostgresSafetyReports
from tests.registered import a_release, drafted, onward, settle, started
from tests.releases import reward_directory
from tests.tenants import Tenant, a_run, a_tenant


@dataclass
class Place:
    """A trainer's directory, and Triton's repository."""

    tenant: Tenant
    rollouts: PostgresRollouts
    trained: Path
    repository: Path

    @property
    def pool(self) -> asyncpg.Pool:
        return self.tenant.pool

    async def run(self, name: str = "", **columns: Any) -> tuple[UUID, Path]:
        """A run that ended with a better release, unless `columns` say otherwise, and that release's directory."""
        path = self.trained / (name or f"reward-{uuid4().hex[:12]}")
        if not path.exists():
            reward_directory(path)
        ended = {"state": "SUCCEEDED", "verdict": "BETTER", "release": path.name, "release_path": str(path)}
        run = await a_run(self.tenant, **{**ended, "ended_at": datetime.now(UTC), **columns})
        return run, path

    def arrivals(self, start: Any = None) -> Arrivals:
        return Arrivals(PostgresArrivals(self.pool), Publisher(self.rollouts, self.repository, {}), start)

    @property
    def orders(self) -> Orders:
        return Orders(self.rollouts, PostgresSafetyReports(self.pool), 120.0)

    async def crown(self) -> Published:
        """A champion that is older than whatever training makes."""
        release = a_release(published_at=datetime.now(UTC) - timedelta(days=1))
        await self.rollouts.publish(release)
        await self.rollouts.crown_first(Kind.REWARD, release.release)
        return release

    async def of(self, release: str) -> list[Rollout]:
        found = await self.rollouts.page(size=100, before="", kind=Kind.REWARD, active_only=False)
        return [each for each in found if each.challenger == release]

    async def refusals(self) -> dict[UUID, str]:
        return {row["training_id"]: row["reason"] for row in await self.pool.fetch("SELECT * FROM refused_releases")}


@pytest.fixture
async def place(pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    for name in ("READING", "WRITING"):
        for module in (releases, rollouts, arrivals):
            monkeypatch.setattr(module, name, 20.0)  # a busy machine is no Postgres that is away
    await settle(pool)
    await forget(pool)
    yield Place(await a_tenant(pool), PostgresRollouts(pool), tmp_path / "trained", tmp_path / "models")
    await settle(pool)
    await forget(pool)


async def forget(pool: asyncpg.Pool) -> None:
    """Nothing that other tests' runs made is waited for, or the newest."""
    await pool.execute("UPDATE training_runs SET release = '' WHERE state = 'SUCCEEDED'")
    await pool.execute("UPDATE releases SET training_id = NULL")
    await pool.execute("DELETE FROM refused_releases")


# Publishing


async def test_a_better_release_is_published_once_with_the_run_that_made_it(place: Place) -> None:
    run, path = await place.run()
    await asyncio.gather(*(place.arrivals().look() for _ in range(3)))
    found = await place.rollouts.release(path.name)
    assert (found.training_id, found.published_by, found.kind) == (run, "training", Kind.REWARD)
    assert (place.repository / path.name / "release.json").read_bytes() == (path / "release.json").read_bytes()
    assert found.digest == hashlib.sha256((path / "release.json").read_bytes()).digest()
    shutil.rmtree(path)
    await place.arrivals().look()
    assert await place.refusals() == {}
    assert await place.of(path.name) == [], "nobody asked for a rollout"


@pytest.mark.parametrize(
    "columns",
    [
        {"verdict": "NOT_BETTER"},
        {"verdict": "TOO_LITTLE_DATA"},
        {"release": ""},
        {"state": "RUNNING"},
        {"state": "FAILED"},
        {"state": "DUPLICATE"},
    ],
)
async def test_a_run_without_a_better_release_publishes_nothing(place: Place, columns: dict[str, Any]) -> None:
    _, path = await place.run(**columns)
    await place.arrivals().look()
    assert not (place.repository / path.name).exists()
    assert await place.refusals() == {}


async def test_what_can_t_be_published_is_refused_with_a_reason_and_not_tried_again(place: Place) -> None:
    torn, path = await place.run()
    (path / "1" / "model.onnx").write_bytes(b"torn")
    gone, elsewhere = await place.run()
    shutil.rmtree(elsewhere)
    good, whole = await place.run()
    await place.arrivals().look()
    reasons = await place.refusals()
    assert reasons.keys() == {torn, gone}, "one does not hold up another"
    assert "model.onnx" in reasons[torn]
    assert str(elsewhere) in reasons[gone]
    assert (await place.rollouts.release(whole.name)).training_id == good
    reward_directory(elsewhere)
    await place.arrivals().look()
    assert not (place.repository / elsewhere.name).exists()


async def test_what_was_refused_is_published_by_hand_and_known_as_the_run_s(place: Place) -> None:
    snapshot = "6" * 64
    await place.pool.execute(
        "INSERT INTO training_snapshots (snapshot, tenant_id, path, watermark, feedback_count, new_count)"
        " VALUES ($1, 'nobody', '/nowhere', '1', 0, 0) ON CONFLICT DO NOTHING",
        snapshot,
    )
    path = reward_directory(place.trained / f"reward-{uuid4().hex[:12]}", data_snapshot=snapshot)
    away = path.rename(place.trained / "away")
    run, _ = await place.run("away", release=path.name, release_path=str(path), snapshot=snapshot)
    await place.arrivals().look()
    assert run in await place.refusals()
    away.rename(path)
    found, before = await Publisher(place.rollouts, place.repository, {})(path, "lan")
    assert (found.training_id, found.published_by, before) == (run, "lan", False)


async def test_what_is_being_published_is_registered_though_whoever_asked_leaves(place: Place) -> None:
    path = reward_directory(place.trained / f"reward-{uuid4().hex[:12]}")
    publish = Publisher(place.rollouts, place.repository, {})
    asking = asyncio.create_task(publish(path, "lan"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    found, before = await publish(path, "minh")
    assert (found.published_by, before) == ("lan", True)


async def test_a_release_that_was_published_before_its_run_ended_learns_of_the_run(place: Place) -> None:
    path = reward_directory(place.trained / f"reward-{uuid4().hex[:12]}")
    await Publisher(place.rollouts, place.repository, {})(path, "lan")
    run, _ = await place.run(path.name)
    await place.arrivals().look()
    found = await place.rollouts.release(path.name)
    assert (found.training_id, found.published_by) == (run, "lan")


async def test_another_release_of_the_same_id_is_refused(place: Place, tmp_path: Path) -> None:
    name = f"reward-{uuid4().hex[:12]}"
    await Publisher(place.rollouts, place.repository, {})(reward_directory(tmp_path / name, threshold=0.7), "lan")
    run, _ = await place.run(name)
    await place.arrivals().look()
    assert name in (await place.refusals())[run]


async def test_while_the_repository_takes_nothing_a_release_waits(place: Place) -> None:
    run, path = await place.run()

    async def full(*_: object) -> None:
        raise StoreUnavailable("The model repository can't take it.")

    with pytest.raises(StoreUnavailable):
        await Arrivals(PostgresArrivals(place.pool), full, None).look()
    assert await place.refusals() == {}
    await place.arrivals().look()
    assert (await place.rollouts.release(path.name)).training_id == run


async def test_what_finds_no_room_keeps_nothing_else_waiting(place: Place) -> None:
    await place.crown()
    _, large = await place.run()
    _, small = await place.run()
    publish = Publisher(place.rollouts, place.repository, {})

    async def nearly_full(path: Path, by: str, training_id: UUID) -> object:
        if path == large:
            raise StoreUnavailable("The model repository can't take it.")
        return await publish(path, by, training_id)

    with pytest.raises(StoreUnavailable, match="can't take it"):
        await Arrivals(PostgresArrivals(place.pool), nearly_full, place.orders.start).look()
    assert [each.state for each in await place.of(small.name)] == [State.PUBLISHED]
    assert await place.refusals() == {}


# Rolling out


async def test_where_it_is_set_the_newest_release_gets_one_default_rollout(place: Place) -> None:
    champion = await place.crown()
    _, older = await place.run()
    await place.arrivals().look()
    _, newer = await place.run()
    await asyncio.gather(*(place.arrivals(place.orders.start).look() for _ in range(3)))
    (rollout,) = await place.of(newer.name)
    assert (rollout.state, rollout.champion) == (State.PUBLISHED, champion.release)
    *_, draft = events = await place.rollouts.events(rollout.rollout_id, size=10, before=0)
    assert {each.actor for each in events} == {SETTING}
    assert "Training made it" in draft.reason
    assert await place.of(older.name) == [], "a newer one is there"
    await place.rollouts.apply(back(rollout))
    await settle(place.pool)
    await place.rollouts.crown_first(Kind.REWARD, champion.release)
    await place.arrivals(place.orders.start).look()
    assert len(await place.of(newer.name)) == 1, "what was rolled back is not tried again"


def back(rollout: Rollout) -> Any:
    return replace(onward(rollout), rollout=replace(rollout, state=State.ROLLING_BACK, version=rollout.version + 1))


async def test_one_that_comes_while_another_is_under_way_waits_for_it(place: Place) -> None:
    champion = await place.crown()
    other = a_release(published_at=champion.published_at)
    await place.rollouts.publish(other)
    made = await place.rollouts.create(drafted(champion.release, other.release))
    await place.rollouts.apply(started(made))
    _, path = await place.run()
    await place.arrivals(place.orders.start).look()
    assert await place.of(path.name) == []
    await settle(place.pool)
    await place.rollouts.crown_first(Kind.REWARD, champion.release)
    await place.arrivals(place.orders.start).look()
    assert [each.state for each in await place.of(path.name)] == [State.PUBLISHED]


async def test_a_leader_that_died_after_the_draft_is_followed_by_one_that_starts_it(place: Place) -> None:
    await place.crown()
    _, path = await place.run()

    async def die(order: Order) -> Rollout:
        await place.orders.start(replace(order, draft=True))
        raise StoreUnavailable("It died.")

    with pytest.raises(StoreUnavailable):
        await place.arrivals(die).look()
    assert [each.state for each in await place.of(path.name)] == [State.DRAFT]
    await place.arrivals(place.orders.start).look()
    assert [each.state for each in await place.of(path.name)] == [State.PUBLISHED]


async def test_a_release_that_somebody_plans_a_rollout_of_is_left_to_them(place: Place) -> None:
    champion = await place.crown()
    _, path = await place.run()
    await place.arrivals().look()
    await place.rollouts.create(drafted(champion.release, path.name))
    await place.arrivals(place.orders.start).look()
    assert [each.state for each in await place.of(path.name)] == [State.DRAFT]


async def test_without_a_champion_or_with_a_newer_one_nothing_is_rolled_out(place: Place) -> None:
    _, path = await place.run()
    await place.arrivals(place.orders.start).look()
    assert await place.of(path.name) == []
    newer = a_release()
    await place.rollouts.publish(newer)
    await place.rollouts.crown_first(Kind.REWARD, newer.release)
    await place.arrivals(place.orders.start).look()
    assert await place.of(path.name) == []


async def test_an_older_release_that_is_published_later_is_no_newer_one(place: Place) -> None:
    """As when a server first looks at what was trained before there were rollouts."""
    day = timedelta(days=1)
    run, path = await place.run(ended_at=datetime.now(UTC) - day)
    await Publisher(place.rollouts, place.repository, {})(path, "the settings", run)
    await place.rollouts.crown_first(Kind.REWARD, path.name)
    _, older = await place.run(ended_at=datetime.now(UTC) - 2 * day)
    await place.arrivals(place.orders.start).look()
    assert (await place.rollouts.release(older.name)).training_id is not None
    assert await place.of(older.name) == []
    _, newer = await place.run()
    await place.arrivals(place.orders.start).look()
    assert len(await place.of(newer.name)) == 1
