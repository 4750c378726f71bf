"""`ratchet keys` and what it opens: a server beyond loopback, in two processes, asked from the command line."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import new_home
from tests.e2e.serving import SECONDS, Serving, serving

TLS = Path(__file__).resolve().parents[1] / "tls"
CERTIFICATE = str(TLS / "certificate.pem")


@pytest.fixture(scope="module")
def home() -> Path:
    return new_home()


@pytest.fixture(scope="module")
def ratchet(home: Path) -> Iterator[Serving]:
    """Listens on all addresses of this machine, with keys and TLS."""
    flags = ("--backend=fake", "--processes=2", "--listen=0.0.0.0:0", "--keys=on")
    with serving(home, *flags, f"--tls-certificate={CERTIFICATE}", f"--tls-key={TLS / 'key.pem'}") as found:
        assert found.started["sample"]["response"]
        yield found


def run(ratchet: Serving, home: Path, *arguments: str, key: str = "") -> "subprocess.CompletedProcess[str]":
    """A command of a client, or of the keys, of the same machine."""
    port = str(ratchet.events[-1]["serving"]).rpartition(":")[2]
    reach = {"RATCHET_ADDRESS": f"127.0.0.1:{port}", "RATCHET_TLS_CA": CERTIFICATE, "RATCHET_TLS_NAME": "ratchet.test"}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=os.environ | reach | {"RATCHET_HOME": str(home), "RATCHET_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_a_server_says_that_nobody_can_call_yet(ratchet: Serving) -> None:
    assert any("ratchet keys add" in str(event.get("event")) for event in ratchet.events)


def test_a_key_is_made_shown_once_used_and_revoked(ratchet: Serving, home: Path) -> None:
    refused = run(ratchet, home, "ask", "Hello?")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "set RATCHET_API_KEY to one that `ratchet keys add` made" in refused.stderr
    made = run(ratchet, home, "keys", "add", "--name", "Cửa hàng", "--role", "caller", "--expires", "90d", "--json")
    key = json.loads(made.stdout)
    assert (key["tenant_id"], key["roles"], key["state"]) == ("default", ["caller"], "works")
    for _ in range(4):  # the kernel spreads connections over the processes
        answered = run(ratchet, home, "ask", "Hello?", "--json", key=key["key"])
        assert answered.returncode == 0, answered.stderr
        assert json.loads(answered.stdout)["response"]
    denied = run(ratchet, home, "docs", "add", __file__, key=key["key"])
    assert denied.returncode == 1
    assert "needs the role operator; the API key 'Cửa hàng' has: caller." in denied.stderr
    listed = run(ratchet, home, "keys", "list", "--json")
    assert [each["key_id"] for each in json.loads(listed.stdout)["keys"]] == [key["key_id"]]
    assert key["key"].rpartition("_")[2] not in listed.stdout
    for _ in range(2):
        revoked = run(ratchet, home, "keys", "revoke", key["key_id"])
        assert revoked.stdout == f"Revoked: {key['key_id']}, Cửa hàng.\n"
    ends = time.monotonic() + SECONDS
    while run(ratchet, home, "ask", "Hello?", key=key["key"]).returncode == 0:
        assert time.monotonic() < ends, "a revoked key goes on working"
    assert run(ratchet, home, "keys", "list").stdout.startswith("There are no such keys")
    assert json.loads(run(ratchet, home, "keys", "list", "--all", "--json").stdout)["keys"][0]["state"] == "revoked"


def test_people_see_the_key_alone_on_standard_output(ratchet: Serving, home: Path) -> None:
    made = run(ratchet, home, "keys", "add", "--name", "console", "--role", "operator", "--role", "rater")
    assert made.stdout.startswith("ratchet_")
    assert made.stdout.count("\n") == 1
    assert "It is shown this once" in made.stderr
    listed = run(ratchet, home, "user", "get", "nobody", key=made.stdout.strip())
    assert "PROFILE_NOT_FOUND" in listed.stderr
    run(ratchet, home, "keys", "revoke", made.stdout.strip())


def test_an_unknown_key_id_is_a_sentence(ratchet: Serving, home: Path) -> None:
    done = run(ratchet, home, "keys", "revoke", "nosuchkey000")
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no key 'nosuchkey000': `ratchet keys list` shows their ids." in done.stderr


def test_doctor_finds_the_server_behind_its_certificate(ratchet: Serving, home: Path) -> None:
    assert json.loads(run(ratchet, home, "doctor", "--json").stdout)["server"]["health"] == "SERVING"


def test_without_keys_it_does_not_listen_beyond_loopback(tmp_path: Path) -> None:
    with serving(tmp_path, "--backend=fake", "--listen=0.0.0.0:0") as found:
        assert "RATCHET_KEYS=on" in found.errors()
        assert found.process.returncode == 1
