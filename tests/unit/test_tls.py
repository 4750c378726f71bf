"""The server's certificate: which is refused at the start, and how a renewed one takes over."""

import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from server import tls
from server.errors import ConfigurationError

TLS = Path(__file__).resolve().parents[1] / "tls"


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("nowhere.pem", "key.pem", "can't be read for TLS .*: correct RATCHET_TLS_CERTIFICATE"),
        ("certificate.pem", "nowhere.pem", "can't be read for TLS"),
        ("certificate.pem", "certificate.pem", "must be a PEM certificate, and .* its private key"),
        ("README.md", "key.pem", "must be a PEM certificate"),
        ("certificate.pem", "of-another.pem", "KEY_VALUES_MISMATCH|key values mismatch"),
        ("certificate.pem", "encrypted.pem", "without a passphrase"),
    ],
)
def test_a_certificate_that_can_not_be_used_is_one_sentence_at_the_start(certificate: str, key: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        tls.credentials(TLS / certificate, TLS / key)
    assert "\n" not in str(caught.value)


def test_a_certificate_with_its_key_is_taken() -> None:
    assert tls.credentials(TLS / "certificate.pem", TLS / "key.pem") is not None
    assert tls.credentials(None, None) is None


class Serving:
    """A server whose certificate can be replaced."""

    def __init__(self, folder: Path) -> None:
        self._certificate, self._key = folder / "certificate.pem", folder / "key.pem"
        self.replace("certificate.pem", "key.pem")
        self.server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), self.server)
        found = tls.credentials(self._certificate, self._key)
        assert found is not None
        self.port = self.server.add_secure_port("127.0.0.1:0", found)

    def replace(self, certificate: str = "", key: str = "") -> None:
        """Puts other files in place, as a renewal does."""
        for name, place in ((certificate, self._certificate), (key, self._key)):
            if name:
                shutil.copy(TLS / name, place)

    async def shows(self, certificate: str, name: str) -> bool:
        """Whether a new connection meets this certificate, for this name."""
        trusted = grpc.ssl_channel_credentials((TLS / certificate).read_bytes())
        options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", trusted, options=options) as channel:
            try:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
                return False
        return True


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    found = Serving(tmp_path)
    await found.server.start()
    yield found
    await found.server.stop(0)


async def test_a_renewed_certificate_is_met_by_new_connections(serving: Serving) -> None:
    assert await serving.shows("certificate.pem", "ratchet.test")
    assert not await serving.shows("certificate.pem", "renewed.test")
    serving.replace("renewed.pem", "of-another.pem")
    assert await serving.shows("renewed.pem", "renewed.test")
    assert not await serving.shows("certificate.pem", "ratchet.test")


async def test_half_a_renewal_changes_nothing_and_is_told_once(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    serving.replace("renewed.pem")
    for _ in range(2):
        assert await serving.shows("certificate.pem", "ratchet.test")
    assert [record.levelno for record in caplog.records if record.name == "server.tls"] == [logging.WARNING]
    serving.replace(key="of-another.pem")
    assert await serving.shows("renewed.pem", "renewed.test")
