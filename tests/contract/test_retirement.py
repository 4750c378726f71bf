"""Retired releases serve nobody, and their files go, once and whole, whoever dies or comes second."""

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from server.errors import ReleaseExists, ReleaseInUse, ReleaseNotFound
from server.rollout import publishing, retirement
from server.rollout.errors import RolloutNotPossible
from server.rollout.publishing import publish
from server.rollout.reconciler import Reconciler
from server.rollout.registry import Retired
from server.rollout.retirement import Remover, retire
from server.rollout.types import Kind, Rollout, State, Trigger
from server.storage import leases, releases, rollouts
from server.storage.rollouts import PostgresRollouts
from tests.conftest import RunningStack
from tests.registered import a_release, drafted, onward, settle, started, two
from tests.releases import reward_directory
from tests.replicas import PlantedTriton, a_replica, installed
from triton_models import manifest, removal

REPLICA = "one:8001"


@dataclass
class Place:
    """A repository, with one published release besides the champion. `needed`: why the deployment needs a release."""

    pool: asyncpg.Pool
    rollouts: PostgresRollouts
    made: Path
    repository: Path
    needed: dict[str, str] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.made.name

    @property
    def staging(self) -> Path:
        return self.repository.with_name("models.staging")

    async def retire(self, release: str = "") -> bool:
        """Whether it was retired before."""
        found, existed = await retire(release or self.name, self.rollouts, lambda name: self.needed.get(name, ""))
        assert found.retired_at is not None
        return existed

    async def is_retired(self, release: str = "") -> bool:
        return (await self.rollouts.release(release or self.name)).retired_at is not None

    def remover(self, *, linger: float = 0.0, **more: Any) -> Remover:
        given: dict[str, Any] = {
            "rollouts": self.rollouts,
            "repository": self.repository,
            "is_gone": lambda name: name not in self.loaded,
            "is_needed": lambda name: self.needed.get(name, ""),
            "names": lambda name: [leases.of_model(REPLICA, name)],
            **more,
        }
        return Remover(linger=linger, **given)

    def present(self) -> bool:
        return (self.repository / self.name).exists()

    def left(self) -> list[str]:
        return [path.name for path in self.staging.iterdir()]


