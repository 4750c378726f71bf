"""Each Triton replica is brought to have what the rollouts want, says how that stands, and keeps what is not ours."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from server import services
from server.errors import (
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    ConfigurationError,
    StoreUnavailable,
    UnreadableRow,
)
from server.rollout import probing, reconciler, tending
from server.rollout.holding import Holder
from server.rollout.loading import Loader, NotYet, Wish
from server.rollout.plan import Plan
from server.rollout.readiness import readiness
from server.rollout.reconciler import Reconciler
from server.rollout.registry import ReplicaModel, ReplicaState
from server.rollout.replicas import Replica
from server.rollout.types import Kind, Rollout, Trigger
from server.storage import releases as store
from server.storage.rollouts import PostgresRollouts
from tests.conftest import RunningStack
from tests.registered import a_release, drafted, no_rollout_made_the_champion, onward, settle, started
from tests.replicas import PlantedTriton, a_replica, installed
from triton_models import manifest
from triton_models.config import Options
from triton_models.manifest import read
from triton_models.release import add_code

MB = 1 << 20


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused is tried again at the next look; a busy machine is no Postgres that is away."""
    for name in ("LONGEST_RETRY", "LONGEST_WAIT"):
        monkeypatch.setattr(tending, name, 0.0)
    for name in ("READING", "WRITING"):
        monkeypatch.setattr(store, name, 20.0)


@dataclass
class Place:
    """A repository, and the rollouts of a reward: `champion` and `challenger` are in it."""

    rollouts: PostgresRollouts
    home: Path
    repository: Path
    champion: str
    challenger: str
    reconcilers: list[Reconciler] = field(default_factory=list)

    def reconciler(self, *backends: PlantedTriton, **more: object) -> Reconciler:
        """One for replicas one:8001, two:8001 and so on."""
        names = ("one", "two", "three")
        replicas = [a_replica(backend, f"{name}:8001") for name, backend in zip(names, backends, strict=False)]
        return self.of(replicas, **more)

    def of(self, replicas: list[Replica], **more: object) -> Reconciler:
        made = Reconciler(replicas, self.rollouts, self.repository, **more)  # type: ignore[arg-type]
        self.reconcilers.append(made)
        return made

    async def start(self, plan: Plan | None = None) -> Rollout:
        """A rollout of the challenger that is being loaded."""
        made = await self.rollouts.create(drafted(self.champion, self.challenger, plan=plan))
        step = started(made)
        await self.rollouts.apply(step)
        return step.rollout

    async def states(self, release: str) -> dict[str, ReplicaState]:
        return {model.replica: model.state for model in await self.rollouts.replicas(release)}

    async def model(self, release: str) -> ReplicaModel:
        (found,) = await self.rollouts.replicas(release)
        return found


@pytest.fixture
async def place(pool: asyncpg.Pool, tmp_path: Path) -> AsyncIterator[Place]:
    await settle(pool)
    rollouts, repository = PostgresRollouts(pool), tmp_path / "models"
    names = [f"reward-{uuid4().hex[:12]}" for _ in range(2)]
    for name in names:
        installed(tmp_path, repository, name)
        await rollouts.publish(a_release(release=name))
    await rollouts.crown_first(Kind.REWARD, names[0])
    found = Place(rollouts, tmp_path, repository, names[0], names[1])
    yield found
    for each in found.reconcilers:
        await each.close()
    await settle(pool)


async def looks(of: Reconciler, until: Callable[[], object]) -> None:
    """Looks again and again until it is so."""
    async with asyncio.timeout(30):
        while True:
            await of.look()
            outcome = until()
            if await outcome if asyncio.iscoroutine(outcome) else outcome:
                return
            await asyncio.sleep(0.01)


def stands(place: Place, release: str, *states: ReplicaState) -> Callable[[], object]:
    async def ask() -> bool:
        return tuple((await place.states(release)).values()) == states

    return ask


READY, LOADING, REFUSED = ReplicaState.READY, ReplicaState.LOADING, ReplicaState.REFUSED


# What is wanted is loaded


