"""Where the embedded parts live: paths, the lock, ports, accounts, all decided without starting anything."""

import json
import os
import socket
from pathlib import Path

import pytest

from server.embedded import EmbeddedSettings, default_home, ports, status
from server.embedded.account import Account, postgres_account
from server.embedded.child import ChildStatus
from server.embedded.errors import HomeInUse, HomeUnusable, UnsupportedMachine
from server.embedded.layout import SOCKET_LIMIT, Layout
from server.embedded.lock import HomeLock, holder
from server.embedded.warden import sweep

STRANGER = Account("stranger", 54321, 54321)


def test_sockets_live_in_the_home_when_they_fit() -> None:
    layout = Layout.of(Path("/srv/ratchet"))
    assert layout.run == Path("/srv/ratchet/run")
    assert layout.valkey_socket == Path("/srv/ratchet/run/valkey.sock")


@pytest.mark.parametrize("home", ["/srv/" + "long" * 30, "/srv/a home", "/srv/$(id)", "/srv/nhà"])
def test_sockets_move_to_a_short_plain_path_when_the_home_is_not(home: str) -> None:
    layout = Layout.of(Path(home))
    assert str(layout.run).startswith("/tmp/ratchet-")
    assert len(os.fsencode(layout.postgres_socket / ".s.PGSQL.5432")) <= SOCKET_LIMIT
    assert layout.models == Path(home) / "models"


def test_homes_share_no_name_outside_themselves() -> None:
    one, other = Layout.of(Path("/srv/a home")), Layout.of(Path("/srv/b home"))
    assert one.run != other.run
    assert not one.shm_prefix.startswith(other.shm_prefix)


def test_a_run_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.of(tmp_path)
    layout.run.symlink_to("/etc")
    with pytest.raises(HomeUnusable, match=r"belongs to somebody else.*RATCHET_HOME"):
        layout.make()


def test_a_home_that_is_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(HomeUnusable, match="set RATCHET_HOME") as refused:
        Layout.of(file).make()
    assert "\n" not in str(refused.value)


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) is None
    lock = HomeLock(path)
    with pytest.raises(HomeInUse, match=f"process {os.getpid()}") as refused:
        HomeLock(path)
    assert refused.value.pid == holder(path) == os.getpid()
    lock.release()
    assert holder(path) is None
    HomeLock(path).release()


def test_ports_are_kept_while_they_are_free(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    first = ports.remembered(path, 3)
    assert len(set(first)) == 3
    assert ports.remembered(path, 3) == first
    with socket.create_server(("127.0.0.1", first[1])):
        assert ports.remembered(path, 3) != first


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["a", "b", "c"]', "[1e99, 1, 2]", "[-1, 99999999, 3]"])
def test_a_damaged_port_file_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ports.json"
    path.write_text(text)
    assert json.loads(path.read_text() or "0") != ports.remembered(path, 3)
    assert len(json.loads(path.read_text())) == 3


def test_an_account_reaches_what_the_modes_allow(home: Path) -> None:
    binary = home / "deep" / "binary"
    binary.parent.mkdir()
    binary.write_text("x")
    binary.chmod(0o644)
    binary.parent.chmod(0o711)
    assert STRANGER.can_reach(binary)
    binary.chmod(0o640)
    assert not STRANGER.can_reach(binary)
    binary.chmod(0o644)
    binary.parent.chmod(0o700)
    assert not STRANGER.can_reach(binary)
    owner = Account("owner", home.stat().st_uid, 0)
    assert owner.can_reach(binary)


def test_a_group_that_is_shut_out_is_not_let_in_as_others(home: Path) -> None:
    home.chmod(0o701)
    member = Account("member", 54321, home.stat().st_gid)
    assert not member.can_reach(home)
    assert STRANGER.can_reach(home)


def test_only_root_needs_another_account_for_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert postgres_account(tmp_path / "absent") is None
    assert default_home() == Path.home() / ".local/share/ratchet" or "XDG_DATA_HOME" in os.environ
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_home() == Path("/var/lib/ratchet")
    monkeypatch.setattr("pwd.getpwnam", lambda name: {}[name])
    with pytest.raises(UnsupportedMachine, match="run Ratchet as an ordinary user"):
        postgres_account(tmp_path / "absent")


def test_status_survives_the_file(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    assert status.read(tmp_path) is None
    parts = [
        ChildStatus("triton", "running", "127.0.0.1:1", "2.51.0", 7, 1, tmp_path / "triton.log", "ended"),
        ChildStatus("postgres", "external", "db/x"),
    ]
    status.write(layout, parts, "127.0.0.1:50091")
    assert status.read(tmp_path) is None, "nobody holds the lock: the file is stale"
    lock = HomeLock(layout.lock)
    assert status.read(tmp_path) == (os.getpid(), parts, "127.0.0.1:50091")
    lock.release()


def test_the_sweep_takes_only_the_home_s_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.embedded.warden.SHARED_MEMORY", tmp_path)
    for name in ("ratchet_ab_1", "ratchet_ab_2", "ratchet_cd_1"):
        (tmp_path / name).touch()
    sweep("ratchet_ab_")
    assert [path.name for path in tmp_path.iterdir()] == ["ratchet_cd_1"]


def test_settings_default_to_this_checkout() -> None:
    assert EmbeddedSettings(home=Path("/x")).triton_env == Path(__file__).resolve().parents[2] / ".venv-triton"
