"""What counts as an absent Postgres, and whose reply a caller gets: the journal with a ledger and a disk of our own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from server.errors import LogUnavailable, Overloaded
from server.storage.frames import Piece
from server.storage.journal import Journal
from server.storage.ledger import Key
from server.storage.records import Row
from server.storage.rows import LogEntry
from server.storage.spool import Segment
from server.types import (
    Check,
    Citation,
    DegradationReason,
    Evidence,
    Exchange,
    Finding,
    Recollection,
    Reply,
    ToolOutcome,
    ToolRun,
)
from tests.turns import a_turn, an_entry


class Paper:
    """`server.storage.ledger.Ledger`. What each call raises is the test's; so is when Postgres comes back."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Row] = {}
        self.firsts: dict[str, Reply] = {}
        self.errors: dict[str, Exception] = {}
        self.late: Exception | None = None
        self.asked: list[str] = []
        self.seconds: list[float | None] = []
        self.insertable, self.restorable = asyncio.Event(), asyncio.Event()
        self.insertable.set()
        self.restorable.set()

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if name in self.errors:
            raise self.errors[name]

    async def insert(self, entries: Sequence[Row]) -> set[UUID]:
        self._ask("insert")
        await self.insertable.wait()
        if self.late:
            raise self.late
        second = {each.response_id for each in entries if each.request[1] in self.firsts}
        self.rows |= {each.response_id: each for each in entries if each.response_id not in second}
        return second

    async def restore(self, entries: Sequence[Row]) -> None:
        self._ask("restore")
        await self.restorable.wait()
        self.rows |= {each.response_id: each for each in entries}

    async def first(self, key: Key, seconds: float | None = None) -> tuple[UUID, Reply | None] | None:
        self.seconds.append(seconds)
        self._ask("first")
        found = self.firsts.get(key[1])
        return (found.response_id, found) if found else None

    async def forget(self, key: Key, response_id: UUID) -> None:
        self._ask("forget")

    async def ping(self) -> None:
        self._ask("ping")


