"""Settings: what is refused is refused in one sentence, what is secret is not shown, what others set is ignored."""

import fcntl
import os
from pathlib import Path

import pytest

from server import scrape
from server.embedded import Endpoints
from server.errors import ConfigurationError
from server.redaction import redact
from server.settings import load, text_of
from server.types import Preset

KUBERNETES = {
    "RATCHET_SERVICE_HOST": "10.0.0.7",
    "RATCHET_SERVICE_PORT": "50051",
    "RATCHET_SERVICE_PORT_GRPC": "50051",
    "RATCHET_PORT": "tcp://10.0.0.7:50051",
    "RATCHET_PORT_50051_TCP": "tcp://10.0.0.7:50051",
    "RATCHET_PORT_50051_TCP_ADDR": "10.0.0.7",
    "RATCHET_METRICS_PORT": "tcp://10.0.0.8:9464",
    "RATCHET_METRICS_SERVICE_HOST": "10.0.0.8",
}


def test_what_kubernetes_sets_for_a_service_named_ratchet_is_no_setting() -> None:
    assert load({}, KUBERNETES).listen == "127.0.0.1:50051"
    with pytest.raises(ConfigurationError, match="RATCHET_METRICS_PORT is not a setting"):
        load({}, {"RATCHET_METRICS_PORT": "9464"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"database_url": "postgresql"}, r"DATABASE_URL can't be used: it must begin with postgresql://"),
        ({"redis_url": "foo"}, r"REDIS_URL can't be used: it must begin with redis://"),
        ({"redis_url": "redis://:se/cret@cache"}, r"REDIS_URL can't be used: its port is no number"),
        ({"database_url": "mysql://u:secret@db/x"}, r"DATABASE_URL can't be used: it must begin with postgresql://"),
        ({"triton_url": "http://triton"}, r"TRITON_URL can't be used: must be HOST:PORT"),
        ({"triton_urls": "a:1"}, r"RATCHET_TRITON_URLS can't be used: .*TRITON_URL, which is not set"),
        ({"triton_url": "t:1", "triton_urls": "a:1,b"}, r"RATCHET_TRITON_URLS can't be used: must be HOST:PORT"),
        ({"triton_url": "t:1", "triton_urls": "a:1, a:1"}, r"RATCHET_TRITON_URLS can't be used: it names a .* twice"),
        ({"deadline": 200}, r"RATCHET_MAX_DEADLINE can't be used: .*RATCHET_DEADLINE, which is 200 seconds"),
        ({"max_deadline": 4000}, r"RATCHET_MAX_DEADLINE can't be used"),
        ({"tool_budget": "inf"}, r"RATCHET_TOOL_BUDGET can't be used: .*finite"),
        ({"patience": "nan"}, r"RATCHET_PATIENCE can't be used: .*finite"),
        ({"tools": "dosc"}, r"RATCHET_TOOLS can't be used: 'dosc' is no tool: did you mean docs\?"),
        ({"tools": "docs,shell"}, r"'shell' is no tool: there are docs, sql, web\.$"),
        ({"web_ports": "a"}, r"RATCHET_WEB_PORTS can't be used: it must be ports from 1 to 65535 .*, not 'a'\.$"),
        ({"web_ports": "80,"}, r"RATCHET_WEB_PORTS"),
        ({"web_ports": "0"}, r"RATCHET_WEB_PORTS"),
        ({"web_ports": "65536"}, r"RATCHET_WEB_PORTS"),
        ({"web_ports": "٨٠"}, r"RATCHET_WEB_PORTS"),
        ({"web_search_url": "ftp://u:secret@x"}, r"RATCHET_WEB_SEARCH_URL can't be used: it must begin with http://"),
        ({"web_search_url": "localhost:8080/search"}, r"RATCHET_WEB_SEARCH_URL can't be used: it must begin with"),
        ({"web_search_url": "https:///search"}, r"RATCHET_WEB_SEARCH_URL can't be used: it must name a host"),
        ({"sql_url": "postgresql://u:secret@db/x"}, r"RATCHET_SQL_CATALOG can't be used: it must name the TOML file"),
        ({"sql_url": "mysql://u:secret@db/x"}, r"RATCHET_SQL_URL can't be used: it must begin with postgresql://"),
        ({"sql_catalog": "/nowhere/at.toml"}, r"RATCHET_SQL_CATALOG can't be used: there is no file /nowhere/at.toml"),
        (
            {"listen": "0.0.0.0:1"},
            r"RATCHET_LISTEN can't be used: 0.0.0.0 is not a loopback .* RATCHET_KEYS=on and make",
        ),
        ({"listen": "[::]:1"}, r":: is not a loopback address: without keys"),
        ({"listen": "shop.example:1"}, r"shop.example is not a loopback address: without keys"),
        ({"listen": "0.0.0.0:1", "plaintext": "anywhere"}, r"without keys"),
        (
            {"listen": "0.0.0.0:1", "keys": "on"},
            r"readable on the way: set RATCHET_TLS_CERTIFICATE .*RATCHET_PLAINTEXT",
        ),
        ({"listen": "127.0.0.1"}, r"RATCHET_LISTEN can't be used: must be HOST:PORT"),
        ({"listen": "127.0.0.1:70000"}, r"RATCHET_LISTEN can't be used: must be HOST:PORT"),
        ({"metrics": "0.0.0.0:1", "keys": "on"}, r"RATCHET_METRICS can't be used: 0.0.0.0 is not a loopback address"),
        ({"tls_certificate": "a.pem"}, r"RATCHET_TLS_KEY can't be used: a certificate and its key belong together"),
        ({"tls_key": "a.pem"}, r"RATCHET_TLS_KEY can't be used: a certificate and its key belong together"),
        ({"presets": "a"}, r"RATCHET_PRESETS can't be used: it is no JSON"),
        ({"presets": "[]"}, r"RATCHET_PRESETS can't be used: .*at least 1"),
        ({"presets": '[{"name": "a"}, {}]'}, r"RATCHET_PRESETS can't be used: 1: name: Field required\.$"),
        ({"presets": '[{"name": "a", "top": 1}]'}, r"RATCHET_PRESETS can't be used: 0: top: "),
        ({"presets": '[{"name": "a"}, {"name": "a"}]'}, r"two presets are named a\.$"),
        ({"presets": '[{"name": "a b"}]'}, r"'a b' is no name of a preset"),
        ({"presets": '[{"name": "a", "temperature": -0.1}]'}, r"the temperature of a must be from 0 to 100"),
        ({"presets": '[{"name": "a", "temperature": NaN}]'}, r"RATCHET_PRESETS can't be used: .*"),
        ({"presets": '[{"name": "a", "temperature": Infinity}]'}, r"RATCHET_PRESETS can't be used: .*"),
        ({"presets": '[{"name": "a", "top_p": 0}]'}, r"the top_p of a must be over 0"),
        ({"presets": '[{"name": "a", "top_p": 1.1}]'}, r"the top_p of a must be over 0"),
        ({"presets": '[{"name": "a", "top_k": -1}]'}, r"the top_k of a must be from 0"),
    ],
)
def test_a_setting_that_can_not_be_used_is_one_sentence_without_secrets(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        load(given, {})
    assert "secret" not in str(caught.value)
    assert "se/cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_presets_of_the_environment_are_checked_as_those_of_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_PRESETS", "nonsense")
    with pytest.raises(ConfigurationError, match="RATCHET_PRESETS can't be used: it is no JSON"):
        load()
    monkeypatch.setenv("RATCHET_PRESETS", '[{"name": "greedy", "temperature": 0}]')
    assert load().presets == (Preset("greedy", temperature=0),)