async def test_each_replica_gets_champion_challenger_and_what_no_rollout_changes(place: Place) -> None:
    one, two = PlantedTriton(), PlantedTriton()
    installed(place.home, place.repository, "reward-fallback")
    await place.start()
    await looks(
        place.reconciler(one, two, static_models=["reward-fallback"]), stands(place, place.challenger, READY, READY)
    )
    assert one.loaded == two.loaded == {place.champion, place.challenger, "reward-fallback"}
    found = readiness(await place.rollouts.replicas(), place.challenger, await place.rollouts.now())
    assert (found.everywhere, found.replicas, found.refusal) == (True, 2, "")


async def test_a_draft_loads_nothing(place: Place) -> None:
    one = PlantedTriton()
    await place.rollouts.create(drafted(place.champion, place.challenger))
    await looks(place.reconciler(one), stands(place, place.champion, READY))
    assert one.loads == [place.champion]


async def test_a_look_does_not_wait_for_a_model_to_load(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a model that never loads it returns, and says that the model is being loaded; once."""
    monkeypatch.setattr(reconciler, "LOOK_SECONDS", 30.0)
    one = PlantedTriton()
    one.go_on.clear()
    looking = place.reconciler(one)
    await looks(looking, lambda: one.loads)
    for _ in range(3):
        await looking.look()
    assert one.loads == [place.champion]
    assert (await place.model(place.champion)).state is LOADING
    one.go_on.set()
    await looks(looking, stands(place, place.champion, READY))
    assert one.loads == [place.champion]


async def test_one_replica_that_hangs_does_not_hold_up_the_other(place: Place) -> None:
    one, two = PlantedTriton(), PlantedTriton()
    one.go_on.clear()
    await looks(place.reconciler(one, two), stands(place, place.champion, LOADING, READY))


async def test_a_new_leader_takes_over_what_is_loaded(place: Place) -> None:
    """It asks it its golden inputs, and loads nothing again: Triton would answer with neither meanwhile."""
    one = PlantedTriton()
    await looks(place.reconciler(one), stands(place, place.champion, READY))
    one.loads.clear()
    await settle_replicas(place)
    await looks(place.reconciler(one), stands(place, place.champion, READY))
    assert one.loads == []


async def settle_replicas(place: Place) -> None:
    await place.rollouts.report([], [])


async def test_a_change_of_leaders_makes_nothing_unready(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the one before found is not asked again, and nobody is told that it is being loaded."""
    one = PlantedTriton()
    await place.start()
    await looks(place.reconciler(one), stands(place, place.challenger, READY))
    before = await place.model(place.challenger)
    seen: list[ReplicaModel] = []
    true = place.rollouts.report

    async def report(models: Sequence[ReplicaModel], replicas: Sequence[str]) -> None:
        seen.extend(models)
        await true(models, replicas)

    monkeypatch.setattr(place.rollouts, "report", report)
    asked, successor = one.asked, place.reconciler(one)
    for _ in range(3):
        await successor.restore()  # it does not lead yet
    await looks(successor, lambda: seen)
    assert {model.state for model in seen} == {READY}
    assert (await place.model(place.challenger)).since == before.since
    assert one.asked == asked


async def test_who_does_not_lead_leaves_loading_to_who_does(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    one = PlantedTriton()
    other = place.reconciler(one)
    await other.bring([place.champion])
    await place.start()
    for _ in range(3):
        await other.restore()
    assert one.loads == [place.champion]
    monkeypatch.setattr(reconciler, "RESTORE_AFTER", 0.01)
    async with asyncio.timeout(30):
        while place.challenger not in one.loaded:
            await other.restore()
            await asyncio.sleep(0.01)


async def test_who_does_not_lead_forgets_who_was_the_champion(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would load again for ever what the leader unloads."""
    monkeypatch.setattr(reconciler, "RESTORE_AFTER", 0.01)
    one = PlantedTriton()
    other = place.reconciler(one)
    await other.bring([place.champion])
    await place.rollouts.crown_first(Kind.REWARD, place.challenger)
    pool = place.rollouts._pool
    await pool.execute("UPDATE champions SET release = $1", place.challenger)
    one.loaded = {place.challenger}
    for _ in range(5):
        await other.restore()
        await asyncio.sleep(0.02)
    assert one.loaded == {place.challenger}


# What is refused


async def test_a_torn_release_is_refused_before_triton_sees_it(place: Place) -> None:
    """And taken once it was mended."""
    one = PlantedTriton()
    file = place.repository / place.challenger / "1" / "model.onnx"
    content = file.read_bytes()
    file.write_bytes(content[:3])
    await place.start()
    looking = place.reconciler(one)
    await looks(looking, stands(place, place.challenger, REFUSED))
    assert "was altered: its SHA-256 is not the manifest's" in (await place.model(place.challenger)).refusal
    assert one.loads == [place.champion]
    assert (
        "one:8001: " in readiness(await place.rollouts.replicas(), place.challenger, await place.rollouts.now()).refusal
    )
    file.write_bytes(content)
    await looks(looking, stands(place, place.challenger, READY))
    assert (await place.model(place.challenger)).refusal == ""


async def test_weights_are_read_again_whenever_triton_reads_them_and_never_else(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have gigabytes. What Triton has in memory is only asked; what was altered meanwhile is found when it is to
    be loaded again."""
    hashed: list[Path] = []
    sha256 = manifest.sha256

    def noted(path: Path) -> str:
        hashed.append(path)
        return sha256(path)

    one = PlantedTriton()
    one.loaded = {place.champion}
    file = place.repository / place.champion / "1" / "model.onnx"
    monkeypatch.setattr(manifest, "sha256", noted)
    await looks(place.reconciler(one), stands(place, place.champion, READY))
    assert file not in hashed
    assert any(path.parent.name == "tokenizer" for path in hashed), "that is ours to read"
    file.write_bytes(b"weightz")
    one.loaded = set()
    await looks(place.reconciler(one), stands(place, place.champion, REFUSED))
    assert file in hashed
    assert place.champion not in one.loads


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: (path / "release.json").unlink(), "is not a release: it has no release.json"),
        (lambda path: (path / "1" / "model.onnx").unlink(), "is missing: copy or export the release again"),
        (lambda path: (path / "1" / "more.onnx").write_bytes(b""), "is not named in the release's manifest"),
        (lambda path: path.rename(path.with_name("gone")), "is not a release"),
    ],
)
async def test_a_tampered_release_is_refused(place: Place, damage: Callable[[Path], object], says: str) -> None:
    one = PlantedTriton()
    damage(place.repository / place.challenger)
    await place.start()
    await looks(place.reconciler(one), stands(place, place.challenger, REFUSED))
    assert says in (await place.model(place.challenger)).refusal
    assert place.challenger not in one.loads


