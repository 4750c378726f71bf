"""What the console must know to start: all of it by flag or environment, see `python -m console --help`."""

import ipaddress
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_LISTEN = "127.0.0.1:8080"


class SettingsError(ValueError):
    """The console can't start so. One sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`target`: the gRPC API. `listen`: HOST:PORT, loopback only unless `keys`. `home`: where sessions are kept.

    `keys`: every visitor signs in with an API key of their own. `api_key`: of all visitors, where they don't.
    `tls`: how the API is reached; `tls_ca` is a file with who signed its certificate, else the system's; `tls_name` the
    name in the certificate where it is not the target's.
    """

    home: Path
    target: str = DEFAULT_TARGET
    listen: str = DEFAULT_LISTEN
    keys: bool = False
    api_key: str = field(default="", repr=False)
    tls: bool = False
    tls_ca: str = ""
    tls_name: str = ""

    @classmethod
    def of_environment(cls, home: Path, target: str, listen: str, keys: bool, tls: str = "") -> Self:
        """What is given, and what the clients of the API take from the environment: key and TLS. `tls`: on or off;
        else by RATCHET_TLS; else on beyond loopback, and where RATCHET_TLS_CA names a file.

        Raises SettingsError.
        """
        found = {name: os.environ.get(f"RATCHET_{name.upper()}", "") for name in ("api_key", "tls_ca", "tls_name")}
        plain = is_loopback(_host_of(target)) and not found["tls_ca"]
        asked = tls or os.environ.get("RATCHET_TLS") or ("off" if plain else "on")
        if asked not in ("on", "off"):
            raise SettingsError(f"RATCHET_TLS must be on or off, not {asked!r}.")
        return cls(home, target, listen, keys, tls=asked == "on", **found)

    def __post_init__(self) -> None:
        """Raises SettingsError."""
        host, port = self.host, self.listen.rpartition(":")[2]
        if not host or not port.isdigit() or int(port) > 65535:
            raise SettingsError(f"The console's address must be HOST:PORT, such as {DEFAULT_LISTEN}.")
        if not self.keys and not self.loopback:
            raise SettingsError(
                f"{host} is not a loopback address: without keys the console serves this machine only; use 127.0.0.1."
            )

    @property
    def host(self) -> str:
        """Where it listens, without brackets."""
        return _host_of(self.listen)

    @property
    def port(self) -> int:
        """On which port."""
        return int(self.listen.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    @property
    def folder(self) -> Path:
        """Where sessions and their secret are kept."""
        return self.home / "console"


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def storage_secret(folder: Path) -> str:
    """What signs the session cookies: made once, readable by its owner only."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "secret"
    new = folder / f"secret.{os.getpid()}"
    if not path.exists():
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(32))
        try:
            os.link(new, path)  # whoever is first wins; renaming would let the last one win
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_text()
