"""Who was erased goes from the snapshots and the reports too, wherever forgetting is killed."""

import asyncio
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from server.storage.erasure import last_of
from tests.conftest import RunningStack
from tests.logged import NOW
from tests.tenants import CONFIG, Tenant, a_run, reasons
from trainer.data import forgetting, snapshots, tables
from trainer.data.forgetting import forget
from trainer.data.ingest import ingest


async def test_forgetting_rewrites_the_snapshots_that_hold_an_erased_user(tenant: Tenant, home: Path) -> None:
    shared = await tenant.reply("ann", text="của ann")
    await tenant.say(shared, rating_overall=5, text_feedback="bí mật của ann")
    await tenant.say(await tenant.reply("bob", text="của bob"), "bob", rating_overall=1)
    await tenant.say(await tenant.reply("ann", query="riêng của ann", context="x"), rating_overall=2)
    snapshot, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    await tenant.erase("ann")
    assert await forget(tenant.pool, home) == (snapshot.hash,)
    row = await tenant.pool.fetchrow("SELECT * FROM training_snapshots WHERE snapshot = $1", snapshot.hash)
    assert row is not None
    assert not snapshot.path.exists()
    (question,) = snapshots.read(home / snapshots.FOLDER / row["replaced_by"])
    assert [each.text for each in question.responses] == ["của bob"]
    assert question.askers == (tenant.digest("bob"),)
    left = await tenant.pool.fetchrow("SELECT * FROM training_snapshots WHERE snapshot = $1", row["replaced_by"])
    assert left is not None
    assert (left["feedback_count"], left["erased_at"], left["watermark"]) == (1, None, row["watermark"])
    found = await ingest(tenant.pool, tenant.name, CONFIG)
    assert tables.fingerprint(tables.flat(found.questions, found.used)) == row["replaced_by"], "as if never given"
    assert reasons(found.exclusions) == {"erased": 2}
    assert await forget(tenant.pool, home) == ()


async def test_a_snapshot_of_erased_users_alone_leaves_a_tombstone_alone(tenant: Tenant, home: Path) -> None:
    await tenant.say(await tenant.reply(), rating_overall=3)
    snapshot, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    (snapshot.path / "used.parquet").write_bytes(b"damaged")
    await tenant.erase("ann")
    assert await forget(tenant.pool, home) == (snapshot.hash,), "what can't be read goes too"
    assert await replaced_by(tenant, snapshot.hash) == ""
    assert list((home / snapshots.FOLDER).iterdir()) == []


async def replaced_by(tenant: Tenant, name: str) -> str | None:
    found: str | None = await tenant.pool.fetchval(
        "SELECT replaced_by FROM training_snapshots WHERE snapshot = $1", name
    )
    return found


async def test_a_user_who_came_back_stays_in(tenant: Tenant, home: Path) -> None:
    async with tenant.pool.acquire() as connection:
        await tenant.erasures.mark(connection, tenant.name, "ann", NOW - timedelta(days=1))
    await tenant.say(await tenant.reply(), rating_overall=3)
    snapshot, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    await tenant.pool.execute("UPDATE training_snapshots SET erased_at = now() WHERE snapshot = $1", snapshot.hash)
    assert await forget(tenant.pool, home) == ()
    assert len(snapshots.read(snapshot.path)) == 1
    assert last_of(NOW - timedelta(days=1)) < last_of(NOW)


@pytest.mark.parametrize(("quoted", "page", "reworded"), [("bob", "<p>", 0), ("ann", "<p>", 1), ("bob", None, 1)])
async def test_only_a_report_that_quotes_an_erased_user_or_lost_its_page_is_written_anew(
    tenant: Tenant, home: Path, monkeypatch: pytest.MonkeyPatch, quoted: str, page: str | None, reworded: int
) -> None:
    for user in ("ann", "bob"):
        await tenant.say(await tenant.reply(user), user, rating_overall=5)
    snapshot, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    report = json.dumps({"mistakes": [{"users": [tenant.digest(quoted)]}]})
    run = await a_run(tenant, snapshot=snapshot.hash, report=report, report_html=page)
    async with tenant.pool.acquire() as connection:
        await tenant.erasures.mark(connection, tenant.name, "ann", datetime.now(UTC) + timedelta(seconds=1))
    await tenant.pool.execute("UPDATE training_runs SET not_reproducible = true WHERE training_id = $1", run)
    seen = []

    async def note(_: asyncpg.Pool, row: Any) -> None:
        seen.append(row["training_id"])

    monkeypatch.setattr(forgetting, "_reworded", note)
    await forget(tenant.pool, home)
    assert seen.count(run) == reworded


_KILLED = """
import asyncio, asyncpg, os, shutil, signal, sys
from pathlib import Path
from trainer.data import forgetting, parquet, snapshots
import pyarrow.parquet
url, home, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
folder = home / snapshots.FOLDER

def dying(real, left):
    def call(*given, **named):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    return call

def forget(steps):
    left = [steps]
    os.fsync, Path.rename, Path.unlink = dying(os.fsync, left), dying(Path.rename, left), dying(Path.unlink, left)
    shutil.rmtree, asyncpg.Pool.execute = dying(shutil.rmtree, left), dying(asyncpg.Pool.execute, left)
    snapshots.record = dying(snapshots.record, left)
    asyncio.run(with_pool(lambda pool: forgetting.forget(pool, home)))

async def with_pool(call):
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        return await call(pool)

async def again(pool):
    await pool.execute("UPDATE training_snapshots SET replaced_by = NULL WHERE snapshot = $1", name)

async def finished(pool):
    await forgetting.forget(pool, home)
    new = await pool.fetchval("SELECT replaced_by FROM training_snapshots WHERE snapshot = $1", name)
    assert [path.name for path in folder.iterdir()] == [new], list(folder.iterdir())
    (question,) = snapshots.read(folder / new)
    assert [each.text for each in question.responses] == ["của bob"]

for step in range(100):
    shutil.rmtree(folder)
    shutil.copytree(home / "before", folder)
    asyncio.run(with_pool(again))
    child = os.fork()
    if not child:
        forget(step)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    asyncio.run(with_pool(finished))
    if not killed:
        break
print(step)
"""


async def test_forgetting_that_is_killed_anywhere_is_finished_by_the_next(
    tenant: Tenant, home: Path, stack: RunningStack
) -> None:
    await tenant.say(await tenant.reply("ann", text="của ann"), rating_overall=5)
    await tenant.say(await tenant.reply("bob", text="của bob"), "bob", rating_overall=1)
    snapshot, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    await tenant.erase("ann")
    shutil.copytree(home / snapshots.FOLDER, home / "before")
    arguments = (sys.executable, "-c", _KILLED, stack.endpoints.database_url, str(home), snapshot.hash)
    done = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15, "it was killed at as many places"