async def test_a_directory_that_holds_another_release_is_refused(place: Place) -> None:
    one = PlantedTriton()
    (place.repository / place.challenger).rename(place.home / "aside")
    shutil.copytree(place.repository / place.champion, place.repository / place.challenger)
    await place.start()
    await looks(place.reconciler(one), stands(place, place.challenger, REFUSED))
    assert f"holds the release {place.champion}" in (await place.model(place.challenger)).refusal


async def test_what_loads_too_slowly_is_refused_and_taken_once_it_is_there(place: Place) -> None:
    one = PlantedTriton()
    looking = place.reconciler(one)
    await looks(looking, stands(place, place.champion, READY))
    one.refusals = [BackendTimeout("late")]
    await place.start(Plan(load_seconds=7))
    await looks(looking, stands(place, place.challenger, REFUSED))
    assert (await place.model(place.challenger)).refusal == f"{place.challenger} was not loaded within 7 s."
    await looks(looking, stands(place, place.challenger, READY))


async def test_what_triton_says_against_it_is_told(place: Place) -> None:
    one = PlantedTriton()
    looking = place.reconciler(one)
    await looks(looking, stands(place, place.champion, READY))
    one.refusals = [BackendRefused("CUDA out of memory\n\nAt: line 7")]
    await place.start()
    await looks(looking, stands(place, place.challenger, REFUSED))
    told = (await place.model(place.challenger)).refusal
    assert told == f"Triton does not load {place.challenger}: CUDA out of memory."


