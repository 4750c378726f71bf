"""Two real Tritons with one repository: models are loaded, probed with golden inputs, refused with what is wrong, and
restored after one of them was killed."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import asyncpg
import numpy as np
import pytest

from exporters import graph
from server.backends.triton import TritonClient
from server.embedded import EmbeddedSettings, Stack
from server.rollout import tending
from server.rollout.plan import Plan
from server.rollout.publishing import publish
from server.rollout.readiness import readiness
from server.rollout.reconciler import Reconciler
from server.rollout.registry import ReplicaState
from server.rollout.replicas import Replica
from server.rollout.types import Kind, Rollout, Trigger
from server.settings import STARTER
from server.storage import releases as store
from server.storage.rollouts import PostgresRollouts
from tests.conftest import RunningStack, new_home
from tests.registered import drafted, onward, settle, started
from triton_models import golden, manifest
from triton_models.serializer import RewardSerializer

READY, LOADING, REFUSED = ReplicaState.READY, ReplicaState.LOADING, ReplicaState.REFUSED
RESPONSES = ("It arrives on Tuesday.", "I can't say. " * 20, "Đơn hàng sẽ đến vào thứ Ba 😀", "yes")


@dataclass
class Pair:
    """Two Tritons that share a repository; `second` may be killed."""

    rollouts: PostgresRollouts
    repository: Path
    first: TritonClient
    second: TritonClient
    home: Path
    reconciler: Reconciler

    async def publish(self, change: Callable[[Path], object] = lambda _: None, **fields: object) -> str:
        """A reward that knows its answers, published after `change` of its files; `fields` of its manifest."""
        made = a_reward(self.home, change, **fields)
        await publish(made, self.repository, self.rollouts, by="lan")
        return made.name

    async def start(self, challenger: str, plan: Plan | None = None) -> Rollout:
        champions = await self.rollouts.champions()
        made = await self.rollouts.create(drafted(champions[Kind.REWARD].release, challenger, plan=plan))
        step = started(made)
        await self.rollouts.apply(step)
        return step.rollout

    async def until(self, release: str, *states: ReplicaState) -> list[str]:
        """Looks until it stands so on the replicas; gives their refusals."""
        async with asyncio.timeout(45):
            while True:
                await self.reconciler.look()
                rows = await self.rollouts.replicas(release)
                if [row.state for row in rows] == list(states):
                    return [row.refusal for row in rows]
                await asyncio.sleep(0.1)


def a_reward(home: Path, change: Callable[[Path], object] = lambda _: None, **fields: object) -> Path:
    """The starter's reward under another id, with golden answers of its own graph."""
    made = home / f"reward-{uuid4().hex[:12]}"
    shutil.copytree(STARTER / "reward-000001", made)
    basis = replace(manifest.read(made), id=made.name)
    serializer = RewardSerializer.load(made, basis.serializer)
    rows = serializer.serialize("", "How do I track my order?", RESPONSES)
    _, logits = graph.run_onnx(made / "1" / "model.onnx", serializer.pad(rows))
    golden.write(made, golden.Rows(tuple(map(tuple, rows)), {"logit": np.asarray(logits, dtype=np.float32)}))
    variants = tuple({**variant, "tolerance": {"logit": 0.2}} for variant in basis.variants)
    change(made)
    manifest.write(made, replace(basis, variants=variants, **fields))  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
async def other(stack: RunningStack) -> AsyncIterator[tuple[str, Path]]:
    """A second Triton's address and home; its repository is the first one's."""
    home = new_home()
    assert stack.endpoints.model_repository is not None
    (home / "models").symlink_to(stack.endpoints.model_repository)
    parts = Stack(EmbeddedSettings(home, database_url="postgresql://nobody@nowhere/x", redis_url="redis://nowhere:1"))
    try:
        endpoints = await parts.start()
        yield endpoints.triton_url, home
    finally:
        await parts.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_reward(tmp_path_factory.mktemp("champion"))


