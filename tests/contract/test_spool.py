"""The spool on a real disk: what was acknowledged is there, whoever dies."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from server.errors import ConfigurationError, LogUnavailable, Overloaded
from server.storage import spool as spools
from server.storage.spool import Spool

CHECKOUT = Path(__file__).resolve().parents[2]
WRITER = """
import asyncio, sys
from pathlib import Path
from server.storage.spool import Spool

async def write():
    spool = Spool(Path(sys.argv[1]), 1 << 24, segment_size=4096)
    async def one(number):
        await spool.append(f"record {number}".encode())
        print(number, flush=True)
    for start in range(0, 100_000, 8):
        await asyncio.gather(*(one(number) for number in range(start, start + 8)))

asyncio.run(write())
"""


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    found = Spool(tmp_path / "spool", 1 << 20)
    yield found
    await found.close()


async def take_all(spool: Spool) -> list[bytes]:
    """Every record, in order; removes the segments."""
    taken: list[bytes] = []
    while segment := await spool.oldest():
        taken += [piece.data for piece in await spool.read(segment)]
        await spool.remove(segment)
    return taken


@contextmanager
def writing(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes to its spool and prints the numbers of durable records, until killed."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_records_come_back_in_the_order_of_writing(spool: Spool) -> None:
    for number in range(20):
        await spool.append(f"record {number}".encode())
    assert await take_all(spool) == [f"record {number}".encode() for number in range(20)]
    assert spool.pending == 0


async def test_records_of_concurrent_replies_share_an_fsync(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (synced.append(file), real(file)))
    await asyncio.gather(*(spool.append(b"x" * 100) for _ in range(300)))
    assert len(synced) < 10
    assert len(await take_all(spool)) == 300


async def test_nothing_is_acknowledged_before_it_is_on_disk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink().suffix))
    await spool.append(b"one")
    assert synced[-2:] == ["", ".rows"], "first the directory's entry, then the record"


async def test_segments_are_bounded(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20, segment_size=2048)
    for _ in range(20):
        await spool.append(b"x" * 500)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) >= 4
    assert max(sizes) < 2048 + 600
    assert len(await take_all(spool)) == 20
    await spool.close()


async def test_a_full_spool_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000)
    outcomes = [await refused(spool, b"x" * 1000) for _ in range(12)]
    assert outcomes == [False] * 9 + [True] * 3
    assert len(await take_all(spool)) == 9
    assert not await refused(spool, b"x" * 1000)
    await spool.close()


async def refused(spool: Spool, payload: bytes) -> bool:
    try:
        await spool.append(payload)
    except LogUnavailable:
        return True
    return False


async def test_what_waits_for_a_slow_disk_is_bounded(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "QUEUE_SIZE", 1000)
    waiting = [asyncio.create_task(spool.append(b"x" * 400)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await spool.append(b"x" * 400)
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("fails", ["write", "fdatasync"])
async def test_a_failing_disk_is_told_and_costs_no_earlier_record(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    await spool.append(b"before")
    real: Any = getattr(os, fails)

    def fail(file: int, *rest: Any) -> Any:
        if fails == "write":
            real(file, rest[0][:7])  # a part gets there
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, fails, fail)
        with pytest.raises(LogUnavailable):
            await spool.append(b"lost, and told so")
    await spool.append(b"after")
    assert await take_all(spool) == [b"before", b"after"]


async def test_a_directory_that_can_not_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="RATCHET_SPOOL_DIR"):
        await Spool(tmp_path / "file" / "spool", 1 << 20).adopt()


async def test_a_segment_in_use_is_nobody_elses(spool: Spool, tmp_path: Path) -> None:
    await spool.append(b"mine")
    other = Spool(tmp_path / "spool", 1 << 20)
    assert await other.adopt() == 0
    assert await other.oldest() is None
    await spool.close()
    assert await other.adopt() == 1
    assert await take_all(other) == [b"mine"]
    await other.close()


async def test_of_two_processes_that_want_a_dead_ones_segment_one_gets_it(tmp_path: Path) -> None:
    dead = Spool(tmp_path, 1 << 20)
    await dead.append(b"left")
    await dead.close()
    heirs = [Spool(tmp_path, 1 << 20) for _ in range(4)]
    assert sorted(await asyncio.gather(*(heir.adopt() for heir in heirs))) == [0, 0, 0, 1]
    taken = [record for heir in heirs for record in await take_all(heir)]
    assert taken == [b"left"]
    for heir in heirs:
        await heir.close()


@pytest.mark.parametrize("enough", [1, 40, 400])
async def test_killed_while_writing_it_leaves_each_acknowledged_record(tmp_path: Path, enough: int) -> None:
    with writing(tmp_path) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(enough)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines() if line]
    spool = Spool(tmp_path, 1 << 24)
    assert await spool.adopt() >= 1
    taken = await take_all(spool)
    assert {f"record {number}".encode() for number in acknowledged} <= set(taken)
    assert len(set(taken)) == len(taken)
    await spool.close()


async def test_a_torn_end_is_no_obstacle(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    await spool.append(b"whole")
    await spool.append(b"torn")
    await spool.close()
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 2)
    again = Spool(tmp_path, 1 << 20)
    await again.adopt()
    assert await take_all(again) == [b"whole"]
    await again.close()


async def test_what_is_set_aside_stays_beside_the_segments(spool: Spool, tmp_path: Path) -> None:
    await spool.append(b"odd")
    segment = await spool.oldest()
    assert segment is not None
    await spool.set_aside(segment, "damaged", [b"o", b"dd"])
    await spool.remove(segment)
    (kept,) = (tmp_path / "spool").iterdir()
    assert kept.suffix == ".damaged"
    assert kept.read_bytes() == b"odd"
    assert await Spool(tmp_path / "spool", 1 << 20).adopt() == 0


async def test_what_waits_and_what_was_set_aside_can_be_seen_from_outside(spool: Spool, tmp_path: Path) -> None:
    assert spools.holdings(tmp_path / "spool") == spools.Holdings(0, 0.0, ())
    await spool.append(b"waits")
    segment = await spool.oldest()
    assert segment is not None
    await spool.set_aside(segment, "refused", [b"odd"])
    found = spools.holdings(tmp_path / "spool")
    assert found.waiting == spool.pending > 0
    assert 0 <= found.age < 60
    assert [Path(name).suffix for name in found.aside] == [".refused"]


async def test_files_of_others_are_left_alone(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    for name in ("notes.rows", "README", "0.rows"):
        (tmp_path / "spool" / name).write_text("not a segment")
    assert await spool.adopt() == 0
    assert len(list((tmp_path / "spool").iterdir())) == 3