async def test_a_triton_that_is_only_away_refuses_nothing(place: Place) -> None:
    one = PlantedTriton()
    one.refusals = [BackendUnavailable("restarting"), BackendUnavailable("restarting")]
    looking = place.reconciler(one)
    await looks(looking, lambda: len(one.loads) == 2)
    assert (await place.model(place.champion)).state is LOADING
    await looks(looking, stands(place, place.champion, READY))


async def test_without_room_nothing_is_loaded_but_what_users_have(place: Place) -> None:
    one = PlantedTriton()
    await place.start()
    await looks(place.of([a_replica(one, room=10 * MB)]), stands(place, place.challenger, REFUSED))
    told = (await place.model(place.challenger)).refusal
    assert told == f"There is no room for {place.challenger}: it takes about 96 MB, and 10 MB are free."
    assert one.loads == [place.champion]


async def test_room_that_is_coming_free_is_waited_for(place: Place) -> None:
    """What is being unloaded gives its memory back: no reason to fail a rollout."""
    one, free = PlantedTriton(), [10 * MB]
    one.leaving = {"reward-of-old"}
    await place.start()
    looking = place.of([replace(a_replica(one), available=lambda: free[0])])
    await looks(looking, stands(place, place.champion, READY))
    for _ in range(5):
        await looking.look()
    assert (await place.model(place.challenger)).state is LOADING
    free[0], one.leaving = 500 * MB, set()
    await looks(looking, stands(place, place.challenger, READY))


async def test_what_users_have_is_loaded_before_challengers(place: Place) -> None:
    one = PlantedTriton()
    one.go_on.clear()
    await place.start()
    looking = place.reconciler(one)
    await looks(looking, lambda: one.loads)
    for _ in range(3):
        await looking.look()
        await asyncio.sleep(0.05)
    assert one.loads == [place.champion]
    assert (await place.model(place.challenger)).state is LOADING
    one.go_on.set()
    await looks(looking, stands(place, place.challenger, READY))


async def test_challengers_that_load_side_by_side_do_not_count_on_the_same_room(place: Place) -> None:
    one = PlantedTriton()
    one.go_on.clear()
    loader = Loader(a_replica(one, room=150 * MB), place.repository)
    wish, both = Wish(60.0, essential=False), (place.champion, place.challenger)
    tasks = [asyncio.create_task(loader.load(name, wish, loaded=False, freeing=False)) for name in both]
    done, under_way = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert (len(one.loads), len(under_way)) == (1, 1)
    with pytest.raises(NotYet, match=r"There is no room for .* yet: it takes about 96 MB, and 53 MB are free\."):
        await done.pop()
    one.go_on.set()
    await under_way.pop()


async def test_a_model_that_answers_wrongly_is_refused(place: Place) -> None:
    one = PlantedTriton()
    one.off = 0.02
    looking = place.reconciler(one)
    await looks(looking, stands(place, place.champion, REFUSED))
    told = (await place.model(place.champion)).refusal
    assert told.startswith(f"{place.champion} is loaded, and answers its golden inputs wrongly: ")
    assert told.endswith(": logit is off by up to 0.02; 0.01 is allowed.")
    one.off = 0.0
    await looks(looking, stands(place, place.champion, READY))


async def test_a_model_that_gives_no_answer_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    one = PlantedTriton()
    one.faults.delay = 1.0
    monkeypatch.setattr(probing, "WARM_UP_SECONDS", 0.01)
    await looks(place.reconciler(one), stands(place, place.champion, REFUSED))
    assert "does not answer its golden inputs in time" in (await place.model(place.champion)).refusal


# What serves nobody any more


