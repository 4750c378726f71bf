"""`ratchet doctor` asks the server where it listens, and says so when it does not answer there."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import doctor
from server.embedded import status
from server.embedded.layout import Layout
from server.embedded.lock import HomeLock


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that this process holds; nothing else is looked at."""

    async def nothing(_: object) -> list[object]:
        return []

    monkeypatch.setattr("server.probes.run", nothing)
    monkeypatch.setattr(doctor, "_releases", lambda *_: [])
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path))
    monkeypatch.setenv("RATCHET_LISTEN", "127.0.0.1:1")
    return tmp_path


def test_a_server_that_runs_and_does_not_answer_where_it_listens_is_wrong(home: Path) -> None:
    layout = Layout.of(home)
    lock = HomeLock(layout.lock)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    status.write(layout, [], address)
    done = CliRunner().invoke(doctor.command)
    lock.release()
    assert done.exit_code == 1
    assert f"✗ server: process {lock_pid(layout)} at {address}: nothing answers" in done.output


def test_a_home_that_is_held_without_a_server_is_not_wrong(home: Path) -> None:
    lock = HomeLock(Layout.of(home).lock)
    status.write(Layout.of(home), [])
    found = doctor.findings()
    lock.release()
    assert found["server"] == {"address": "", "health": "not serving: it starts, or replays"}
    assert found["checks"] == []


def lock_pid(layout: Layout) -> str:
    return layout.lock.read_text().strip()
