"""How the commands of a client reach a server: with TLS or without, with a key or not at all, and what they say."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from cli import client, connection, keys
from cli.main import ratchet
from cli.output import CommandFailed
from ratchet.v1 import inference_pb2, inference_pb2_grpc
from server.rpc import status

TLS = Path(__file__).resolve().parents[1] / "tls"
KEY = "ratchet_0123456789ab_" + 64 * "a"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RATCHET_API_KEY", "RATCHET_TLS", "RATCHET_TLS_CA", "RATCHET_TLS_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.9.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("dns:///localhost:1", True),
        ("ipv6:[::1]:1", True),
        ("unix:/tmp/socket", True),
        ("localhost", True),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("[fe80::1]:1", False),
        ("localhost.example.com:1", False),
        ("127.0.0.1.example.com:1", False),
        ("dns://127.0.0.1/ratchet.example:1", False),
        ("ratchet", False),
        ("", False),
    ],
)
def test_a_key_goes_readable_within_the_machine_only(address: str, near: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection.is_near(address) is near
    assert connection.with_tls(address) is not near
    monkeypatch.setenv("RATCHET_TLS", "off")
    assert not connection.with_tls(address), "unless it was told to"
    monkeypatch.setenv("RATCHET_TLS", "on")
    assert connection.with_tls(address)
    monkeypatch.setenv("RATCHET_TLS", "yes")
    with pytest.raises(CommandFailed, match="RATCHET_TLS must be on or off, not 'yes'"):
        connection.with_tls(address)


def test_who_names_an_authority_wants_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_TLS_CA", "/nowhere/ca.pem")
    assert connection.with_tls("127.0.0.1:1")
    with pytest.raises(CommandFailed, match=r"RATCHET_TLS_CA can't be read \(No such file or directory\): /nowhere"):
        connection.opened("127.0.0.1:1")


@pytest.mark.parametrize("key", ["kêy", "a\nb"])
def test_a_key_that_no_metadata_can_carry_is_a_sentence(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_API_KEY", key)
    with pytest.raises(CommandFailed, match="RATCHET_API_KEY is no API key") as caught:
        connection.opened("127.0.0.1:1")
    assert key not in str(caught.value)


class Service(inference_pb2_grpc.InferenceServiceServicer):
    """Notes the keys that come, and answers or refuses."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.refusal: Exception | None = None

    def Score(self, request: Any, context: Any) -> inference_pb2.ScoreResponse:
        self._note(context)
        return inference_pb2.ScoreResponse(reward_release="reward-000001")

    def StreamGenerate(self, request: Any, context: Any) -> Iterator[inference_pb2.StreamGenerateResponse]:
        self._note(context)
        yield inference_pb2.StreamGenerateResponse()

    def _note(self, context: Any) -> None:
        self.seen.append(dict(context.invocation_metadata()).get("authorization"))
        if self.refusal is not None:
            found = status.to_status(self.refusal)  # type: ignore[arg-type]
            context.set_trailing_metadata(status.trailers(found))
            context.abort(status.code_of(self.refusal), found.message)  # type: ignore[arg-type]


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Service]]:
    """Where it listens, and the service."""
    service = Service()
    with ThreadPoolExecutor(2) as threads:
        found = grpc.server(threads)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(service, found)
        if request.param == "plain":
            port = found.add_insecure_port("127.0.0.1:0")
        else:
            pair = (TLS / "key.pem").read_bytes(), (TLS / "certificate.pem").read_bytes()
            port = found.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
            monkeypatch.setenv("RATCHET_TLS_CA", str(TLS / "certificate.pem"))
            monkeypatch.setenv("RATCHET_TLS_NAME", "ratchet.test")
        found.start()
        yield f"127.0.0.1:{port}", service
        stopped: threading.Event = found.stop(0)
        stopped.wait(10)


