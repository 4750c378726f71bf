"""The certificate that callers meet, where there is one. A renewed one is taken without a restart."""

import logging
import ssl
from pathlib import Path

import grpc

from server.errors import ConfigurationError

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


def credentials(certificate: Path | None, key: Path | None) -> grpc.ServerCredentials | None:
    """What the port is opened with; None without a certificate. `certificate` is PEM: the server's own first, then
    those that signed it; `key` its private key, PEM without a passphrase.

    Raises ConfigurationError when they can't be read, are no PEM, or do not belong together.
    """
    if certificate is None or key is None:
        return None
    pair = _Pair(certificate, key)
    return grpc.dynamic_ssl_server_credentials(pair.read(), pair.renewed)  # type: ignore[arg-type]  # None is fine


class _Pair:
    """A certificate and its key in files that somebody renews."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self._seen = self._stamp()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold. Raises ConfigurationError."""
        certificate, key = self._certificate, self._key
        try:
            # grpc itself finds out only when somebody calls.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
            return grpc.ssl_server_certificate_configuration([(key.read_bytes(), certificate.read_bytes())])
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"RATCHET_TLS_CERTIFICATE and RATCHET_TLS_KEY can't be used ({error.reason or error}): "
                f"{certificate} must be a PEM certificate, and {key} its private key, without a passphrase."
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename or certificate} can't be read for TLS ({error.strerror}): correct "
                "RATCHET_TLS_CERTIFICATE and RATCHET_TLS_KEY, or let this user read the files."
            ) from error

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What grpc asks, in a thread of its own, before each handshake: the pair, where it is a new one.

        None where nothing changed, or the files do not fit together (yet): the pair before stays.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        self._seen = stamp
        try:
            found = self.read()
        except ConfigurationError as error:
            log.warning("the certificate before stays: %s", error)
            return None
        log.info("a renewed certificate is used from now on")
        return found

    def _stamp(self) -> _Stamp:
        """Differs once a file was written or replaced."""
        found = []
        for path in (self._certificate, self._key):
            try:
                status = path.stat()
            except OSError:  # being replaced
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)