@pytest.fixture
async def place(pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    for name in ("READING", "WRITING"):
        for module in (releases, rollouts):
            monkeypatch.setattr(module, name, 20.0)  # a busy machine is no Postgres that is away
    await settle(pool)
    await pool.execute("UPDATE releases SET retired_at = NULL")
    store = PostgresRollouts(pool)
    found = Place(pool, store, reward_directory(tmp_path / f"reward-{uuid4().hex[:12]}"), tmp_path / "models")
    await publish(found.made, found.repository, store, by="lan")
    yield found
    await settle(pool)
    await pool.execute("UPDATE releases SET retired_at = NULL")


# Retiring


async def test_a_release_is_retired_once_however_often_it_is_asked(place: Place) -> None:
    assert sorted(await asyncio.gather(*(place.retire() for _ in range(5)))) == [False, True, True, True, True]
    at = (await place.rollouts.release(place.name)).retired_at
    assert await place.retire()
    assert (await place.rollouts.release(place.name)).retired_at == at
    with pytest.raises(ReleaseNotFound):
        await place.retire("reward-of-nobody")


async def test_what_serves_or_may_serve_is_not_retired_and_why_is_said(place: Place) -> None:
    champion, challenger = await two(place.rollouts)
    with pytest.raises(ReleaseInUse, match=f"{champion} is the champion of its kind"):
        await place.retire(champion)
    rollout = await place.rollouts.create(drafted(champion, challenger))
    await under_way(place, rollout)
    for release in (champion, challenger):
        with pytest.raises(ReleaseInUse):
            await place.retire(release)
    with pytest.raises(ReleaseInUse, match=rollout.rollout_id):
        await place.retire(challenger)
    place.needed[place.name] = "The settings name it"
    with pytest.raises(ReleaseInUse, match="The settings name it"):
        await place.retire()
    assert [await place.is_retired(each) for each in (champion, challenger, place.name)] == [False] * 3


async def under_way(place: Place, rollout: Rollout) -> Rollout:
    step = started(rollout)
    await place.rollouts.apply(step)
    return step.rollout


async def test_a_former_champion_is_not_retired_while_it_may_have_calls(place: Place) -> None:
    champion, challenger = await two(place.rollouts)
    rollout = await under_way(place, await place.rollouts.create(drafted(champion, challenger)))
    while rollout.state is not State.VERIFIED:
        step = onward(rollout)
        rollout = step.rollout
        await place.rollouts.apply(step)
    await place.pool.execute("UPDATE rollouts SET since = now() WHERE rollout_id = $1::uuid", rollout.rollout_id)
    with pytest.raises(ReleaseInUse, match=r"may still have calls: retire it in \d+ seconds"):
        await place.retire(champion)
    await place.pool.execute(
        "UPDATE rollouts SET since = now() - make_interval(secs => drain_seconds) WHERE rollout_id = $1::uuid",
        rollout.rollout_id,
    )
    assert not await place.retire(champion)


@pytest.mark.parametrize("first", ["retire", "start"])
async def test_a_start_and_a_retirement_at_once_are_one_after_the_other(place: Place, first: str) -> None:
    """The one that holds the champion is waited for, and then seen, whatever the other had read before."""
    champion, challenger = await two(place.rollouts)
    step = started(await place.rollouts.create(drafted(champion, challenger)))
    async with place.pool.acquire() as connection:
        holding = connection.transaction()
        await holding.start()
        await connection.execute("SELECT FROM champions FOR UPDATE")
        work = {"retire": place.retire(challenger), "start": place.rollouts.apply(step)}
        tasks = {}
        for name in sorted(work, key=lambda name: name != first):
            tasks[name] = asyncio.create_task(work[name])
            await waits(place.pool, len(tasks))
        await holding.commit()
    outcomes = {name: (await asyncio.gather(task, return_exceptions=True))[0] for name, task in tasks.items()}
    retired = await place.is_retired(challenger)
    assert retired is (outcomes["retire"] is False)
    assert isinstance(outcomes["start"], RolloutNotPossible) is retired
    assert isinstance(outcomes["retire"], ReleaseInUse) is not retired


async def waits(pool: asyncpg.Pool, count: int) -> None:
    """Returns once so many sessions wait for a lock."""
    async with asyncio.timeout(30):
        while await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") < count:
            await asyncio.sleep(0.01)


async def test_a_draft_of_a_retired_release_is_not_started(place: Place) -> None:
    champion, challenger = await two(place.rollouts)
    step = started(await place.rollouts.create(drafted(champion, challenger)))
    await place.retire(challenger)
    with pytest.raises(RolloutNotPossible, match=f"{challenger} was retired: publish it again first"):
        await place.rollouts.apply(step)


async def test_who_becomes_champion_by_the_settings_is_retired_no_more(place: Place) -> None:
    await place.retire()
    assert (await place.rollouts.crown_first(Kind.REWARD, place.name)).release == place.name
    assert not await place.is_retired()


# Its files


async def test_the_files_go_and_publishing_again_brings_them_back(place: Place) -> None:
    before, _ = await publish(place.made, place.repository, place.rollouts, by="lan")
    await place.retire()
    await place.remover().look()
    assert not place.present()
    assert place.left() == []
    assert place.made.is_dir(), "where it was published from it stays"
    assert await place.is_retired()
    await place.remover().look()
    assert await publish(place.made, place.repository, place.rollouts, by="minh") == (before, True)
    assert manifest.verify(place.repository / place.name).id == place.name
    await place.remover().look()
    assert place.present()


async def test_files_stay_while_anything_could_need_them(place: Place) -> None:
    await place.remover().look()
    assert place.present(), "it is not retired"
    await place.retire()
    await place.remover(linger=600.0).look()
    assert place.present(), "its last calls may still be under way"
    place.loaded.add(place.name)
    await place.remover().look()
    assert place.present(), "a replica has it"
    place.loaded.clear()
    place.needed[place.name] = "The settings of this one name it."
    await place.remover().look()
    assert place.present(), "the settings name it"
    place.needed.clear()
    async with place.pool.acquire() as replay:
        assert await leases.own(replay, leases.of_model(REPLICA, place.name))
        await place.remover().look()
        assert place.present(), "a replay has it"
    await place.remover().look()
    assert not place.present()


async def test_a_repository_that_is_not_there_hinders_nobody(place: Place) -> None:
    await place.retire()
    shutil.rmtree(place.repository)
    await place.remover().look()
    assert await place.is_retired()
    await publish(place.made, place.repository, place.rollouts, by="lan")
    assert place.present()
    assert not await place.is_retired()


async def test_a_folder_that_holds_something_else_is_not_ours_to_remove(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.retire()
    remover = place.remover()
    (place.repository / place.name / manifest.MANIFEST).write_text("{}")
    await remover.look()
    await remover.look()
    assert place.present()
    assert len([text for text in caplog.messages if "holds another release, and stays" in text]) == 1
    (place.repository / place.name / manifest.MANIFEST).unlink()
    await remover.look()
    assert place.present()


async def test_what_can_t_be_removed_is_told_and_holds_up_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = reward_directory(tmp_path / f"reward-{uuid4().hex[:12]}")
    await publish(other, place.repository, place.rollouts, by="lan")
    for name in (place.name, other.name):
        await place.retire(name)
    true = removal.take_out

    def stuck(directory: Path) -> None:
        if directory.name == place.name:
            raise PermissionError(13, "Permission denied")
        true(directory)

    monkeypatch.setattr(retirement, "take_out", stuck)
    await place.remover().look()
    assert place.present()
    assert not (place.repository / other.name).exists()
    assert any(place.name in text and "Permission denied" in text for text in caplog.messages)


async def test_two_leaders_remove_it_once_and_clear_up_after_each_other(place: Place) -> None:
    await place.retire()
    for left in ("retired-of-a-dead-leader", "another-installation"):
        (place.staging / left / "reward-x").mkdir(parents=True)
    removers = [place.remover() for _ in range(4)]
    await asyncio.gather(*(each.look() for each in removers))
    assert not place.present()
    assert place.left() == ["another-installation"]


async def test_another_release_does_not_take_the_place_of_a_removed_one(place: Place, tmp_path: Path) -> None:
    await place.retire()
    await place.remover().look()
    other = reward_directory(tmp_path / "other" / place.name, threshold=0.7)
    with pytest.raises(ReleaseExists, match=place.name):
        await publish(other, place.repository, place.rollouts, by="lan")
    assert not place.present()
    await publish(place.made, place.repository, place.rollouts, by="lan")
    assert place.present()


async def test_publishing_while_a_leader_removes_ends_with_the_files_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader comes between the installation, which finds the files, and the registry."""
    await place.retire()
    true, times = publishing.readmit, list[bool]()

    async def late(directory: Path, store: PostgresRollouts) -> bool:
        if not times:
            await place.remover().look()
        times.append(await true(directory, store))
        return times[-1]

    monkeypatch.setattr(publishing, "readmit", late)
    await publish(place.made, place.repository, place.rollouts, by="lan")
    assert times == [False, True]
    assert place.present()
    assert not await place.is_retired()


async def test_what_is_published_again_while_a_leader_looks_keeps_its_files(place: Place) -> None:
    await place.retire()

    class Slow(PostgresRollouts):
        async def retired(self, age: timedelta) -> list[Retired]:
            found = await super().retired(age)
            await publish(place.made, place.repository, self, by="lan")
            return found

    remover = place.remover(rollouts=Slow(place.pool))
    await remover.look()
    assert place.present()


async def test_many_who_publish_and_retire_and_remove_at_once_leave_files_with_what_is_not_retired(
    place: Place,
) -> None:
    for _ in range(10):
        jobs = (
            *(publish(place.made, place.repository, place.rollouts, by="lan") for _ in range(2)),
            *(place.remover().look() for _ in range(2)),
            place.retire(),
        )
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert [each for each in outcomes if isinstance(each, BaseException)] == []
        assert place.present() or await place.is_retired()
        if not await place.is_retired():
            assert manifest.verify(place.repository / place.name).id == place.name


_KILLED = """
import asyncio, os, signal, sys, tempfile
from pathlib import Path
import asyncpg
from server.rollout import publishing
from server.rollout.retirement import Remover, retire
from server.storage.rollouts import PostgresRollouts
url, made, repository, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]

def dying(owner, name, steps):
    true = getattr(owner, name)
    def call(*given, **named):
        if steps[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps[0] -= 1
        return true(*given, **named)
    setattr(owner, name, call)

async def main(steps):
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        for owner, name in (
            (asyncpg.Connection, "execute"), (asyncpg.Connection, "fetchrow"), (asyncpg.Connection, "fetchval"),
            (Path, "rename"), (os, "fsync"), (tempfile, "mkdtemp"), (os, "rmdir"), (os, "unlink"), (Path, "mkdir"),
        ):
            dying(owner, name, steps)
        store = PostgresRollouts(pool)
        if work == "retire":
            await retire(made.name, store, lambda name: "")
        if work == "remove":
            yes = dict(is_gone=lambda name: True, is_needed=lambda name: "", names=lambda name: ["x"])
            await Remover(store, repository, linger=0.0, **yes).look()
        if work == "publish":
            await publishing.publish(made, repository, store, by="lan")

for line in sys.stdin:
    child = os.fork()
    if not child:
        asyncio.run(main([int(line)]))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.parametrize("work", ["retire", "remove", "publish"])
async def test_a_death_at_any_step_is_gone_on_from(place: Place, stack: RunningStack, work: str) -> None:
    """kill -9 before each statement and each change of the disk. What isn't retired has its files, whole; and what
    comes next ends as if nobody had died."""
    given = (stack.endpoints.database_url, str(place.made), str(place.repository), work)
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    forking = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, *given, cwd=Path.cwd(), **pipes)
    assert forking.stdin is not None
    assert forking.stdout is not None
    for step in range(200):
        await publish(place.made, place.repository, place.rollouts, by="lan")
        if work != "retire":
            await place.retire()
        if work == "publish":
            await place.remover().look()
        forking.stdin.write(f"{step}\n".encode())
        status = int(await forking.stdout.readline())
        assert status in (0, -signal.SIGKILL)
        if place.present():
            assert manifest.verify(place.repository / place.name).id == place.name
        else:
            assert await place.is_retired()
        if status == 0:
            break
        await place.retire()
        await place.remover().look()
        assert not place.present()
        assert [name for name in place.left() if name.startswith("retired-")] == []
    forking.stdin.close()
    assert await forking.wait() == 0
    assert step > 4, "it was killed at as many places"


# What the replicas have


async def test_a_replica_that_has_it_or_says_nothing_is_waited_for(place: Place) -> None:
    champion = f"reward-{uuid4().hex[:12]}"
    installed(place.made.parent, place.repository, champion)
    await place.rollouts.publish(a_release(release=champion))
    await place.rollouts.crown_first(Kind.REWARD, champion)
    one, two_ = PlantedTriton(), PlantedTriton()
    reconciler = Reconciler([a_replica(one, REPLICA), a_replica(two_, "two:8001")], place.rollouts, place.repository)
    assert not reconciler.is_gone(place.name), "nobody was asked yet"
    two_.loaded.add(place.name)
    try:
        await place.retire()
        async with asyncio.timeout(30):
            while two_.loaded != {champion}:
                await reconciler.look()
                assert not (place.name in two_.loaded and reconciler.is_gone(place.name))
        async with asyncio.timeout(30):
            while not reconciler.is_gone(place.name):
                await reconciler.look()
        two_.leaving.add(place.name)
        await reconciler.look()
        assert not reconciler.is_gone(place.name), "it is still being unloaded"
        two_.leaving.clear()
        one.away = True
        await reconciler.look()
        assert not reconciler.is_gone(place.name), "who is silent may have it"
        one.away = False
        async with asyncio.timeout(30):
            while not reconciler.is_gone(place.name):
                await reconciler.look()
        assert not reconciler.is_gone(champion)
        await place.remover(is_gone=reconciler.is_gone).look()
        assert not place.present()
    finally:
        await reconciler.close()


async def test_a_rollout_that_ends_lets_its_challenger_go(place: Place) -> None:
    champion = a_release()
    await place.rollouts.publish(champion)
    await place.rollouts.crown_first(Kind.REWARD, champion.release)
    rollout = await under_way(place, await place.rollouts.create(drafted(champion.release, place.name)))
    step = started(rollout, Trigger.ROLL_BACK)
    await place.rollouts.apply(step)
    with pytest.raises(ReleaseInUse, match="under way"):
        await place.retire()
    await place.rollouts.apply(onward(step.rollout, Trigger.DRAIN))
    assert not await place.retire()
