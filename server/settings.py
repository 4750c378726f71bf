"""The server's settings: each is an environment variable, and `ratchet serve --help` has a flag for it. Unknown
RATCHET_ variables are refused, so that a misspelt one does not go unnoticed."""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.embedded.settings import CHECKOUT, EmbeddedSettings, default_home
from server.errors import ConfigurationError
from server.redaction import redact

STARTER = CHECKOUT / "starter"
_PREFIX = "RATCHET_"
_PLAIN_NAMES = ("database_url", "redis_url", "triton_url")
"""Settings whose variable has no prefix: every deployment calls them so."""
_SCHEMES = {
    "database_url": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss", "unix"),
}
_OF_KUBERNETES = re.compile(r"RATCHET_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""What Kubernetes sets in a pod for each service whose name begins with `ratchet`; beside these there is ..._PORT."""

_OTHERS = {f"{_PREFIX}{name}" for name in ("ADDRESS", "PYTHON", "SESSION", "TIMEOUT", "USER")}
"""Variables of `./run` and of the commands that are clients."""


def _plain(name: str) -> Any:
    return Field(None, validation_alias=AliasChoices(name, name.upper()), description=_HELP[name], repr=False)


_HELP = {
    "database_url": "A Postgres with pgvector to use instead of the embedded one.",
    "redis_url": "A Redis or Valkey to use instead of the embedded one.",
    "triton_url": "A Triton (host:port of its gRPC) to use instead of the embedded one; needs --model-repository.",
}


class Settings(BaseSettings):
    """All settings of one server process. Frozen. The descriptions are the flags' help texts."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    home: Path = Field(default_factory=default_home, description="Directory of all state.")
    listen: str = Field(
        "127.0.0.1:50051", description="Address of the gRPC API; loopback only while there are no keys."
    )
    metrics: str = Field("127.0.0.1:9464", description="Address of Prometheus /metrics, or 'off'.")
    processes: int = Field(1, ge=1, le=64, description="Server processes that share the port.")
    database_url: str | None = _plain("database_url")
    redis_url: str | None = _plain("redis_url")
    triton_url: str | None = _plain("triton_url")
    model_repository: Path | None = Field(None, description="The model repository of the Triton at TRITON_URL.")
    triton_env: Path = Field(CHECKOUT / ".venv-triton", description="The environment of the embedded Triton.")
    backend: Literal["triton", "fake"] = Field("triton", description="'fake' answers without models, for development.")
    policy: str = Field(
        str(STARTER / "policy-000001"), description="The policy: a release, a Hugging Face model or path."
    )
    reward: str = Field(str(STARTER / "reward-000001"), description="The reward model: likewise.")
    policy_layout: Literal["python", "vllm"] = Field(
        "python", description="Triton backend of the policy; vllm on a GPU."
    )
    reward_layout: Literal["python", "onnxruntime", "tensorrt"] = Field(
        "python", description="Triton backend of the reward model."
    )
    candidates: int = Field(5, ge=1, le=16, description="Candidates drawn when a request does not say.")
    max_output_tokens: int = Field(128, ge=1, le=4096, description="Tokens of a candidate when a request does not say.")
    deadline: float = Field(30.0, gt=0, le=3600, description="Seconds for a call that brings no deadline.")
    max_deadline: float = Field(120.0, gt=0, le=3600, description="Seconds of a call at most, whatever it asks for.")
    lame_duck: float = Field(
        0.5, ge=0, le=60, description="Seconds between turning NOT_SERVING and closing the port, for balancers to see."
    )
    drain: float = Field(20.0, ge=0, le=600, description="Seconds that calls under way get when the server stops.")
    max_in_flight: int = Field(
        256, ge=1, le=65536, description="Calls under way in one process before new ones are refused."
    )
    tokenizer_threads: int = Field(2, ge=1, le=64, description="Threads that tokenise, off the event loop.")
    memory_turns: int = Field(8, ge=1, le=64, description="Exchanges of a session that are remembered.")
    sample_query: str = Field("How long is the warranty?", min_length=1, description="The query answered at start.")

    @field_validator("listen", "metrics")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if value == "off":
            return value
        host, separator, port = value.rpartition(":")
        if not separator or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"must be HOST:PORT, such as 127.0.0.1:50051, not {value!r}")
        if not _is_loopback(host.strip("[]")):
            raise ValueError(
                f"{host} is not a loopback address: without keys Ratchet serves this machine only, so use 127.0.0.1"
            )
        return value

    @field_validator("database_url", "redis_url", "triton_url")
    @classmethod
    def _place(cls, value: str | None, info: ValidationInfo) -> str | None:
        if not value:
            return None
        schemes = _SCHEMES.get(info.field_name or "")
        if schemes is None:
            return _host_and_port(value)
        if value.partition("://")[0] not in schemes:
            raise ValueError(f"it must begin with {schemes[0]}://")
        if info.field_name == "redis_url":
            _require_port(value)
        return value

    @field_validator("max_deadline")
    @classmethod
    def _longest(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("deadline", 0):
            raise ValueError(f"it must not be less than RATCHET_DEADLINE, which is {info.data['deadline']:g} seconds")
        return value

    @field_validator("home", "triton_env", "model_repository")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    def embedded(self) -> EmbeddedSettings:
        """Which parts are to be started."""
        triton = self.backend == "triton"
        triton_url = self.triton_url if triton else None
        return EmbeddedSettings(self.home, self.triton_env, self.database_url, self.redis_url, triton_url, triton)


def load(given: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings from `given` (flags), then the environment, then defaults.

    Raises ConfigurationError, one sentence that names the variable.
    """
    _require_known(os.environ if environment is None else environment)
    try:
        return Settings(**{name: value for name, value in (given or {}).items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        detail = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigurationError(f"The setting {variable(name)} can't be used: {detail}.") from error


def variable(name: str) -> str:
    """The environment variable of a setting."""
    plain = name.lower()
    return plain.upper() if plain in _PLAIN_NAMES else f"{_PREFIX}{plain.upper()}"


def _require_known(environment: Mapping[str, str]) -> None:
    known = {variable(name) for name in Settings.model_fields} | _OTHERS
    for name, value in environment.items():
        if name.startswith(_PREFIX) and name not in known and not _is_of_kubernetes(name, value):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "`ratchet serve --help` lists the known ones."
            raise ConfigurationError(f"{name} is not a setting of Ratchet: {hint}")


def _is_of_kubernetes(name: str, value: str) -> bool:
    named_port = name.endswith("_PORT") and re.match(r"(tcp|udp|sctp)://", value)
    return bool(named_port or _OF_KUBERNETES.fullmatch(name))


def _host_and_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"must be HOST:PORT of Triton's gRPC, such as 127.0.0.1:8001, not {redact(value)!r}")
    return value


def _require_port(url: str) -> None:
    try:
        urlsplit(url).port  # noqa: B018
    except ValueError:
        raise ValueError("its port is no number: special characters of a password must be percent-encoded") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