def test_calls_of_each_kind_bring_the_key(server: tuple[str, Service], monkeypatch: pytest.MonkeyPatch) -> None:
    address, service = server
    for key in ("", KEY):
        monkeypatch.setenv("RATCHET_API_KEY", key)
        with client.inference(address, 10) as stub:
            stub.Score(inference_pb2.ScoreRequest(), timeout=10)
            assert len(list(stub.StreamGenerate(inference_pb2.StreamGenerateRequest(), timeout=10))) == 1
    assert service.seen == [None, None, f"Bearer {KEY}", f"Bearer {KEY}"]


def test_a_server_whose_certificate_is_of_another_name_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    with ThreadPoolExecutor(2) as threads:
        found = grpc.server(threads)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(service, found)
        pair = (TLS / "key.pem").read_bytes(), (TLS / "certificate.pem").read_bytes()
        address = f"127.0.0.1:{found.add_secure_port('127.0.0.1:0', grpc.ssl_server_credentials([pair]))}"
        found.start()
        monkeypatch.setenv("RATCHET_API_KEY", KEY)
        monkeypatch.setenv("RATCHET_TLS_CA", str(TLS / "certificate.pem"))
        done = CliRunner().invoke(ratchet, ["score", "q", "a", "--address", address, "--timeout", "10"])
        found.stop(0).wait(10)
    assert done.exit_code == 1
    assert f"No server answers at {address} with TLS" in done.output
    assert "RATCHET_TLS_NAME" in done.output
    assert service.seen == []


@pytest.mark.parametrize("key", ["", KEY])
def test_a_refusal_says_what_to_do(server: tuple[str, Service], key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from server.errors import PermissionDenied, Unauthenticated

    address, service = server
    monkeypatch.setenv("RATCHET_API_KEY", key)
    arguments = ["score", "q", "a", "--address", address, "--timeout", "10"]
    service.refusal = Unauthenticated("The API key is not known here.")
    said = CliRunner().invoke(ratchet, arguments).output
    assert ("The API key is not known here. It is the one of RATCHET_API_KEY" if key else "set RATCHET_API_KEY") in said
    service.refusal = PermissionDenied("This method needs the role caller; the API key 'x' has: rater.", "caller")
    said = CliRunner().invoke(ratchet, arguments).output
    assert said == "ratchet: This method needs the role caller; the API key 'x' has: rater.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "n"], "Missing option '--role'"),
        (["--role", "caller"], "Missing option '--name'"),
        (["--name", "n", "--role", "admin"], "'admin' is not one of"),
        (["--name", "a\nb", "--role", "caller"], "must be one line"),
        (["--name", "\udcff", "--role", "caller"], "must be one line"),
        (["--name", "n" * 129, "--role", "caller"], "must be one line of 1 to 128 characters"),
        (["--name", "n", "--role", "caller", "--user", ""], "must be one line"),
        (["--name", "n", "--role", "operator", "--user", "ann"], "roles caller and rater only"),
        (["--name", "n", "--role", "caller", "--tenant", "ratchet"], "Ratchet's own sample queries"),
        (["--name", "n", "--role", "caller", "--tenant", "a b"], "must be up to 64 letters"),
        (["--name", "n", "--role", "caller", "--tenant", ""], "must be up to 64 letters"),
        (["--name", "n", "--role", "caller", "--expires", "0d"], "write 12h, 90d, 8w or 1y"),
        (["--name", "n", "--role", "caller", "--expires", "soon"], "write 12h, 90d, 8w or 1y"),
        (["--name", "n", "--role", "caller", "--expires", "99999y"], "write 12h, 90d, 8w or 1y"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_before_a_database_is_asked(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(keys.command, ["add", *arguments])
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


def test_without_a_server_or_a_database_it_says_what_to_start(home: Path) -> None:
    done = CliRunner().invoke(ratchet, ["keys", "list"], env={"RATCHET_HOME": str(home)})
    assert done.exit_code == 1
    assert f"No Ratchet runs from {home}: start `ratchet serve`" in done.output.replace("\n", " ")