async def test_a_challenger_that_failed_is_unloaded_and_forgotten(place: Place) -> None:
    one = PlantedTriton()
    looking = place.reconciler(one)
    rollout = await place.start()
    await looks(looking, stands(place, place.challenger, READY))
    await place.rollouts.apply(onward(rollout, Trigger.FAIL))
    await looks(looking, stands(place, place.challenger))
    assert (one.unloads, one.loaded) == ([place.challenger], {place.champion})


async def test_a_challenger_that_rolls_back_keeps_its_model_while_it_may_have_calls(place: Place) -> None:
    one = PlantedTriton()
    looking = place.reconciler(one)
    rollout = await place.start()
    await looks(looking, stands(place, place.challenger, READY))
    await place.rollouts.apply(onward(rollout, Trigger.ROLL_BACK))
    for _ in range(3):
        await looking.look()
    assert one.unloads == []


async def test_what_is_not_ours_is_never_unloaded(place: Place) -> None:
    one = PlantedTriton()
    one.loaded = {"somebody-elses-model"}
    looking = place.reconciler(one)
    await looks(looking, stands(place, place.champion, READY))
    for _ in range(3):
        await looking.look()
    assert one.unloads == []
    assert "somebody-elses-model" in one.loaded


async def test_nothing_is_unloaded_while_the_champion_is_not_there(place: Place) -> None:
    """What is loaded may be what answers instead of it."""
    one = PlantedTriton()
    one.loaded = {place.challenger}
    (place.repository / place.champion / "1" / "model.onnx").unlink()
    looking = place.reconciler(one)
    await looks(looking, stands(place, place.champion, REFUSED))
    for _ in range(3):
        await looking.look()
    assert one.unloads == []


async def test_releases_of_a_kind_without_a_champion_are_left_alone(place: Place) -> None:
    """Whoever serves of it is not known: another version of Ratchet may."""
    one = PlantedTriton()
    other = a_release(Kind.POLICY)
    await place.rollouts.publish(other)
    one.loaded = {other.release}
    looking = place.reconciler(one)
    await looks(looking, stands(place, place.champion, READY))
    assert one.unloads == []


async def test_a_champion_stays_for_its_calls_once_settings_made_another(pool: asyncpg.Pool, place: Place) -> None:
    await no_rollout_made_the_champion(pool)
    one = PlantedTriton()
    looking = place.reconciler(one, linger=3600.0)
    await looks(looking, stands(place, place.champion, READY))
    await place.rollouts.crown_configured(Kind.REWARD, place.challenger)
    await looks(looking, stands(place, place.challenger, READY))
    for _ in range(3):
        await looking.look()
    assert one.unloads == []
    looking._linger *= 0
    await looks(looking, lambda: one.unloads == [place.champion])


@pytest.mark.parametrize("trouble", ["slow", "refuses"])
async def test_the_champion_before_stays_everywhere_until_each_replica_is_ready_with_the_next_one(
    pool: asyncpg.Pool, place: Place, trouble: str
) -> None:
    """Servers follow the next one no sooner: a balancer gives their calls to any replica."""
    await no_rollout_made_the_champion(pool)
    one, two = PlantedTriton(), PlantedTriton()
    looking = place.reconciler(one, two)
    await looks(looking, stands(place, place.champion, READY, READY))
    if trouble == "slow":
        two.go_on.clear()
    else:
        two.off = 0.02
    await place.rollouts.crown_configured(Kind.REWARD, place.challenger)
    await looks(looking, stands(place, place.challenger, READY, LOADING if trouble == "slow" else REFUSED))
    for _ in range(3):
        await looking.look()
    assert one.unloads == two.unloads == []
    two.off = 0.0
    two.go_on.set()
    await looks(looking, lambda: one.unloads == two.unloads == [place.champion])


async def test_a_replica_that_is_away_keeps_no_champion_before(
    pool: asyncpg.Pool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tending, "AWAY_SECONDS", 0.05)
    await no_rollout_made_the_champion(pool)
    one, two = PlantedTriton(), PlantedTriton()
    two.away = True
    looking = place.reconciler(one, two)
    await looks(looking, stands(place, place.champion, READY, LOADING))
    await place.rollouts.crown_configured(Kind.REWARD, place.challenger)
    await looks(looking, lambda: one.unloads == [place.champion])


