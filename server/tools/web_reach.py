"""Which places on the network the web tool may go to. Pure: names are resolved elsewhere.

Allowed is what is globally reachable; IANA's special-purpose registries (RFC 6890), multicast, addresses that carry an
IPv4 address inside (mapped, 6to4, Teredo, NAT64, ISATAP) and the clouds' own addresses are not.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from yarl import URL

from server.tools.tool import ToolRefused

LONGEST_URL: Final = 2048
_SCHEMES: Final = ("http", "https")
_V4_REFUSED: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; 0.0.0.0 connects to this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; one cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host agent, on a public address
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_V6_UNICAST: Final = IPv6Network("2000::/3")
_V6_REFUSED: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, benchmarking, ORCHID and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
_NAME: Final = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,252}")
_LOOKS_NUMERIC: Final = re.compile(r"(?:0x[0-9a-f]*|\d+)\.?", re.IGNORECASE)

Address = IPv4Address | IPv6Address


def is_public(address: Address) -> bool:
    """Whether `address` is one host of the public internet, by itself and by no address inside it."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _V4_REFUSED)
    if address not in _V6_UNICAST or any(address in network for network in _V6_REFUSED):
        return False
    return address.is_global and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be reached: `ports`, and addresses that `permits`. Made another way only by tests."""

    ports: frozenset[int] = frozenset({80, 443})
    permits: Callable[[Address], bool] = is_public

    def require_address(self, address: str, host: str) -> None:
        """Raises ToolRefused when no connection to `address` may be made; `host` is what it was found for."""
        try:
            allowed = self.permits(ip_address(address))  # fails for a zone that is none, passes fe80::1%eth0
        except ValueError:
            allowed = False
        if not allowed:
            found = f"{host} is {address}" if host != address else address
            raise ToolRefused(f"{found}, which is no public address.")

    def require_url(self, text: str) -> URL:
        """The address of a page, ready to connect to but for its host's addresses. Raises ToolRefused."""
        if len(text) > LONGEST_URL:
            raise ToolRefused(f"The address has more than {LONGEST_URL} characters.")
        try:
            url = URL(text)
            host, port = url.raw_host, url.port
        except (ValueError, UnicodeError) as error:
            raise ToolRefused("The address can't be read as a URL.") from error
        if url.scheme not in _SCHEMES or not host:
            raise ToolRefused("Only http:// and https:// addresses are read.")
        if url.user is not None or url.password is not None:
            raise ToolRefused("An address with a user name or password is not read.")
        if port not in self.ports:
            raise ToolRefused(f"Port {port} is not read from, only {', '.join(map(str, sorted(self.ports)))}.")
        self._require_host(host)
        return url

    def _require_host(self, host: str) -> None:
        """An IP address must be written in the one way that all parsers read alike, a name be a plain one."""
        if ":" in host:
            self.require_address(host, host)
        elif not _NAME.fullmatch(host):
            raise ToolRefused("The address names no host.")
        elif _LOOKS_NUMERIC.fullmatch(host.rstrip(".").rpartition(".")[2]):
            try:
                IPv4Address(host)
            except ValueError:
                raise ToolRefused(f"{host} is no plain address.") from None
            self.require_address(host, host)
