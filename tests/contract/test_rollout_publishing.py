"""A release is published whole or not at all, once, and what was interrupted is mended by publishing it again."""

import asyncio
import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from server.errors import ReleaseExists, ReleaseInvalid, ReleaseNotFound, StoreUnavailable
from server.rollout.publishing import publish, refresh
from server.rollout.types import Kind
from server.storage import releases as store
from server.storage.rollouts import PostgresRollouts
from server.storage.training import new_id
from tests.releases import policy_directory, reward_directory
from triton_models import manifest, release
from triton_models.config import Options


@pytest.fixture
def rollouts(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> PostgresRollouts:
    for name in ("READING", "WRITING"):
        monkeypatch.setattr(store, name, 20.0)  # a busy machine is no Postgres that is away
    return PostgresRollouts(pool)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A reward release that nobody published."""
    return reward_directory(tmp_path / f"reward-{uuid4().hex[:12]}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models"


async def test_a_release_is_in_the_repository_and_registered(
    made: Path, repository: Path, rollouts: PostgresRollouts
) -> None:
    training = new_id()
    found, existed = await publish(made, repository, rollouts, by="lan", training_id=training)
    assert (found.release, found.kind, found.published_by, found.training_id) == (
        *(made.name, Kind.REWARD, "lan"),
        training,
    )
    assert not existed
    assert found.digest == hashlib.sha256((made / manifest.MANIFEST).read_bytes()).digest()
    assert found.manifest["files"] == manifest.read(made).files
    assert manifest.verify(repository / made.name).id == made.name
    assert (repository / made.name / "config.pbtxt").is_file()
    assert await rollouts.release(made.name) == found


async def test_the_same_again_changes_nothing(made: Path, repository: Path, rollouts: PostgresRollouts) -> None:
    first, _ = await publish(made, repository, rollouts, by="lan")
    again = await asyncio.gather(*(publish(made, repository, rollouts, by="minh") for _ in range(4)))
    assert again == [(first, True)] * 4


async def test_a_policy_is_published_in_its_layout(
    tmp_path: Path, repository: Path, rollouts: PostgresRollouts
) -> None:
    made = policy_directory(tmp_path / f"policy-{uuid4().hex[:12]}")
    found, _ = await publish(made, repository, rollouts, Options(max_queue=7), by="lan")
    assert found.kind is Kind.POLICY
    assert 'key: "max_queue"' in (repository / made.name / "config.pbtxt").read_text()


async def test_another_release_of_the_same_id_is_refused(
    made: Path, tmp_path: Path, repository: Path, rollouts: PostgresRollouts
) -> None:
    first, _ = await publish(made, repository, rollouts, by="lan")
    other = reward_directory(tmp_path / "other" / made.name, threshold=0.7)
    for place in (repository, tmp_path / "elsewhere"):  # also where only Postgres knows of the first one
        with pytest.raises(ReleaseExists, match=made.name):
            await publish(other, place, rollouts, by="lan")
    assert await rollouts.release(made.name) == first


def _linked(path: Path) -> None:
    file = path / "tokenizer" / "tokenizer.json"
    file.unlink()
    file.symlink_to("/etc/hostname")


def _traversal(path: Path) -> None:
    text = (path / "release.json").read_text()
    (path / "release.json").write_text(text.replace('"1/model.onnx"', '"../../etc/passwd"'))


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: (path / "release.json").unlink(), "is not a release: it has no release.json"),
    (lambda path: (path / "release.json").write_text("{"), "can't be read as JSON"),
    (lambda path: (path / "1" / "model.onnx").write_bytes(b"weigh"), "was altered"),
    (lambda path: (path / "1" / "model.onnx").unlink(), "is missing"),
    (lambda path: (path / "1" / "more.onnx").write_bytes(b""), "is not named in the release's manifest"),
    (_linked, "or is a link"),
    (_traversal, "which leaves the release"),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGES)
async def test_what_is_torn_or_tampered_with_is_refused_and_leaves_nothing(
    made: Path, repository: Path, rollouts: PostgresRollouts, damage: Callable[[Path], object], says: str
) -> None:
    damage(made)
    with pytest.raises(ReleaseInvalid, match=says):
        await publish(made, repository, rollouts, by="lan")
    assert not (repository / made.name).exists()
    with pytest.raises(ReleaseNotFound):
        await rollouts.release(made.name)


async def test_a_damaged_copy_in_the_repository_is_told(
    made: Path, repository: Path, rollouts: PostgresRollouts
) -> None:
    await publish(made, repository, rollouts, by="lan")
    (repository / made.name / "1" / "model.onnx").write_bytes(b"torn")
    with pytest.raises(ReleaseInvalid, match="was altered"):
        await publish(made, repository, rollouts, by="lan")


async def test_a_kind_that_is_not_rolled_out_is_refused(
    tmp_path: Path, repository: Path, rollouts: PostgresRollouts
) -> None:
    spec = {"format": "bert", "max_length": 16, "token_type_ids": True, "dimension": 8}
    made = reward_directory(
        tmp_path / "embedding-1", kind="embedding", serializer=spec, outputs=("sentence_embedding",), threshold=None
    )
    with pytest.raises(ReleaseInvalid, match="embedding-1 is of the kind embedding, which is not rolled out"):
        await publish(made, repository, rollouts, by="lan")
    assert not repository.exists()


@pytest.mark.parametrize("place", ["/nowhere/at/all", "/etc/hostname", "/dev/null"])
async def test_what_is_no_directory_is_refused(place: str, repository: Path, rollouts: PostgresRollouts) -> None:
    with pytest.raises(ReleaseInvalid):
        await publish(Path(place), repository, rollouts, by="lan")


async def test_a_full_disk_is_no_fault_of_the_release(
    made: Path, repository: Path, rollouts: PostgresRollouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(release, "_copy_file", full)
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        await publish(made, repository, rollouts, by="lan")
    assert not (repository / made.name).exists()
    monkeypatch.undo()
    assert (await publish(made, repository, rollouts, by="lan"))[1] is False


_INTERRUPTED = """
import asyncio, os, signal, sys
from pathlib import Path
from triton_models import release
steps = [int(sys.argv[3])]
def dying(module, name):
    true = getattr(module, name)
    def call(*args, **kwargs):
        if steps[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps[0] -= 1
        return true(*args, **kwargs)
    setattr(module, name, call)
for name in ("inspect", "_copy_file", "write_whole", "fsync_directory"):
    dying(release, name)
release.install(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("step", [0, 1, 4, 6, 8, 9])
async def test_a_death_in_the_middle_leaves_all_or_nothing_and_is_mended(
    made: Path, repository: Path, rollouts: PostgresRollouts, step: int
) -> None:
    """kill -9 at different steps of the installation: Triton sees no half of a model."""
    arguments = [sys.executable, "-c", _INTERRUPTED, str(made), str(repository), str(step)]
    ended = await asyncio.to_thread(subprocess.run, arguments, cwd=Path.cwd(), check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    if (repository / made.name).exists():
        assert manifest.verify(repository / made.name).id == made.name
    else:
        assert not repository.exists() or not any(repository.iterdir())
    await publish(made, repository, rollouts, by="lan")
    assert manifest.verify(repository / made.name).id == made.name


async def test_what_a_killed_publishing_left_is_removed_a_day_later(
    made: Path, repository: Path, rollouts: PostgresRollouts
) -> None:
    """Not before: another one may still be copying there."""
    staging = repository.with_name("models.staging")
    for name, age in (("old", 2 * release.ABANDONED_SECONDS), ("new", 60.0)):
        (staging / name).mkdir(parents=True)
        os.utime(staging / name, (time.time() - age,) * 2)
    await publish(made, repository, rollouts, by="lan")
    assert [left.name for left in staging.iterdir()] == ["new"]


async def test_what_triton_runs_is_brought_up_to_date(made: Path, repository: Path, rollouts: PostgresRollouts) -> None:
    """After an upgrade of Ratchet, for releases that no setting names."""
    await publish(made, repository, rollouts, by="lan")
    code = repository / made.name / "1" / "model.py"
    code.write_text("of a version before")
    refresh(made.name, repository)
    assert "class TritonPythonModel" in code.read_text()
    with pytest.raises(ReleaseInvalid, match="is not a release"):
        refresh("reward-gone", repository)