async def test_what_answers_for_a_champion_that_is_gone_is_brought_back_too(place: Place) -> None:
    one = PlantedTriton()
    looking = place.reconciler(one, stand_ins={Kind.REWARD: place.challenger})
    await looks(looking, stands(place, place.champion, READY))
    assert place.challenger not in one.loaded  # while the champion is there nobody needs it
    away = place.repository / place.champion
    away.rename(place.home / "away")
    one.loaded.clear()
    await looks(looking, lambda: place.challenger in one.loaded)
    (place.home / "away").rename(away)
    await looks(looking, stands(place, place.champion, READY))
    await looks(looking, lambda: one.loaded == {place.champion})


async def test_a_release_that_serves_nobody_is_unloaded_whoever_loaded_it(place: Place) -> None:
    one = PlantedTriton()
    one.loaded = {place.challenger}
    await looks(place.reconciler(one), lambda: one.unloads == [place.challenger])
    assert place.challenger not in one.loaded


# What comes and goes


async def test_a_replica_that_restarts_gets_everything_again(place: Place) -> None:
    one, two = PlantedTriton(), PlantedTriton()
    await place.start()
    looking = place.reconciler(one, two)
    await looks(looking, stands(place, place.challenger, READY, READY))
    one.loads.clear()
    two.loads.clear()
    one.loaded.clear()
    await looks(looking, lambda: one.loaded == {place.champion, place.challenger})
    await looks(looking, stands(place, place.challenger, READY, READY))
    assert (sorted(one.loads), two.loads) == (sorted([place.champion, place.challenger]), [])


async def test_a_replica_that_is_away_is_not_ready_and_counts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "AWAY_SECONDS", 0.05)
    one, two = PlantedTriton(), PlantedTriton()
    two.away = True
    looking = place.reconciler(one, two)
    await looks(looking, stands(place, place.champion, READY, LOADING))
    found = readiness(await place.rollouts.replicas(), place.champion, await place.rollouts.now())
    assert (found.ready, found.replicas, found.everywhere, found.refusal) == (1, 2, False, "")
    two.away = False
    await looks(looking, stands(place, place.champion, READY, READY))
    two.away = True
    await looks(looking, stands(place, place.champion, READY, LOADING))


async def test_a_replica_that_is_silent_for_a_moment_stays_ready(place: Place) -> None:
    one = PlantedTriton()
    looking = place.reconciler(one)
    await looks(looking, stands(place, place.champion, READY))
    one.away = True
    for _ in range(3):
        await looking.look()
    assert await place.states(place.champion) == {"one:8001": READY}


async def test_nothing_is_told_before_each_replica_was_asked(place: Place) -> None:
    """Else a rollout would be ready everywhere on those that answered first."""
    one, two = PlantedTriton(), PlantedTriton()
    two.away = True
    looking = place.reconciler(one, two)
    await looks(looking, lambda: place.champion in one.loaded)
    await looking.look()
    assert await place.rollouts.replicas() == []


