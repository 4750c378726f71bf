"""Replies go on while Postgres is paused or dead, and each of their rows is in Postgres once afterwards."""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import psutil
import pytest

from server.errors import LogUnavailable, RequestIdReused
from server.storage import database
from server.storage.journal import Journal
from server.storage.spool import Spool
from server.types import DegradationReason, Reply
from tests.conftest import RunningStack
from tests.e2e.paused import paused
from tests.turns import a_turn, an_entry

CHECKOUT = Path(__file__).resolve().parents[2]
SIZE = 1 << 26
WRITER = """
import asyncio, sys
from pathlib import Path
from server.storage import database
from server.storage.journal import Journal
from server.storage.spool import Spool
from tests.turns import a_turn, an_entry

async def write():
    url, directory, session, count = sys.argv[1:]
    pool = await database.connect(url, size=2)
    journal = Journal(pool, spool=Spool(Path(directory), 1 << 26, segment_size=1 << 15))
    await journal.start()
    print("started", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async def one(number):
        reply = await journal.append(an_entry(a_turn(session_id=session, request_id=f"{session}-{number}")))
        print(reply.response_id, flush=True)
    for start in range(0, int(count), 16):
        await asyncio.gather(*(one(number) for number in range(start, start + 16)))
    await asyncio.sleep(600)

asyncio.run(write())
"""


@pytest.fixture
def postgres(stack: RunningStack) -> int:
    """The id of its first process."""
    (pid,) = (part.pid for part in stack.stack.status() if part.name == "postgres")
    assert pid is not None
    return pid


@asynccontextmanager
async def spooling(stack: RunningStack, directory: Path, size: int = SIZE) -> AsyncIterator[Journal]:
    pool = await database.connect(stack.endpoints.database_url, size=2)
    lookups = await database.connect(stack.endpoints.database_url, size=2)
    journal = Journal(pool, lookups=lookups, spool=Spool(directory, size, segment_size=1 << 16))
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()
        await database.close(pool, 1)
        await database.close(lookups, 1)


@pytest.fixture
async def journal(pool: asyncpg.Pool, stack: RunningStack, tmp_path: Path) -> AsyncIterator[Journal]:
    async with spooling(stack, tmp_path) as found:
        yield found


