"""The console beside a server: started with it, watched, and ended with it."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import new_home
from tests.e2e.processes import below, has_ended
from tests.e2e.serving import Serving, serving

FAKE = "--backend=fake"


@pytest.fixture(scope="module")
def ratchet() -> Iterator[Serving]:
    with serving(new_home(), FAKE, "--console=127.0.0.1:0", RATCHET_TLS="on") as found:
        assert found.started
        yield found


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def consoles(serving_: Serving) -> list[psutil.Process]:
    return below(serving_.process.pid, lambda child: child.cmdline()[1:3] == ["-m", "console"])


def test_serving_says_where_the_console_is_and_it_answers_at_once(ratchet: Serving) -> None:
    """The socket is there before the process is: nothing waits for the console, and no visitor is turned away."""
    page = get(ratchet.events[-1]["console"])
    assert "Ratchet" in page
    assert "text/tailwindcss" not in page


def test_a_console_that_dies_comes_back_at_the_same_address(ratchet: Serving) -> None:
    [before] = consoles(ratchet)
    before.kill()
    assert "Ratchet" in get(ratchet.events[-1]["console"])
    [after] = consoles(ratchet)
    assert after.pid != before.pid


def test_sessions_and_their_secret_are_their_owners_only(ratchet: Serving) -> None:
    get(ratchet.events[-1]["console"])
    arguments = consoles(ratchet)[0].cmdline()
    folder = Path(arguments[arguments.index("--home") + 1]) / "console"
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))


def test_ctrl_c_on_a_terminal_leaves_the_console_to_the_server(ratchet: Serving) -> None:
    [console] = consoles(ratchet)
    os.kill(console.pid, signal.SIGINT)
    assert "Ratchet" in get(ratchet.events[-1]["console"])
    assert [each.pid for each in consoles(ratchet)] == [console.pid]


def test_a_second_server_goes_on_without_a_console_when_the_port_is_taken(ratchet: Serving) -> None:
    address = ratchet.events[-1]["console"].removeprefix("http://")
    with serving(new_home(), FAKE, f"--console={address}") as second:
        assert second.started["console"] == ""
        told = [each["event"] for each in second.events if "without the console" in each.get("event", "")]
        assert len(told) == 1
        assert address in told[0]
        assert consoles(second) == []
    assert "Ratchet" in get(ratchet.events[-1]["console"])


def test_a_console_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """As the launcher tells it: by a line on its standard input."""
    command = [sys.executable, "-m", "console", "--home", str(tmp_path), "--listen", "127.0.0.1:0", "--tied"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as console:
        until((tmp_path / "console" / "secret").exists)
        console.communicate(b"stop\n", timeout=30)
        assert console.returncode in (0, -signal.SIGTERM)


def test_a_console_ends_when_its_server_is_killed(ratchet: Serving) -> None:
    [console] = consoles(ratchet)
    ratchet.kill()
    until(lambda: has_ended(console))