async def test_without_postgres_what_was_loaded_stays_and_is_restored(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = PlantedTriton()
    looking = place.reconciler(one)
    rollout = await place.start()
    await looks(looking, stands(place, place.challenger, READY))
    await place.rollouts.apply(onward(rollout, Trigger.FAIL))

    async def away() -> None:
        raise StoreUnavailable("Postgres is away")

    monkeypatch.setattr(place.rollouts, "champions", away)
    one.loaded.discard(place.champion)
    await looks(looking, lambda: place.champion in one.loaded)
    assert place.challenger in one.loaded


async def test_who_can_not_reach_postgres_restores_what_users_have_and_no_challenger(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That may have been rolled back meanwhile: a leader who reads it would unload it each time."""
    monkeypatch.setattr(reconciler, "RESTORE_AFTER", 0.01)
    one = PlantedTriton()
    await place.start()
    other = place.reconciler(one)
    async with asyncio.timeout(30):
        while one.loaded != {place.champion, place.challenger}:
            await other.restore()
            await asyncio.sleep(0.01)

    async def away() -> None:
        raise StoreUnavailable("Postgres is away")

    with monkeypatch.context() as cut:
        cut.setattr(place.rollouts, "champions", away)
        one.loaded.clear()
        async with asyncio.timeout(30):
            while place.champion not in one.loaded:
                await other.restore()
                await asyncio.sleep(0.01)
        for _ in range(5):
            await other.restore()
            await asyncio.sleep(0.02)
        assert one.loaded == {place.champion}
    async with asyncio.timeout(30):
        while place.challenger not in one.loaded:
            await other.restore()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("leads", [True, False])
async def test_a_rollout_that_only_a_newer_server_can_read_keeps_nothing_from_being_restored(
    place: Place, monkeypatch: pytest.MonkeyPatch, leads: bool
) -> None:
    monkeypatch.setattr(reconciler, "RESTORE_AFTER", 0.01)
    one = PlantedTriton()
    looking = place.reconciler(one)
    rollout = await place.start()
    await looks(looking, stands(place, place.challenger, READY))
    newer = """UPDATE rollouts SET plan = plan || '{"moods": 3}' WHERE rollout_id = $1"""
    await place.rollouts._pool.execute(newer, UUID(rollout.rollout_id))
    with pytest.raises(UnreadableRow, match="newer Ratchet"):
        await place.rollouts.active()
    one.loaded.clear()
    async with asyncio.timeout(30):
        while not one.loaded >= ({place.champion, place.challenger} if leads else {place.champion}):
            await (looking.look() if leads else looking.restore())
            await asyncio.sleep(0.01)
    await place.reconciler(one).bring([place.champion])


async def test_a_process_with_a_fake_of_its_own_tells_nothing(place: Place) -> None:
    one = PlantedTriton()
    await looks(place.reconciler(one, reports=False), lambda: place.champion in one.loaded)
    assert await place.rollouts.replicas() == []


async def test_what_has_not_changed_is_told_again_now_and_then(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    one = PlantedTriton()
    looking = place.reconciler(one)
    await looks(looking, stands(place, place.champion, READY))
    first = await place.model(place.champion)
    await looking.look()
    assert await place.model(place.champion) == first
    monkeypatch.setattr(reconciler, "REPORT_EVERY", 0.0)
    await looking.look()
    later = await place.model(place.champion)
    assert later.since == first.since
    assert later.checked_at > first.checked_at


# The start of a process


async def test_a_process_that_starts_waits_for_its_models(place: Place) -> None:
    one = PlantedTriton()
    await place.reconciler(one).bring([place.champion, place.challenger])
    assert one.loaded == {place.champion, place.challenger}
    assert await place.rollouts.replicas() == []


async def test_a_process_can_start_with_one_replica_of_two(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "AWAY_SECONDS", 0.05)
    one, two = PlantedTriton(), PlantedTriton()
    one.away = True
    await place.reconciler(one, two).bring([place.champion])
    assert two.loaded == {place.champion}


async def test_a_process_that_brings_a_new_champion_waits_for_each_replica_that_can_have_it(
    pool: asyncpg.Pool, place: Place
) -> None:
    one, two, three = PlantedTriton(), PlantedTriton(), PlantedTriton()
    two.go_on.clear()
    three.refusals = [BackendRefused("no room")] * 100
    bringing = asyncio.create_task(place.reconciler(one, two, three).bring([place.champion]))
    await asyncio.wait([bringing], timeout=0.5)
    assert (one.loaded, bringing.done()) == ({place.champion}, False)
    two.go_on.set()
    await bringing
    assert two.loaded == {place.champion}
    two.go_on.clear()
    two.loaded.clear()
    await pool.execute("UPDATE champions SET since = since - interval '1 hour'")
    await place.reconciler(one, two).bring([place.champion])
    assert two.loaded == set(), "one that begins anew holds no server up"


async def test_a_champion_that_answers_wrongly_serves_all_the_same(place: Place) -> None:
    """There is no better one; people see it refused."""
    one = PlantedTriton()
    one.off = 0.5
    await place.reconciler(one).bring([place.champion])
    assert place.champion in one.loaded


async def test_a_process_that_can_not_have_its_models_says_why(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    one = PlantedTriton()
    (place.repository / place.champion / "1" / "model.onnx").unlink()
    with pytest.raises(ConfigurationError, match="is missing: copy or export the release again"):
        await place.reconciler(one).bring([place.champion])
    monkeypatch.setattr(tending, "AWAY_SECONDS", 0.05)
    one.away = True
    with pytest.raises(ConfigurationError, match=r"Triton can't be reached at one:8001\."):
        await place.reconciler(one).bring([place.challenger])


async def test_a_release_for_gpus_asks_for_no_room_here(place: Place) -> None:
    one = PlantedTriton()
    directory = place.repository / place.challenger
    add_code(directory, read(directory), Options(layout="onnxruntime"))
    await place.start()
    await looks(place.of([a_replica(one, room=10 * MB)]), stands(place, place.challenger, READY))


async def test_what_somebody_else_uses_is_unloaded_once_they_have_ended(place: Place) -> None:
    """A replay, say, which holds what it loaded."""
    one = PlantedTriton()
    one.loaded = {place.challenger}
    used = {("one:8001", place.challenger)}

    async def in_use(address: str, model: str) -> bool:
        return (address, model) in used

    looking = place.reconciler(one, in_use=in_use)
    await looks(looking, stands(place, place.champion, READY))
    for _ in range(3):
        await looking.look()
    assert one.unloads == []
    used.clear()
    await looks(looking, lambda: one.unloads == [place.challenger])


async def test_what_another_server_wants_besides_stays_for_as_long_as_it_runs(
    place: Place, stack: RunningStack, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings name a published release as the fallback; who leads has other settings."""
    monkeypatch.setattr(reconciler, "RESTORE_AFTER", 0.01)
    one = PlantedTriton()
    leader = place.reconciler(one, in_use=partial(services._in_use, pool))
    other = place.reconciler(one, static_models=[place.challenger])
    holder = Holder(stack.endpoints.database_url, [place.challenger])
    async with asyncio.timeout(30):
        while not await services._in_use(pool, "one:8001", place.challenger):
            await asyncio.sleep(0.01)
    await other.bring([place.champion, place.challenger])
    await looks(leader, stands(place, place.champion, READY))
    for _ in range(5):
        await leader.look()
        await other.restore()
        await asyncio.sleep(0.02)
    assert (sorted(one.loads), one.unloads) == (sorted([place.champion, place.challenger]), [])
    await holder.close()
    await looks(leader, lambda: one.unloads == [place.challenger])


class Clock:
    """Stands in for the module `time`."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_what_is_lost_soon_after_it_was_loaded_again_and_again_waits_longer_each_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody unloads it each time. What a Triton loses once, in a restart, is there again at once."""
    clock, one = Clock(), PlantedTriton()
    monkeypatch.setattr(tending, "time", clock)
    monkeypatch.setattr(tending, "LONGEST_RETRY", 60.0)

    async def load(loader: Loader, name: str, wish: Wish, *, loaded: bool, freeing: bool) -> None:
        one.loaded.add(name)

    monkeypatch.setattr(Loader, "load", load)
    looking = place.reconciler(one)

    async def lost() -> float:
        """Seconds until it was loaded again."""
        one.loaded.clear()
        began = clock.now
        async with asyncio.timeout(30):
            while not one.loaded:
                await looking.look()
                clock.now += not one.loaded
        await looks(looking, stands(place, place.champion, READY))
        return clock.now - began

    await looks(looking, stands(place, place.champion, READY))
    waited = [await lost() for _ in range(7)]
    assert waited[0] <= 1, "a look finds it lost, at most one more loads it"
    assert waited == sorted(waited)
    assert 60 <= waited[-1] <= 62
    clock.now += 2 * tending.SOON_SECONDS
    assert await lost() <= 1