@contextmanager
def writer(stack: RunningStack, directory: Path, session: str, count: int) -> Iterator[subprocess.Popen[str]]:
    """A process that is ready to append `count` rows once it gets a line, and prints the replies' ids."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, stack.endpoints.database_url, str(directory), session, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            yield process
        finally:
            process.kill()


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def acknowledged(process: subprocess.Popen[str], count: int) -> list[UUID]:
    assert process.stdout is not None
    return [UUID(process.stdout.readline().strip()) for _ in range(count)]


async def logged(pool: asyncpg.Pool, session: str) -> list[UUID]:
    """The response ids of a session in the order of their commits."""
    statement = "SELECT response_id FROM conversation_logs WHERE session_id = $1 ORDER BY transaction_id, response_id"
    return [row["response_id"] for row in await pool.fetch(statement, session)]


async def eventually_logged(pool: asyncpg.Pool, session: str, count: int) -> list[UUID]:
    """The same, as soon as there are `count`; what there is after twenty seconds otherwise."""
    for _ in range(200):
        if len(found := await logged(pool, session)) >= count:
            return found
        await asyncio.sleep(0.1)
    return found


def is_marked(reply: Reply) -> bool:
    return DegradationReason.LOG_SPOOLED in [each.reason for each in reply.degradations]


async def test_replies_leave_in_time_while_postgres_is_paused_and_their_rows_arrive(
    journal: Journal, pool: asyncpg.Pool, postgres: int
) -> None:
    with paused(postgres):
        deadline = asyncio.get_running_loop().time() + 10
        async with asyncio.timeout_at(deadline):  # a hundred of them, each waiting in vain, would take longer
            replies = [
                await journal.append(an_entry(a_turn(session_id="paused", deadline=deadline))) for _ in range(100)
            ]
    assert all(map(is_marked, replies))
    assert await eventually_logged(pool, "paused", 100) == [reply.response_id for reply in replies]
    marks = await pool.fetchval(
        "SELECT count(*) FILTER (WHERE spooled) FROM conversation_logs WHERE session_id = 'paused'"
    )
    assert marks >= 99, "the one under way when it was paused may have been written before"


async def test_a_turn_with_little_time_left_waits_little(journal: Journal, pool: asyncpg.Pool, postgres: int) -> None:
    loop = asyncio.get_running_loop()
    with paused(postgres):
        async with asyncio.timeout(0.4):
            reply = await journal.append(an_entry(a_turn(session_id="hurry", deadline=loop.time() + 0.2)))
    assert is_marked(reply)
    assert await eventually_logged(pool, "hurry", 1) == [reply.response_id]


async def test_once_postgres_is_back_rows_go_to_it_again(
    journal: Journal, pool: asyncpg.Pool, postgres: int, tmp_path: Path
) -> None:
    with paused(postgres):
        await journal.append(an_entry(a_turn(session_id="back")))
    await eventually_logged(pool, "back", 1)
    for _ in range(100):
        if not is_marked(await journal.append(an_entry(a_turn(session_id="back again")))):
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("rows still go to the spool")
    assert list(tmp_path.iterdir()) == []


async def test_a_session_keeps_its_order_through_pauses(journal: Journal, pool: asyncpg.Pool, postgres: int) -> None:
    told: list[UUID] = []
    marks: list[bool] = []

    async def disturb() -> None:
        for _ in range(3):
            with paused(postgres):
                await asyncio.sleep(1.5)
            await asyncio.sleep(1)

    disturbing = asyncio.create_task(disturb())
    async with asyncio.timeout(60):
        while not disturbing.done() or marks[-1]:  # on to the first row that goes to Postgres again
            reply = await journal.append(an_entry(a_turn(session_id="order")))
            told.append(reply.response_id)
            marks.append(is_marked(reply))
            await asyncio.sleep(0.002)
    await disturbing
    assert await eventually_logged(pool, "order", len(told)) == told
    assert True in marks


async def test_postgres_killed_under_load_withholds_no_reply_and_loses_no_row(
    journal: Journal, pool: asyncpg.Pool, postgres: int
) -> None:
    async def append(number: int) -> UUID:
        await asyncio.sleep(number / 300)
        return (await journal.append(an_entry(a_turn(session_id="dead", request_id=f"dead-{number}")))).response_id

    async def kill() -> None:
        await asyncio.sleep(0.3)
        psutil.Process(postgres).kill()

    *told, _ = await asyncio.gather(*(append(number) for number in range(600)), kill())
    found = await until_answers(pool, "dead", 600)
    assert sorted(found) == sorted(told)


async def until_answers(pool: asyncpg.Pool, session: str, count: int) -> list[UUID]:
    for _ in range(100):
        try:
            return await eventually_logged(pool, session, count)
        except (asyncpg.PostgresError, *database.GONE):
            await asyncio.sleep(0.2)
    raise AssertionError("Postgres did not come back")


async def test_an_insert_that_a_paused_postgres_does_later_is_no_second_row(
    journal: Journal, pool: asyncpg.Pool, postgres: int
) -> None:
    for number in range(5):
        with paused(postgres):  # each time the insert is already sent to a connection that was open
            reply = await journal.append(an_entry(a_turn(session_id=f"late-{number}", request_id=f"late-{number}")))
        assert await eventually_logged(pool, f"late-{number}", 1) == [reply.response_id]
        while is_marked(await journal.append(an_entry(a_turn(session_id="other")))):
            await asyncio.sleep(0.1)
        assert await logged(pool, f"late-{number}") == [reply.response_id]


async def test_a_request_id_repeated_while_postgres_is_away_gets_the_first_reply(
    journal: Journal, pool: asyncpg.Pool, postgres: int
) -> None:
    turn = a_turn(session_id="repeat", request_id="repeat-1")
    key = ("default", "repeat-1", turn.fingerprint)
    with paused(postgres):
        assert await journal.find(key, 0.3) is None
        racing = [a_turn(session_id="repeat", request_id="repeat-1") for _ in range(5)]
        replies = await asyncio.gather(*(journal.append(an_entry(each)) for each in racing))
        found = await journal.find(key, 5.0)
        again = await journal.append(an_entry(a_turn(session_id="repeat", request_id="repeat-1")))
        with pytest.raises(RequestIdReused):
            await journal.find((*key[:2], b"another question"), 5.0)
        with pytest.raises(RequestIdReused):
            await journal.append(an_entry(a_turn(request_id="repeat-1", query="another question")))
    assert found is not None
    assert found.replayed
    assert again.replayed
    assert {reply.response_id for reply in (*replies, found, again)} == {replies[0].response_id}
    assert await eventually_logged(pool, "repeat", 1) == [replies[0].response_id]
    in_postgres = await journal.find(key, 5.0)
    assert in_postgres is not None
    assert in_postgres.response_id == found.response_id


async def test_two_processes_answering_one_request_id_meanwhile_lose_neither_row(
    stack: RunningStack, pool: asyncpg.Pool, postgres: int, tmp_path: Path
) -> None:
    async with spooling(stack, tmp_path) as one, spooling(stack, tmp_path) as other:
        with paused(postgres):
            turns = [a_turn(session_id="both", request_id="both-1") for _ in range(2)]
            replies = [await j.append(an_entry(t)) for j, t in zip((one, other), turns, strict=True)]
        told = {reply.response_id for reply in replies}
        assert len(told) == 2, "across processes it is best effort"
        assert set(await eventually_logged(pool, "both", 2)) == told
        first = await one.find(("default", "both-1", turns[0].fingerprint), 5.0)
        assert first is not None
        assert first.response_id in told


async def test_a_row_that_postgres_refuses_is_set_aside_and_the_others_arrive(
    journal: Journal, pool: asyncpg.Pool, postgres: int, tmp_path: Path
) -> None:
    with paused(postgres):
        for query in ("fine", "text can't hold \0", "also fine"):
            await journal.append(an_entry(a_turn(session_id="aside", query=query)))
    assert len(await eventually_logged(pool, "aside", 2)) == 2
    for _ in range(100):
        if {path.suffix for path in tmp_path.iterdir()} == {".refused"}:
            break
        await asyncio.sleep(0.1)
    (kept,) = tmp_path.iterdir()
    assert "text can't hold" in kept.read_text()


async def test_a_full_spool_refuses_and_keeps_what_it_took(
    stack: RunningStack, pool: asyncpg.Pool, postgres: int, tmp_path: Path
) -> None:
    async with spooling(stack, tmp_path, size=20_000) as journal:
        with paused(postgres):
            entries = [an_entry(a_turn(session_id="full")) for _ in range(100)]
            outcomes = await asyncio.gather(*map(journal.append, entries), return_exceptions=True)
            more = [await asyncio.gather(journal.append(each), return_exceptions=True) for each in entries]
        replies = [each for each in outcomes if isinstance(each, Reply)]
        refusals = [each for each in (*outcomes, *(each for (each,) in more)) if not isinstance(each, Reply)]
        assert all(isinstance(each, LogUnavailable) and "full" in str(each) for each in refusals)
        assert len(replies) > 5
        assert len(refusals) > 50
        found = set(await eventually_logged(pool, "full", len(replies)))
        assert {each.response_id for each in replies} <= found


async def test_rows_left_by_an_earlier_start_are_in_postgres_before_the_next_one_serves(
    stack: RunningStack, pool: asyncpg.Pool, postgres: int, tmp_path: Path
) -> None:
    async with spooling(stack, tmp_path) as earlier:
        with paused(postgres):
            entry = an_entry(a_turn(session_id="restart", request_id="restart-1"))
            reply = await earlier.append(entry)
            await earlier.stop()
    assert await logged(pool, "restart") in ([], [reply.response_id])  # the first insert may have come late
    async with spooling(stack, tmp_path) as later:
        found = await later.find(("default", "restart-1", entry.turn.fingerprint), 5.0)
        assert found is not None
        assert found.response_id == reply.response_id
    assert await logged(pool, "restart") == [reply.response_id]


async def test_killed_with_rows_in_the_spool_a_living_process_brings_them_to_postgres(
    stack: RunningStack, pool: asyncpg.Pool, postgres: int, tmp_path: Path
) -> None:
    with writer(stack, tmp_path, "killed-spooling", 320) as process:
        with paused(postgres):
            begin(process)
            told = await asyncio.to_thread(acknowledged, process, 200)
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            told += [UUID(line) for line in process.stdout.read().split()]
            process.wait()
        async with spooling(stack, tmp_path):
            found = await eventually_logged(pool, "killed-spooling", len(told))
    assert set(told) <= set(found)
    assert len(set(found)) == len(found)


@pytest.mark.timeout(300)
async def test_killed_again_and_again_while_replaying_no_row_is_lost_or_doubled(
    stack: RunningStack, pool: asyncpg.Pool, postgres: int, tmp_path: Path
) -> None:
    with writer(stack, tmp_path, "killed-replaying", 1600) as process, paused(postgres):
        begin(process)
        told = await asyncio.to_thread(acknowledged, process, 1600)
        process.send_signal(signal.SIGKILL)
        process.wait()
    chance = random.Random(7)
    for _ in range(6):
        replaying = subprocess.Popen(
            [sys.executable, "-c", WRITER, stack.endpoints.database_url, str(tmp_path), "none", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=CHECKOUT,
        )
        before = len(await logged(pool, "killed-replaying"))
        for _ in range(1000):
            if len(await logged(pool, "killed-replaying")) > before or replaying.poll() is not None:
                break
            await asyncio.sleep(0.005)
        await asyncio.sleep(chance.random() * 0.05)
        replaying.kill()
        await asyncio.to_thread(replaying.communicate)
        if before == 1600:
            break
    async with spooling(stack, tmp_path):
        found = await eventually_logged(pool, "killed-replaying", 1600)
    assert sorted(found) == sorted(told)
    assert list(tmp_path.iterdir()) == []


async def test_a_row_that_was_inserted_before_it_was_spooled_says_so_as_its_reply_does(
    journal: Journal, pool: asyncpg.Pool, postgres: int
) -> None:
    entry, other = an_entry(a_turn(session_id="told", request_id="told-1")), an_entry(a_turn(session_id="told"))
    direct = Journal(pool)
    await direct.start()
    await direct.append(entry)
    await direct.stop()
    with paused(postgres):  # as if the insert's answer had been lost; the other row is kept twice, in one segment
        replies = await asyncio.gather(*map(journal.append, (entry, other, other)))
    assert all(map(is_marked, replies))
    for _ in range(200):
        rows = await pool.fetch("SELECT spooled, degradations FROM conversation_logs WHERE session_id = 'told'")
        if [row["spooled"] for row in rows] == [True, True]:
            break
        await asyncio.sleep(0.1)
    assert [row["spooled"] for row in rows] == [True, True]
    assert all("log_spooled" in row["degradations"] for row in rows)