@pytest.fixture
async def pair(
    pool: asyncpg.Pool,
    stack: RunningStack,
    other: tuple[str, Path],
    champion: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Pair]:
    for name in ("READING", "WRITING"):
        monkeypatch.setattr(store, name, 20.0)  # a busy machine is no Postgres that is away
    monkeypatch.setattr(tending, "INDEX_SECONDS", 20.0)
    repository = stack.endpoints.model_repository
    assert repository is not None
    await settle(pool)
    rollouts = PostgresRollouts(pool)
    first, second = TritonClient(stack.endpoints.triton_url), TritonClient(other[0])
    replicas = [Replica("one:8001", first), Replica("two:8001", second)]
    found = Pair(rollouts, repository, first, second, tmp_path, Reconciler(replicas, rollouts, repository))
    await publish(champion, repository, rollouts, by="lan")
    await rollouts.crown_first(Kind.REWARD, champion.name)
    yield found
    await found.reconciler.close()
    await first.close()
    await second.close()
    await settle(pool)


async def test_a_challenger_is_loaded_probed_and_unloaded_on_each_replica(pair: Pair) -> None:
    challenger = await pair.publish()
    rollout = await pair.start(challenger)
    await pair.until(challenger, READY, READY)
    assert readiness(await pair.rollouts.replicas(), challenger, await pair.rollouts.now()).everywhere
    await pair.rollouts.apply(onward(rollout, Trigger.FAIL))
    await pair.until(challenger)
    for client in (pair.first, pair.second):
        assert not await client.ready(challenger)


async def test_a_model_that_computes_otherwise_than_it_did_is_refused(pair: Pair) -> None:
    """Its calibration was turned around: every file is as the manifest says, and its answers are not."""
    turned = {"rows": [[2, 7, 3]], "answers": {"logit": [[9.0]]}}
    challenger = await pair.publish(lambda path: (path / golden.FILE).write_text(json.dumps(turned)))
    await pair.start(challenger)
    refusals = await pair.until(challenger, REFUSED, REFUSED)
    assert all("answers its golden inputs wrongly: logit is off by" in refusal for refusal in refusals)


async def test_a_file_that_is_no_graph_is_refused_in_tritons_words(pair: Pair) -> None:
    challenger = await pair.publish(lambda path: (path / "1" / "model.onnx").write_bytes(b"no graph"))
    await pair.start(challenger)
    refusals = await pair.until(challenger, REFUSED, REFUSED)
    assert all(refusal.startswith(f"Triton does not load {challenger}: load failed") for refusal in refusals)
    assert not any("Traceback" in refusal or "\n" in refusal for refusal in refusals)


async def test_a_release_that_was_torn_after_it_was_published_never_reaches_triton(pair: Pair) -> None:
    challenger = await pair.publish()
    weights = pair.repository / challenger / "1" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1])
    await pair.start(challenger)
    assert all("was altered" in refusal for refusal in await pair.until(challenger, REFUSED, REFUSED))
    assert challenger not in {**await pair.first.index(20), **await pair.second.index(20)}


async def test_a_slow_model_is_refused_in_time_and_the_champion_answers_meanwhile(pair: Pair, champion: Path) -> None:
    challenger = await pair.publish()
    code = pair.repository / challenger / "1" / "model.py"
    code.write_text(code.read_text().replace("self._warm_up()", "__import__('time').sleep(4); self._warm_up()", 1))
    await pair.start(challenger, Plan(load_seconds=1))
    refusals = await pair.until(challenger, REFUSED, REFUSED)
    assert refusals == [f"{challenger} was not loaded within 1 s."] * 2
    assert await pair.first.ready(champion.name)
    assert await pair.second.ready(champion.name)


async def test_a_triton_that_is_killed_gets_everything_again(pair: Pair, other: tuple[str, Path]) -> None:
    """The other one keeps what it has, and is not asked to load anything."""
    challenger = await pair.publish()
    await pair.start(challenger)
    await pair.until(challenger, READY, READY)
    since = [row.since for row in await pair.rollouts.replicas(challenger)]
    os.kill(_server_of(other[1]), signal.SIGKILL)
    async with asyncio.timeout(60):
        while await pair.second.ready(challenger):
            await asyncio.sleep(0.05)
    async with asyncio.timeout(45):
        while not await pair.second.ready(challenger):
            await pair.reconciler.look()
            await asyncio.sleep(0.1)
    await pair.until(challenger, READY, READY)
    first, second = await pair.rollouts.replicas(challenger)
    assert first.since == since[0]
    assert second.since > since[1]


def _server_of(home: Path) -> int:
    """The process of the Triton that runs in `home`."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"tritonserver") and any(str(home).encode() in word for word in words[1:]):
                return int(process.name)
    raise AssertionError(f"no Triton runs in {home}")
