"""Where the embedded parts live and which of them are wanted. Reads no environment: `server.settings` does."""

import os
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def default_home() -> Path:
    """The state directory when RATCHET_HOME is not set: /var/lib/ratchet for root, else the XDG data directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/ratchet")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "ratchet"


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """A URL that is given means: do not start that part, use this one."""

    home: Path = field(default_factory=default_home)
    triton_env: Path = CHECKOUT / ".venv-triton"
    database_url: str | None = field(default=None, repr=False)  # URLs carry passwords
    redis_url: str | None = field(default=None, repr=False)
    triton_url: str | None = field(default=None, repr=False)
    triton: bool = True
    """Whether a Triton is wanted at all: the fake backend needs none, only the model repository."""
    start_timeout: float = 60.0
    """Seconds that each part may take to become ready."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """How to reach the parts. `triton_url` is host:port of gRPC, "" without any; `triton_http_url` is the embedded
    one's; `model_repository` is None for an external Triton, whose repository is not ours to know.
    """

    database_url: str = field(repr=False)  # URLs carry passwords
    redis_url: str = field(repr=False)
    triton_url: str
    triton_http_url: str | None
    model_repository: Path | None