def test_a_default_is_shown_as_it_can_be_given() -> None:
    settings = load({}, {})
    assert load({"presets": text_of(settings.presets)}, {}).presets == settings.presets
    assert text_of(settings.database_url) == ""


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"listen": "[::1]:1"},
        {"listen": "localhost:1", "keys": "on"},
        {"listen": "0.0.0.0:1", "keys": "on", "plaintext": "anywhere"},
        {"listen": "0.0.0.0:1", "keys": "on", "tls_certificate": "a.pem", "tls_key": "b.pem"},
        {"tls_certificate": "", "tls_key": "", "metrics": "off"},
    ],
)
def test_it_listens_where_it_may(given: dict[str, str]) -> None:
    settings = load(given, {})
    assert settings.listen == given.get("listen", "127.0.0.1:50051")
    again = load(settings.model_dump(mode="json"), {})
    assert again == settings, "a further server process reads what the first one had"


def test_an_empty_url_is_none() -> None:
    settings = load({"redis_url": "", "triton_url": ""}, {})
    assert (settings.redis_url, settings.triton_url) == (None, None)


def test_replicas_are_addresses() -> None:
    assert load({"triton_url": "t:1", "triton_urls": "a:1, b:2"}, {}).replicas == ("a:1", "b:2")
    assert load({"triton_urls": ""}, {}).replicas == ()


def test_the_fake_backend_wants_no_triton() -> None:
    parts = load({"backend": "fake", "triton_url": "127.0.0.1:8001"}, {}).embedded()
    assert (parts.triton, parts.triton_url) == (False, None)
    assert load({}, {}).embedded().triton


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@db/x", "postgresql://u:…@db/x"),
        ("postgresql://u:p@secret@db:5432/x", "postgresql://u:…@db:5432/x"),
        ("postgresql://u:a/secret?b@db/x?sslmode=require", "postgresql://u:…@db/x?sslmode=require"),
        ("postgresql://db/x?user=u&password=secret&a=b", "postgresql://db/x?user=u&password=…&a=b"),
        ("postgresql:///x?password=a@secret", "postgresql:///x?password=…"),
        ("redis://:secret@cache:6379/0", "redis://:…@cache:6379/0"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("unix:///tmp/a@b.sock?password=secret", "unix:///tmp/a@b.sock?password=…"),
        ("127.0.0.1:8001", "127.0.0.1:8001"),
        ("/a/path@home", "/a/path@home"),
        ("whsec_c2VjcmV0", "whsec_…"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_passwords_are_in_no_repr() -> None:
    settings = load({"database_url": "postgresql://u:secret@db/x", "redis_url": "redis://:secret@cache"}, {})
    endpoints = Endpoints(settings.database_url or "", settings.redis_url or "", "", None, None)
    for value in (settings, settings.embedded(), endpoints):
        assert "secret" not in repr(value)


def test_each_launcher_shares_metrics_in_a_directory_of_its_own_and_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    (tmp_path / "of-a-killed-one").mkdir()
    with scrape.shared(tmp_path):
        first = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        (first / "counter_1.db").touch()
        with scrape.shared(tmp_path):
            second = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
            assert set(tmp_path.iterdir()) == {first, second}
        assert list(first.iterdir()) == [first / "counter_1.db"]
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_can_not_hold_metrics_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(ConfigurationError, match="set RATCHET_HOME"), scrape.shared(tmp_path / "run" / "metrics"):
        pass

    def refuse(file: int, how: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigurationError, match="No space left"), scrape.shared(tmp_path / "metrics"):
        pass
