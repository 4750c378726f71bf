"""Snapshots of training data: files that are whole or not there, of nobody's name, the same for the same rows."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.tenants import CONFIG, Tenant, reasons
from trainer.data import ingest as ingesting
from trainer.data import parquet, rows, snapshots
from trainer.data.forgetting import forget
from trainer.data.ingest import ingest, mark_used
from trainer.errors import DataError, TooLittleData


async def test_digests_are_those_that_erasures_go_by_and_nobody_s_name_leaves_the_database(
    tenant: Tenant, home: Path
) -> None:
    await tenant.say(await tenant.reply("nguyễn-ann"), "nguyễn-ann", rating_overall=3)
    await tenant.say(await tenant.reply("", session_id="phiên-1"), "", session_id="phiên-1", rating_overall=3)
    snapshot, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    everything = repr(parquet.read(snapshot.path))
    assert tenant.digest("nguyễn-ann") in everything
    assert "nguyễn-ann" not in everything
    assert "phiên-1" not in everything
    rows = await tenant.pool.fetch("SELECT digest FROM training_snapshot_users WHERE snapshot = $1", snapshot.hash)
    assert [row["digest"].hex() for row in rows] == [tenant.digest("nguyễn-ann")], "who gave no name can't be erased"


async def test_the_same_rows_are_the_same_snapshot_and_come_back_from_its_files(tenant: Tenant, home: Path) -> None:
    first = await tenant.reply()
    await tenant.say(first, rating_overall=4, rating_dimensions={"clarity": 2}, text_feedback="Ngắn")
    await tenant.say(first, kind="preference", chosen_index=0, rejected_index=1)
    await tenant.say(await tenant.reply("bob"), "bob", reaction_type="neutral")
    found = await ingest(tenant.pool, tenant.name, CONFIG)
    snapshot, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    assert snapshots.read(snapshot.path) == found.questions
    assert snapshots.used(snapshot.path) == found.used
    files = {path.name: path.read_bytes() for path in snapshot.path.iterdir()}
    await mark_used(tenant.pool, tenant.name, found.used)
    again, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    assert (again.hash, again.path) == (snapshot.hash, snapshot.path), "also when they were used meanwhile"
    elsewhere = snapshots.write(found, home / "elsewhere")
    assert {path.name: path.read_bytes() for path in elsewhere.path.iterdir()} == files
    await tenant.say(await tenant.reply(), rating_overall=1)
    other, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    assert other.hash != snapshot.hash


async def test_nothing_to_train_on_is_no_snapshot(tenant: Tenant, home: Path) -> None:
    with pytest.raises(TooLittleData):
        await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    assert not (home / snapshots.FOLDER).exists()


@pytest.mark.parametrize("name", ["questions.parquet", "used.parquet", "manifest.json"])
async def test_a_file_that_was_changed_or_lost_is_not_read(tenant: Tenant, home: Path, name: str) -> None:
    await tenant.say(await tenant.reply(), rating_overall=3)
    snapshot, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    path = snapshot.path / name
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole.replace(b"0", b"1", 1), b"", b"[]"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=str(snapshot.path)):
            snapshots.read(snapshot.path)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        snapshots.read(snapshot.path)
    again, _ = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    assert again.hash == snapshot.hash
    assert path.read_bytes() == whole, "taking it again mends it"


async def test_an_erasure_while_a_snapshot_is_taken_is_seen_by_one_or_the_other(
    tenant: Tenant, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tenant.say(await tenant.reply("ann", text="của ann"), rating_overall=3)
    await tenant.say(await tenant.reply("bob", text="của bob"), "bob", rating_overall=3)
    real, taken = snapshots.ingest, []

    async def erased_meanwhile(*given: Any) -> Any:
        found = await real(*given)
        taken.append(found)
        await tenant.erase("ann")  # it finds no snapshot: there is none yet
        return found

    monkeypatch.setattr(snapshots, "ingest", erased_meanwhile)
    snapshot, exclusions = await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    assert [len(each.used) for each in taken] == [2, 1]
    assert reasons(exclusions) == {"erased": 1}
    assert [path.name for path in (home / snapshots.FOLDER).iterdir()] == [snapshot.hash]
    await forget(tenant.pool, home)
    assert snapshot.path.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [(rows, "_each_said"), (rows, "_each_reply"), (ingesting, "assemble"), (snapshots, "digests")],
)
async def test_a_trainer_s_heart_beats_while_it_takes_a_snapshot_however_long_that_computes(
    tenant: Tenant, home: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    await tenant.say(await tenant.reply(), rating_overall=3)
    real, loop, beats = getattr(module, name), asyncio.get_running_loop(), []

    def slow(*given: Any) -> Any:
        beat = threading.Event()
        loop.call_soon_threadsafe(beat.set)
        beats.append(beat.wait(10))
        return real(*given)

    monkeypatch.setattr(module, name, slow)
    await snapshots.take(tenant.pool, tenant.name, CONFIG, home)
    assert beats == [True] * len(beats) != []
