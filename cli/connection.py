"""A channel to a server: with TLS where the way is not this machine's own, and with the caller's API key.

All of it is told by the environment, because a flag's value is seen by every user of a machine:
RATCHET_API_KEY; RATCHET_TLS (on or off; default: on for addresses beyond loopback and with RATCHET_TLS_CA);
RATCHET_TLS_CA (a PEM file of who may have signed the server's certificate; default: the system's); RATCHET_TLS_NAME
(the name in the certificate, where it is not the address's).
"""

import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from cli.output import CommandFailed

_MAX_MESSAGE = 8 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.enable_http_proxy", 0),  # Ratchet is near, where no proxy of the environment leads
)
_KEY = "RATCHET_API_KEY"
_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
"""Where systems keep whom they trust; grpc's own list knows no authority that an administrator has added."""


def opened(address: str) -> grpc.Channel:
    """A channel to the server at `address`, HOST:PORT, whose calls bring the key, if any. To be closed.

    Raises CommandFailed when the environment can't be used, and rather than to send a key that others can read.
    """
    key = os.environ.get(_KEY, "")
    if key and not (key.isascii() and key.isprintable()):
        raise CommandFailed(f"{_KEY} is no API key: it has characters that no key has.")
    channel = _secured(address) if with_tls(address) else grpc.insecure_channel(address, options=_OPTIONS)
    return grpc.intercept_channel(channel, _Bearer(key)) if key else channel


def has_key() -> bool:
    """Whether calls bring an API key."""
    return bool(os.environ.get(_KEY))


def with_tls(address: str) -> bool:
    """Whether the server at `address` is called with TLS. Raises CommandFailed."""
    plain = is_near(address) and not os.environ.get("RATCHET_TLS_CA")
    asked = os.environ.get("RATCHET_TLS") or ("off" if plain else "on")
    if asked not in ("on", "off"):
        raise CommandFailed(f"RATCHET_TLS must be on or off, not {asked!r}.")
    return asked == "on"


def is_near(address: str) -> bool:
    """Whether the way to `address` is within this machine. A name other than localhost is not looked up."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    target = re.sub(r"^(dns|ipv4|ipv6):(///?)?", "", address)
    host = target.rpartition(":")[0] if re.search(r":\d+$", target) else target
    if host.strip("[]") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _secured(address: str) -> grpc.Channel:
    named = os.environ.get("RATCHET_TLS_CA", "")
    roots = [named] if named else [path for path in _ROOTS if Path(path).is_file()][:1]
    try:
        trusted = Path(roots[0]).read_bytes() if roots else None
    except OSError as error:
        raise CommandFailed(f"RATCHET_TLS_CA can't be read ({error.strerror}): {roots[0]}") from error
    name = os.environ.get("RATCHET_TLS_NAME", "")
    options = [*_OPTIONS, ("grpc.ssl_target_name_override", name)] if name else _OPTIONS
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted), options=options)


class _Details(NamedTuple):
    """What grpc wants to know of a call."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sends the key with each call. grpc's own call credentials refuse a loopback without TLS."""

    def __init__(self, key: str) -> None:
        self._entry = ("authorization", f"Bearer {key}")

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """See grpc."""
        return continuation(self._with_key(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """See grpc."""
        return continuation(self._with_key(details), request)

    def _with_key(self, details: Any) -> _Details:
        metadata = [*(details.metadata or ()), self._entry]
        return _Details(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
