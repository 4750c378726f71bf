"""ReleaseService over a loopback server with API keys, a real Postgres and a model repository on disk."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest

from ratchet.v1 import release_pb2 as pb
from server.identity import Role
from server.rollout.arrivals import Made
from server.rollout.registry import ReplicaState
from server.rollout.types import Kind
from server.storage import arrivals as arriving
from server.storage import releases, rollouts, safety
from server.storage.arrivals import PostgresArrivals
from tests.registered import a_release, settle, two
from tests.releases import policy_directory, reward_directory
from tests.rollout_api import Edge, serving
from tests.tenants import a_run, a_tenant
from tests.unit.test_rpc import refused


@pytest.fixture
async def edge(pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    for name in ("READING", "WRITING"):
        for module in (rollouts, releases, safety, arriving):
            monkeypatch.setattr(module, name, 20.0, raising=False)  # a busy machine is no Postgres that is away
    await settle(pool)
    edge = Edge(pool, tmp_path / "models")
    async with serving(edge):
        yield edge
    await settle(pool)


def a_name(kind: str = "reward") -> str:
    """Of a release that nobody else has."""
    return f"{kind}-{uuid4().hex[:20]}"


async def test_a_release_is_published_whole_and_once_however_many_ask_at_once(edge: Edge, tmp_path: Path) -> None:
    name = a_name()
    made = reward_directory(tmp_path / name, parent="reward-000001", metrics={"pairwise_accuracy": 0.71})
    found = await asyncio.gather(*(edge.call("PublishRelease", directory=str(made)) for _ in range(6)))
    assert [each.existed for each in found].count(False) == 1
    shown = found[0].release
    assert (shown.release, shown.kind, shown.publisher) == (name, pb.RELEASE_KIND_REWARD, f"key of {edge.tenant}")
    assert (shown.champion, shown.share, len(shown.replicas), shown.threshold) == (False, 0, 0, 0.6)
    assert (edge.repository / name / "release.json").read_bytes() == (made / "release.json").read_bytes()
    assert (edge.repository / name / "config.pbtxt").is_file()
    assert (await edge.call("GetRelease", release=name)).release == shown


async def test_another_release_of_the_same_id_is_refused_and_changes_nothing(edge: Edge, tmp_path: Path) -> None:
    name = a_name()
    await edge.call("PublishRelease", directory=str(reward_directory(tmp_path / name)))
    other = reward_directory(tmp_path / "other" / name, threshold=0.9)
    refusal = await refused(edge.call("PublishRelease", directory=str(other)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RELEASE_EXISTS")
    assert (await edge.call("GetRelease", release=name)).release.threshold == 0.6


async def test_what_is_no_whole_release_is_refused_with_a_sentence(edge: Edge, tmp_path: Path) -> None:
    torn, tampered = reward_directory(tmp_path / a_name()), reward_directory(tmp_path / a_name())
    (torn / "1" / "model.onnx").unlink()
    (tampered / "1" / "model.onnx").write_bytes(b"weightz")
    file = tmp_path / "a file"
    file.write_text("x")
    for directory in (torn, tampered, tmp_path, tmp_path / "nowhere", file):
        refusal = await refused(edge.call("PublishRelease", directory=str(directory)))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RELEASE_INVALID")
        assert refusal.text
    for release in (torn.name, tampered.name):
        assert not (edge.repository / release).exists()
        assert (await refused(edge.call("GetRelease", release=release))).reason == "RELEASE_NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "given", "field"),
    [
        ("PublishRelease", {"directory": ""}, "directory"),
        ("PublishRelease", {"directory": "starter/reward"}, "directory"),
        ("PublishRelease", {"directory": "/a\0b"}, "directory"),
        ("PublishRelease", {"directory": "/" + "x" * 4096}, "directory"),
        ("GetRelease", {"release": ""}, "release"),
        ("RetireRelease", {"release": ""}, "release"),
        ("RetireRelease", {"release": "x" * 129}, "release"),
        ("RetireRelease", {"release": "a\0b"}, "release"),
        ("ListRefusedReleases", {"page_size": 1001}, "page_size"),
        ("ListRefusedReleases", {"page_token": "xyz"}, "page_token"),
        ("GetRelease", {"release": "a\0b"}, "release"),
        ("ListReleases", {"kind": 9}, "kind"),
        ("ListReleases", {"page_size": -1}, "page_size"),
        ("ListReleases", {"page_token": "xyz"}, "page_token"),
    ],
)
async def test_a_bad_field_is_named(edge: Edge, method: str, given: dict[str, Any], field: str) -> None:
    refusal = await refused(edge.call(method, **given))
    assert (refusal.code, set(refusal.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, {field})


async def test_who_may_not_publish_is_refused_before_anything_is_read(edge: Edge, tmp_path: Path) -> None:
    made = reward_directory(tmp_path / a_name())
    for role, allowed in ((Role.CALLER, False), (Role.RATER, False), (Role.TRAINER, True)):
        call = edge.call("PublishRelease", edge.keys.add(role, tenant=edge.tenant), directory=str(made))
        if allowed:
            assert not (await call).existed
        else:
            assert (await refused(call)).code is grpc.StatusCode.PERMISSION_DENIED
            assert not (edge.repository / made.name).exists()


async def test_releases_are_paged_newest_first_and_a_token_belongs_to_its_listing(edge: Edge) -> None:
    begin = datetime.now(UTC) + timedelta(days=1)  # before all that other tests published
    names = []
    for number in range(5):
        made = a_release(Kind.POLICY, published_at=begin + timedelta(seconds=number // 2))
        names.append((await edge.rollouts.publish(made))[0])
    newest = sorted(names, key=lambda each: (each.published_at, each.release), reverse=True)
    seen, token = list[str](), ""
    while len(seen) < 5:
        page = await edge.call("ListReleases", page_size=2, page_token=token, kind=pb.RELEASE_KIND_POLICY)
        seen += [each.release for each in page.releases]
        token = page.next_page_token
        if token:
            assert (await refused(edge.call("ListReleases", page_token=token))).fields == ["page_token"]
    assert seen[:5] == [each.release for each in newest]
    await edge.pool.execute("DELETE FROM releases WHERE release = ANY($1)", [each.release for each in names])


async def test_a_lineage_is_told_as_far_as_it_was_published_here_and_never_in_circles(edge: Edge) -> None:
    first, second, third = (a_name() for _ in range(3))
    for name, parent in ((first, third), (second, first), (third, second)):
        await edge.rollouts.publish(a_release(release=name, manifest={"parent": parent}, digest=name.encode()))
    found = await edge.call("GetRelease", release=third)
    assert [each.release for each in found.ancestors] == [second, first]
    orphan = a_release(manifest={"parent": "reward-of-nobody"})
    await edge.rollouts.publish(orphan)
    found = await edge.call("GetRelease", release=orphan.release)
    assert (found.release.parent, len(found.ancestors)) == ("reward-of-nobody", 0)


async def test_who_serves_whom_is_told_of_each_release(edge: Edge, tmp_path: Path) -> None:
    champion, challenger = await two(edge.rollouts)
    await edge.ready(champion, challenger)
    rollout = (await edge.call("StartRollout", release=challenger)).rollout
    for _ in range(3):
        await edge.advance(rollout.rollout_id)
    old, new = [(await edge.call("GetRelease", release=name)).release for name in (champion, challenger)]
    assert (old.champion, old.share, old.rollout_id) == (True, pytest.approx(0.9), "")
    assert (new.champion, new.share, new.rollout_id) == (False, pytest.approx(0.1), rollout.rollout_id)
    assert [each.state for each in new.replicas] == [pb.REPLICA_MODEL_STATE_READY] * 2
    await edge.ready(challenger, state=ReplicaState.REFUSED, refusal="Không còn chỗ.")
    new = (await edge.call("GetRelease", release=challenger)).release
    assert {each.refusal for each in new.replicas} == {"Không còn chỗ."}


async def test_a_policy_is_published_as_well(edge: Edge, tmp_path: Path) -> None:
    made = policy_directory(tmp_path / a_name("policy"))
    shown = (await edge.call("PublishRelease", directory=str(made))).release
    assert (shown.kind, shown.HasField("threshold")) == (pb.RELEASE_KIND_POLICY, False)


async def test_a_release_is_retired_and_published_again(edge: Edge, tmp_path: Path) -> None:
    made = reward_directory(tmp_path / a_name())
    assert not (await edge.call("PublishRelease", directory=str(made))).release.HasField("retire_time")
    first, again = [await edge.call("RetireRelease", release=made.name) for _ in range(2)]
    assert (first.existed, again.existed) == (False, True)
    assert first.release.HasField("retire_time")
    assert (await edge.call("GetRelease", release=made.name)).release == again.release == first.release
    refusal = await refused(edge.call("StartRollout", release=made.name))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    back = await edge.call("PublishRelease", directory=str(made))
    assert (back.existed, back.release.HasField("retire_time")) == (True, False)


async def test_what_is_in_use_is_not_retired_and_one_sentence_says_why(edge: Edge) -> None:
    champion, challenger = await two(edge.rollouts)
    await edge.ready(champion, challenger)
    spared = a_release()
    await edge.rollouts.publish(spared)
    edge.needed[spared.release] = f"The settings name {spared.release} (RATCHET_REWARD_FALLBACK)."
    await edge.call("StartRollout", release=challenger)
    for name, says in ((champion, "champion"), (challenger, "under way"), (spared.release, "RATCHET_REWARD_FALLBACK")):
        refusal = await refused(edge.call("RetireRelease", release=name))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RELEASE_IN_USE")
        assert says in refusal.text
        assert not (await edge.call("GetRelease", release=name)).release.HasField("retire_time")
    assert (await refused(edge.call("RetireRelease", release="reward-of-nobody"))).reason == "RELEASE_NOT_FOUND"


async def test_only_an_operator_retires(edge: Edge) -> None:
    release = a_release()
    await edge.rollouts.publish(release)
    for role in (Role.CALLER, Role.RATER, Role.TRAINER):
        key = edge.keys.add(role, tenant=edge.tenant)
        call = edge.call("RetireRelease", key, release=release.release)
        assert (await refused(call)).code is grpc.StatusCode.PERMISSION_DENIED
    assert not (await edge.call("RetireRelease", release=release.release)).existed


async def test_what_training_made_in_vain_is_listed_newest_first_with_the_reason(edge: Edge) -> None:
    await edge.pool.execute("DELETE FROM refused_releases")
    champion, _ = await two(edge.rollouts)
    tenant = await a_tenant(edge.pool)
    now = datetime.now(UTC)
    await edge.pool.execute("UPDATE releases SET published_at = $2 WHERE release = $1", champion, now)
    arrivals, runs = PostgresArrivals(edge.pool), list[UUID]()
    for number, hours in enumerate((-2, -1, 1, 2)):
        runs.append(await a_run(tenant, ended_at=now + timedelta(hours=hours), release_path=f"/home/reward-{number}"))
        await arrivals.refuse(Made(runs[-1], f"reward-{number}", Path("/x")), f"Hỏng {number}.")
    unknown = uuid4()
    await arrivals.refuse(Made(unknown, "reward-x", Path("/x")), "It is torn.")
    seen, token = [], ""
    while True:
        page = await edge.call("ListRefusedReleases", page_size=2, page_token=token)
        seen += page.refused_releases
        token = page.next_page_token
        if not token:
            break
    assert [each.training_id for each in seen] == [str(unknown), *map(str, reversed(runs))]
    assert [each.newer_than_champion for each in seen] == [True, True, True, False, False]
    assert (seen[0].kind, seen[0].directory) == (pb.RELEASE_KIND_UNSPECIFIED, "")
    newest = seen[1]
    assert (newest.release, newest.kind, newest.reason) == ("reward-3", pb.RELEASE_KIND_REWARD, "Hỏng 3.")
    assert newest.directory == "/home/reward-3"
    assert newest.HasField("refuse_time")
    await edge.rollouts.publish(a_release(training_id=runs[3]))
    found = (await edge.call("ListRefusedReleases")).refused_releases
    assert str(runs[3]) not in [each.training_id for each in found], "it was published by hand since"
    listing = (await edge.call("ListReleases", page_size=1)).next_page_token
    assert (await refused(edge.call("ListRefusedReleases", page_token=listing))).fields == ["page_token"]
    await edge.pool.execute("DELETE FROM refused_releases")


async def test_without_a_champion_all_that_was_refused_is_newer(edge: Edge) -> None:
    await edge.pool.execute("DELETE FROM refused_releases")
    run = await a_run(await a_tenant(edge.pool), ended_at=datetime.now(UTC))
    await PostgresArrivals(edge.pool).refuse(Made(run, "reward-1", Path("/x")), "It is torn.")
    (found,) = (await edge.call("ListRefusedReleases")).refused_releases
    assert found.newer_than_champion
    await edge.pool.execute("DELETE FROM refused_releases")
