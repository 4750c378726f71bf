"""What webhooks get, and when they get it again."""

import base64
import hashlib
import hmac
import json
import runpy
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.alerts.delivery import Retries
from server.alerts.rule import Severity
from server.alerts.types import Alert, Finding
from server.alerts.webhooks import headers, message_of, signature
from server.errors import ConfigurationError
from server.redaction import origin
from server.settings import load, text_of

FIRED = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
FINDING = Finding("rating_low", "policy-000001", Severity.WARNING, "Nó tệ quá: 1.5 ★", 1.5, 3.5, 20, "/conversations")
ALERT = Alert("t", UUID(int=7), FINDING, FIRED, FIRED)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def test_the_signature_is_that_of_the_published_example() -> None:
    """The example of Standard Webhooks' reference libraries."""
    assert (
        signature(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            '{"test": 2432232314}',
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_the_headers_name_the_message_the_time_and_its_signature() -> None:
    found = headers("7", "thân", SECRET, FIRED)
    digest = hmac.new(bytes(range(32)), f"7.{int(FIRED.timestamp())}.thân".encode(), hashlib.sha256).digest()
    assert found["webhook-id"] == "7"
    assert found["webhook-timestamp"] == str(int(FIRED.timestamp()))
    assert found["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_a_message_says_how_the_alert_stands() -> None:
    found = json.loads(message_of(ALERT))
    assert found["type"] == "alert.firing"
    assert found["timestamp"] == "2026-05-01T12:00:00.123Z"
    assert found["data"]["reason"] == "Nó tệ quá: 1.5 ★"
    assert found["data"]["severity"] == "warning"
    assert found["data"]["resolve_time"] is None
    assert found["data"]["alert_id"] == "00000000-0000-0000-0000-000000000007"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com/services/T0/B0/secret?token=x", "https://hooks.example.com"),
        ("http://user:password@127.0.0.1:8080/x", "http://127.0.0.1:8080"),
        ("http://[::1]:99/secret", "http://[::1]:99"),
    ],
)
def test_logs_name_only_the_host_of_a_webhook(url: str, shown: str) -> None:
    assert origin(url) == shown


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 90_000))
def test_each_wait_is_longer_within_bounds_and_ends_after_a_day(attempts: int, luck: float, age: float) -> None:
    retries = Retries()
    wait = retries.wait(attempts, age, luck)
    if wait is None:
        assert age + retries.longest >= retries.last
    else:
        assert min(retries.longest, retries.first * 2.0 ** min(attempts - 1, 40)) / 2 <= wait <= retries.longest
        assert age + wait <= retries.last


def test_a_day_holds_some_thirty_attempts() -> None:
    age, attempts = 0.0, 1
    while (wait := Retries().wait(attempts, age, 0.5)) is not None:
        age, attempts = age + wait, attempts + 1
    assert 25 < attempts < 50
    assert age > 80_000


@pytest.mark.parametrize(
    "given",
    [
        {"alert_webhooks": ("https://x.example/a",)},  # no secret
        {"alert_webhooks": ("x.example/a",), "alert_secret": SECRET},
        {"alert_webhooks": ("ftp://x.example/",), "alert_secret": SECRET},
        {"alert_webhooks": ("https:///nothing",), "alert_secret": SECRET},
        {"alert_webhooks": ("https://x:port/",), "alert_secret": SECRET},
        {"alert_secret": "whsec_short"},
        {"alert_secret": "whsec_" + "A" * 33},
        {"alert_secret": "whsec_" + "A" * 100},
    ],
)
def test_webhooks_without_a_usable_secret_or_address_stop_the_start(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"RATCHET_ALERT_(SECRET|WEBHOOKS)") as raised:
        load(given, {})
    assert "x.example" not in str(raised.value)


def test_settings_take_webhooks_from_the_environment_and_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_ALERT_WEBHOOKS", '["http://u:p@127.0.0.1:1/a", "http://u:p@127.0.0.1:1/a"]')
    monkeypatch.setenv("RATCHET_ALERT_SECRET", SECRET)
    settings = load()
    assert settings.alert_webhooks == ("http://u:p@127.0.0.1:1/a",)
    assert text_of(settings.alert_webhooks) == '["http://127.0.0.1:1"]'
    assert SECRET[10:] not in repr(settings)
    assert SECRET[10:] not in text_of(settings.alert_secret)


def test_the_receiver_of_the_documentation_takes_our_messages_and_no_others() -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "examples" / "webhook.py"
    is_ours = runpy.run_path(str(path))["is_ours"]
    body, now = message_of(ALERT), FIRED.timestamp()
    sent = headers("7", body, SECRET, FIRED)
    assert is_ours(sent, body.encode(), SECRET, now)
    assert is_ours(sent | {"webhook-signature": f"v1,AAAA {sent['webhook-signature']}"}, body.encode(), SECRET, now)
    assert not is_ours(sent, body.encode() + b" ", SECRET, now)
    assert not is_ours(sent | {"webhook-id": "8"}, body.encode(), SECRET, now)
    assert not is_ours(sent, body.encode(), "whsec_" + base64.b64encode(bytes(32)).decode(), now)
    assert not is_ours(sent, body.encode(), SECRET, now + 301), "an old one that somebody sends again"
