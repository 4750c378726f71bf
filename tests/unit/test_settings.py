"""Settings: what is refused is refused in one sentence, what is secret is not shown, what others set is ignored."""

import fcntl
import os
from pathlib import Path

import pytest

from server import scrape
from server.embedded import Endpoints
from server.errors import ConfigurationError
from server.redaction import redact
from server.settings import load

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
        ({"redis_url": "foo"}, r"REDIS_URL can't be used: it must begin with redis://"),
        ({"redis_url": "redis://:se/cret@cache"}, r"REDIS_URL can't be used: its port is no number"),
        ({"database_url": "mysql://u:secret@db/x"}, r"DATABASE_URL can't be used: it must begin with postgresql://"),
        ({"triton_url": "http://triton"}, r"TRITON_URL can't be used: must be HOST:PORT"),
        ({"deadline": 200}, r"RATCHET_MAX_DEADLINE can't be used: .*RATCHET_DEADLINE, which is 200 seconds"),
        ({"max_deadline": 4000}, r"RATCHET_MAX_DEADLINE can't be used"),
    ],
)
def test_a_setting_that_can_not_be_used_is_one_sentence_without_secrets(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        load(given, {})
    assert "secret" not in str(caught.value)
    assert "se/cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_url_is_none() -> None:
    settings = load({"redis_url": "", "triton_url": ""}, {})
    assert (settings.redis_url, settings.triton_url) == (None, None)


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