class Disk:
    """`server.storage.spool.Spool` in memory, of one segment. Nothing is durable before `synced` is set."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.error: Exception | None = None
        self.appending, self.synced = asyncio.Event(), asyncio.Event()
        self.synced.set()
        self.age = 0.0

    @property
    def pending(self) -> int:
        return sum(map(len, self.records))

    async def append(self, payload: bytes) -> None:
        self.appending.set()
        await self.synced.wait()
        if self.error:
            raise self.error
        self.records.append(payload)

    async def adopt(self) -> int:
        return len(self.records)

    async def oldest(self) -> Segment | None:
        return Segment(Path("none"), -1) if self.records else None

    async def read(self, segment: Segment) -> list[Piece]:
        return [Piece(each, whole=True) for each in self.records]

    async def remove(self, segment: Segment) -> None:
        self.records = []

    async def close(self) -> None:
        pass


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def journal(paper: Paper, disk: Disk) -> AsyncIterator[Journal]:
    nothing: Any = None
    spool: Any = disk
    found = Journal(nothing, spool=spool)
    found._ledger = paper  # type: ignore[assignment]
    assert found._backlog is not None
    found._backlog._ledger = paper  # type: ignore[assignment]
    await found.start()
    yield found
    disk.synced.set()
    paper.insertable.set()
    paper.restorable.set()
    await found.stop()


def is_marked(reply: Reply) -> bool:
    return DegradationReason.LOG_SPOOLED in [each.reason for each in reply.degradations]


async def until(done: Any) -> None:
    """Returns once `done()` is true."""
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.005)


async def test_a_postgres_that_does_not_answer_is_away_until_it_answers(journal: Journal, paper: Paper) -> None:
    paper.errors = {"insert": TimeoutError(), "ping": TimeoutError()}
    assert is_marked(await journal.append(an_entry(a_turn())))
    await until(lambda: journal.away)
    paper.errors = {}
    await until(lambda: not journal.away)


@pytest.mark.parametrize("error", [TimeoutError(), asyncpg.UndefinedTableError("no such table")])
async def test_a_postgres_that_takes_no_rows_but_answers_is_not_away(
    journal: Journal, paper: Paper, error: Exception
) -> None:
    paper.errors = {"insert": error, "restore": error}
    for _ in range(3):
        assert is_marked(await journal.append(an_entry(a_turn())))
        assert not journal.away
    await until(lambda: journal.away or paper.asked.count("restore") > 1)
    assert not journal.away


async def test_a_postgres_that_takes_a_long_backlog_is_not_away(journal: Journal, paper: Paper) -> None:
    paper.errors = {"insert": TimeoutError(), "ping": TimeoutError()}
    await journal.append(an_entry(a_turn()))
    await until(lambda: journal.away)
    paper.restorable.clear()
    paper.errors = {}
    await until(lambda: "restore" in paper.asked)
    assert not journal.away


@pytest.mark.parametrize("error", [TimeoutError(), asyncpg.ConnectionDoesNotExistError("closed"), ConnectionError()])
async def test_a_request_id_looked_up_in_vain_sends_rows_to_the_spool_and_is_not_looked_up_again(
    journal: Journal, paper: Paper, error: Exception
) -> None:
    paper.errors = {"first": error, "ping": error}
    turn = a_turn(request_id="vain")
    assert await journal.find(("default", "vain", turn.fingerprint), 0.04) is None
    assert paper.seconds == [0.04]
    assert is_marked(await journal.append(an_entry(turn)))
    assert await journal.find(("default", "another", turn.fingerprint), 0.04) is None
    assert paper.asked.count("first") == 1
    assert "insert" not in paper.asked


async def test_a_request_id_that_postgres_refuses_to_look_up_is_no_sign_of_absence(
    journal: Journal, paper: Paper
) -> None:
    paper.errors = {"first": asyncpg.CharacterNotInRepertoireError("no U+0000")}
    assert await journal.find(("default", "\0", b""), 0.04) is None
    assert not is_marked(await journal.append(an_entry(a_turn())))


async def test_without_a_spool_a_lookup_waits_as_long_as_its_row_would(paper: Paper) -> None:
    nothing: Any = None
    journal = Journal(nothing)
    journal._ledger = paper  # type: ignore[assignment]
    paper.errors = {"first": TimeoutError()}
    with pytest.raises(LogUnavailable):
        await journal.find(("default", "vain", b""), 0.04)
    assert paper.seconds == [None]


async def hurried(journal: Journal, disk: Disk) -> "tuple[asyncio.Task[Reply], UUID]":
    """A row whose insert lasts, so that it is on its way to the disk as well; and its response id."""
    turn = a_turn(request_id="hurried", deadline=asyncio.get_running_loop().time() + 0.02)
    task = asyncio.create_task(journal.append(an_entry(turn)))
    await disk.appending.wait()
    return task, turn.response_id


async def test_a_row_on_its_way_to_the_spool_that_came_second_is_its_callers_reply(
    journal: Journal, paper: Paper, disk: Disk
) -> None:
    paper.insertable.clear()
    disk.synced.clear()
    task, own = await hurried(journal, disk)
    paper.firsts["hurried"] = an_entry(a_turn(request_id="hurried")).reply
    paper.insertable.set()
    await asyncio.sleep(0.02)
    assert not task.done(), "a reply left while it was open which row would follow it"
    disk.synced.set()
    reply = await task
    assert reply.response_id == own
    assert is_marked(reply)
    await until(lambda: own in paper.rows)


async def test_a_row_that_came_second_and_finds_no_room_in_the_spool_gets_the_first_reply(
    journal: Journal, paper: Paper, disk: Disk
) -> None:
    paper.insertable.clear()
    disk.synced.clear()
    task, own = await hurried(journal, disk)
    first = paper.firsts["hurried"] = an_entry(a_turn(request_id="hurried")).reply
    disk.error = LogUnavailable("full")
    paper.insertable.set()
    disk.synced.set()
    assert (await task).response_id == first.response_id
    assert own not in paper.rows
    assert disk.records == []


async def test_a_row_that_came_second_in_time_never_goes_to_the_spool(
    journal: Journal, paper: Paper, disk: Disk
) -> None:
    first = paper.firsts["taken"] = an_entry(a_turn(request_id="taken")).reply
    assert (await journal.append(an_entry(a_turn(request_id="taken")))).response_id == first.response_id
    assert not disk.appending.is_set()


async def test_a_row_that_is_inserted_while_it_is_on_its_way_to_the_spool_is_marked_in_both(
    journal: Journal, paper: Paper, disk: Disk
) -> None:
    paper.insertable.clear()
    disk.synced.clear()
    task, own = await hurried(journal, disk)
    paper.insertable.set()
    await until(lambda: own in paper.rows)
    disk.synced.set()
    assert is_marked(await task)
    await until(lambda: "LOG_SPOOLED" in str(paper.rows[own].columns["degradations"]).upper())


async def test_a_row_that_the_insert_gives_up_is_kept_once(journal: Journal, paper: Paper, disk: Disk) -> None:
    paper.errors = {"ping": TimeoutError(), "restore": TimeoutError()}
    paper.insertable.clear()
    turn = a_turn(deadline=asyncio.get_running_loop().time() + 0.02)
    task = asyncio.create_task(journal.append(an_entry(turn)))
    disk.synced.clear()
    await disk.appending.wait()
    paper.late = TimeoutError()
    paper.insertable.set()
    await until(lambda: journal.away)
    disk.synced.set()
    assert is_marked(await task)
    await journal.append(an_entry(a_turn(session_id="later")))
    assert len(disk.records) == 2


LONG = "word " * 1000
PASSAGE = Evidence("docs", "1", "Returns", LONG)


def a_large_entry(part: str) -> LogEntry:
    """A row of which only this part is large."""
    entry = an_entry(a_turn())
    reply = entry.reply
    first = reply.candidates[0]
    findings = tuple(Finding(Check.LENGTH, True, 1.0, LONG[:200]) for _ in range(20))
    changed: dict[str, Any] = {
        "query": {"turn": replace(entry.turn, query=LONG)},
        "context": {"turn": replace(entry.turn, context=LONG)},
        "turns": {"recollection": Recollection((Exchange("Hello", LONG),))},
        "summary": {"recollection": Recollection((), LONG)},
        "answer": {"reply": replace(reply, response=LONG)},
        "candidate": {"reply": replace(reply, candidates=(replace(first, text=LONG), *reply.candidates[1:]))},
        "finding": {"reply": replace(reply, candidates=(replace(first, findings=findings), *reply.candidates[1:]))},
        "evidence": {
            "reply": replace(reply, tool_runs=(ToolRun("docs", ToolOutcome.FOUND, 1.0, 0.1, "", (PASSAGE,)),))
        },
        "citation": {"reply": replace(reply, citations=(Citation(1, PASSAGE, 1.0),))},
    }
    found: LogEntry = replace(entry, **changed[part])
    return found


@pytest.mark.parametrize(
    "part", ["query", "context", "turns", "summary", "answer", "candidate", "finding", "evidence", "citation"]
)
async def test_each_part_of_a_row_counts_towards_what_may_wait(part: str) -> None:
    nothing: Any = None
    journal = Journal(nothing, pending_size=4000)  # not started: nothing is taken out
    with pytest.raises(Overloaded):
        await journal.append(a_large_entry(part))
