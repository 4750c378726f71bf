"""Supervision of one child, with a shell script in the place of a database: bounded stops, backoff, last words."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from server.embedded import child, process
from server.embedded.child import Child
from server.embedded.errors import ChildFailed
from server.embedded.guard import Guard
from server.embedded.layout import Layout
from server.embedded.process import Command, Stops, plain_environment


@dataclass
class Script:
    """Ready once the script has made the file `ready`."""

    layout: Layout
    text: str
    name: str = "script"
    version: str = "1"
    address: str = "nowhere"
    stops: Stops = ((signal.SIGTERM, 0.3),)
    tidied: int = 0

    async def prepare(self) -> None:
        self.layout.make()

    def command(self) -> Command:
        return Command(("/bin/sh", "-c", self.text), self.layout.home, plain_environment(self.layout))

    async def ready(self) -> bool:
        return (self.layout.home / "ready").exists()

    async def tidy(self) -> None:
        self.tidied += 1
        (self.layout.home / "ready").unlink(missing_ok=True)

    async def relocate(self) -> bool:
        return False


@dataclass
class Witness:
    events: list[str] = field(default_factory=list)
    back: asyncio.Event = field(default_factory=asyncio.Event)

    async def changed(self, what: str) -> None:
        self.events.append(what)

    async def restarted(self, name: str) -> None:
        self.back.set()


@asynccontextmanager
async def supervised(home: Path, text: str, **options: object) -> AsyncIterator[tuple[Child, Witness]]:
    layout, witness = Layout.of(home), Witness()
    script = Script(layout, text, **options)  # type: ignore[arg-type]
    one = Child(script, layout.logs / "script.log", Guard(layout), witness.changed, witness.restarted)
    try:
        yield one, witness
    finally:
        await one.stop()


async def test_a_child_that_ignores_its_signal_is_killed_with_its_children(home: Path) -> None:
    text = "trap '' TERM; sleep 600 & echo $! > grandchild; touch ready; while :; do wait; done"
    async with supervised(home, text) as (one, _):
        await one.start(5)
        grandchild = int((home / "grandchild").read_text())
        assert one.status().state == "running"
        async with asyncio.timeout(3):
            await one.stop()
        async with asyncio.timeout(3):
            while running(grandchild):  # killed, and on its way out
                await asyncio.sleep(0.01)
        assert (one.status().state, one.status().pid) == ("stopped", None)


async def test_a_child_that_ends_at_once_leaves_its_last_words(home: Path) -> None:
    async with supervised(home, "echo noise; echo no room for me >&2; exit 3") as (one, _):
        with pytest.raises(ChildFailed, match=r'ended with status 3 .*"no room for me"; read .*script\.log') as failed:
            await one.start(5)
        assert "\n" not in str(failed.value)


async def test_words_of_an_earlier_run_are_not_blamed(home: Path) -> None:
    async with supervised(home, "exit 3") as (one, _):
        Layout.of(home).make()
        one.log.write_text("old trouble\n")
        with pytest.raises(ChildFailed) as failed:
            await one.start(5)
        assert "old trouble" not in str(failed.value)


async def test_a_child_that_hangs_is_given_up(home: Path) -> None:
    async with supervised(home, "echo $$ > pid; sleep 600") as (one, _):
        with pytest.raises(ChildFailed, match="was not ready after 1 s"):
            await one.start(1)
        assert not running(int((home / "pid").read_text()))


async def test_a_start_that_is_cancelled_takes_the_child_along(home: Path) -> None:
    async with supervised(home, "echo $$ > pid; sleep 600") as (one, _):
        starting = asyncio.create_task(one.start(60))
        while not (home / "pid").exists() or not (home / "pid").read_text():
            await asyncio.sleep(0.02)
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        assert not running(int((home / "pid").read_text()))


async def test_failed_restarts_wait_longer_each_time_and_end_well(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(child, "LONGEST_DELAY", 0.1)
    async with supervised(home, "test -e broken && exit 4; touch ready; sleep 600") as (one, witness):
        await one.start(5)
        (home / "broken").touch()
        os.killpg(one.status().pid or 0, signal.SIGKILL)
        async with asyncio.timeout(20):
            while one.status().state != "failed":
                await asyncio.sleep(0.02)
        assert "status 4" in one.status().last_error
        assert not witness.back.is_set()
        (home / "broken").unlink()
        await asyncio.wait_for(witness.back.wait(), 20)
        assert one.status().state == "running"
        assert one.status().restarts == 1
        assert witness.events[-1] == "script 1 is back"


async def test_a_command_that_can_not_be_run_is_named(home: Path) -> None:
    layout = Layout.of(home)
    layout.make()
    command = Command((str(home / "absent"),), home, plain_environment(layout))
    assert await process.run(command, layout.logs / "x.log") == 126
    assert process.last_line(layout.logs / "x.log") == f"can't run {home / 'absent'}: No such file or directory"


def running(pid: int) -> bool:
    """Whether the process does anything: a zombie waiting for process 1 does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
