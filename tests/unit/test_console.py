"""The console's settings and its border: what it refuses to be, and whom it refuses to talk to."""

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from console import session
from console.border import Border
from console.links import web_address
from console.settings import Settings, SettingsError, storage_secret
from server import beside
from server import settings as configuration
from server.embedded.layout import Layout
from server.errors import ConfigurationError

HOME = Path("/nowhere")


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "192.0.2.1:8080", "[::]:8080", "example.com:80"])
def test_without_keys_the_console_serves_this_machine_only(listen: str) -> None:
    with pytest.raises(SettingsError, match="loopback"):
        Settings(HOME, listen=listen)
    assert not Settings(HOME, listen=listen, keys=True).loopback


@pytest.mark.parametrize("listen", ["8080", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", ":8080", "off"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(SettingsError, match="HOST:PORT"):
        Settings(HOME, listen=listen)


@pytest.mark.parametrize(
    ("target", "environment", "tls"),
    [
        ("127.0.0.1:50051", {}, False),
        ("[::1]:50051", {}, False),
        ("ratchet.example.com:443", {}, True),
        ("ratchet.example.com:443", {"RATCHET_TLS": "off"}, False),
        ("127.0.0.1:50051", {"RATCHET_TLS_CA": "ca.pem"}, True),
        ("127.0.0.1:50051", {"RATCHET_TLS": "on"}, True),
    ],
)
def test_tls_is_on_beyond_this_machine_or_when_asked_for(
    target: str, environment: dict[str, str], tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RATCHET_TLS", "RATCHET_TLS_CA", "RATCHET_TLS_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings.of_environment(HOME, target, "127.0.0.1:0", keys=False).tls is tls
    assert Settings.of_environment(HOME, target, "127.0.0.1:0", keys=False, tls="off").tls is False


def test_the_key_is_not_shown_with_the_settings() -> None:
    assert "ratchet_secret" not in repr(Settings(HOME, api_key="ratchet_secret"))


def test_the_secret_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "console"
    first = storage_secret(folder)
    assert len(first) >= 32
    assert storage_secret(folder) == first
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["secret"]


def test_the_server_starts_no_console_beyond_loopback_without_keys_and_a_proxy() -> None:
    assert configuration.load({"console": "off"}, {}).console == "off"
    with pytest.raises(ConfigurationError, match="RATCHET_KEYS=on"):
        configuration.load({"console": "0.0.0.0:8080"}, {})
    with pytest.raises(ConfigurationError, match="RATCHET_PLAINTEXT=anywhere"):
        configuration.load({"console": "0.0.0.0:8080", "keys": "on"}, {})
    given = {"console": "0.0.0.0:8080", "keys": "on", "plaintext": "anywhere"}
    assert configuration.load(given, {}).console == "0.0.0.0:8080"


@pytest.mark.parametrize("there", [False, True])
def test_the_log_is_read_by_its_owner_only(tmp_path: Path, there: bool) -> None:
    given = configuration.load({"home": tmp_path, "console": "127.0.0.1:0"}, {})
    if there:
        kept = Layout.of(given.home).logs / "console.log"
        kept.parent.mkdir(parents=True)
        kept.touch(0o644)
    with beside.listen(given.console) as listening:
        log = beside.program(given, "127.0.0.1:1", listening).log
    assert log is not None
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_visitors_differ_by_key_and_by_name_and_are_nobody_alike_after_signing_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: dict[str, str] = {"language": "vi"}
    monkeypatch.setattr(session, "app", SimpleNamespace(storage=SimpleNamespace(user=kept)))
    nobody, seen = session.visitor(), set[str]()
    for key, name in [("a", "Ann"), ("a", "Ben"), ("b", "Ann"), ("aA", "nn"), ("a", ""), ("a", "\ud800")]:
        session.sign_in(key, name)
        seen.add(session.visitor())
    assert len({nobody, *seen}) == 7
    session.sign_out()
    assert kept == {"language": "vi"}
    assert session.visitor() == nobody


async def _ask(kind: str, headers: dict[str, str], hosts: tuple[str, ...]) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the request came through, and what was answered."""
    came, sent = [], list[dict[str, Any]]()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        came.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await Border(inner, hosts)({"type": kind, "headers": raw, "method": "GET", "path": "/"}, receive, send)
    return bool(came), sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("headers", "welcome"),
    [
        ({"host": "127.0.0.1:8080"}, True),
        ({"host": "localhost:8080", "origin": "http://localhost:8080"}, True),
        ({"host": "[::1]:8080", "origin": "http://[::1]:8080"}, True),
        ({"host": "127.0.0.1:8080", "origin": "http://evil.example"}, False),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:9999"}, False),
        ({"host": "127.0.0.1:8080", "origin": "null"}, False),
        ({"host": "rebound.example:8080", "origin": "http://rebound.example:8080"}, False),
        ({"host": "127.0.0.1.evil.example"}, False),
        ({"host": "["}, False),
        ({"host": "evil.example@127.0.0.1:8080"}, False),
        ({"host": "evil@127.0.0.1:8080", "origin": "http://evil@127.0.0.1:8080"}, False),
        ({"host": "127.0.0.1:8080", "origin": "http://["}, False),
        ({"host": "127.0.0.1:8080", "origin": "http://[127.0.0.1]:8080"}, False),
        ({}, False),
    ],
)
async def test_only_pages_of_the_console_itself_talk_to_it(kind: str, headers: dict[str, str], welcome: bool) -> None:
    came, sent = await _ask(kind, headers, ("localhost", "127.0.0.1", "::1"))
    assert came is welcome
    if not welcome:
        assert sent[0] == {"type": "websocket.close", "code": 1008} if kind == "websocket" else sent[0]["status"] == 403


@pytest.mark.parametrize(
    ("headers", "welcome"),
    [
        ({"host": "ratchet.example", "origin": "https://ratchet.example"}, True),
        ({"host": "evil@ratchet.example", "origin": "https://evil@ratchet.example"}, False),
        ({"host": "ratchet.example", "origin": "http://["}, False),
        ({"origin": "http://["}, False),
        ({"origin": "null"}, False),
    ],
)
async def test_under_any_name_too_only_its_own_pages_talk_to_it(headers: dict[str, str], welcome: bool) -> None:
    came, _ = await _ask("http", headers, ())
    assert came is welcome


async def test_a_page_may_load_nothing_from_elsewhere() -> None:
    _, sent = await _ask("http", {"host": "ratchet.example"}, ())
    policy = dict(sent[0]["headers"])[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.parametrize("uri", ["http://example.com", "https://example.com/a?b=c#d", "HTTPS://[::1]:8443/ấ"])
def test_evidence_leads_to_the_web(uri: str) -> None:
    assert web_address(uri) == uri


@pytest.mark.parametrize("uri", ["", "http://[x", "http:", "file:///etc/passwd", "javascript:alert(1)", " x", "a/b"])
def test_evidence_that_leads_elsewhere_or_nowhere_leads_nowhere(uri: str) -> None:
    assert web_address(uri) == ""
