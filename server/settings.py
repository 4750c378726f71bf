"""The server's settings: each is an environment variable, and `ratchet serve --help` has a flag for it. Unknown
RATCHET_ variables are refused, so that a misspelt one does not go unnoticed."""

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.alerts.settings import AlertSettings
from server.embedded.settings import CHECKOUT, EmbeddedSettings, default_home
from server.errors import ConfigurationError
from server.feedback.settings import FeedbackSettings
from server.redaction import origin, redact
from server.stages.settings import PathSettings
from server.tools.settings import ToolSettings

STARTER = CHECKOUT / "starter"
_PREFIX = "RATCHET_"
_PLAIN_NAMES = ("database_url", "redis_url", "triton_url", "opensearch_url")
"""Settings whose variable has no prefix: every deployment calls them so."""
_SCHEMES = {
    "database_url": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss", "unix"),
    "opensearch_url": ("http", "https"),
    "web_search_url": ("http", "https"),
    "sql_url": ("postgresql", "postgres"),
}
_OF_KUBERNETES = re.compile(r"RATCHET_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""What Kubernetes sets in a pod for each service whose name begins with `ratchet`; beside these there is ..._PORT."""

_CLIENT = ("ADDRESS", "API_KEY", "BROWSER", "PYTHON", "SESSION", "TIMEOUT", "TLS", "TLS_CA", "TLS_NAME", "USER")
_TRAINER = tuple(f"TRAINING_{name}" for name in ("SCHEDULE", "HOUR", "CONFIG", "TENANT", "BASES", "KEEP"))
_OTHERS = {f"{_PREFIX}{name}" for name in (*_CLIENT, *_TRAINER)}
"""Variables of `./run`, of the commands that are clients, and of the trainer."""


def _plain(name: str) -> Any:
    return Field(None, validation_alias=AliasChoices(name, name.upper()), description=_HELP[name], repr=False)


_HELP = {
    "database_url": "A Postgres with pgvector to use instead of the embedded one.",
    "redis_url": "A Redis or Valkey to use instead of the embedded one.",
    "triton_url": "A Triton (host:port of its gRPC) to use instead of the embedded one; needs --model-repository.",
    "opensearch_url": "An OpenSearch that keeps the user profiles, instead of Postgres.",
}


class Settings(PathSettings, ToolSettings, FeedbackSettings, AlertSettings, BaseSettings):
    """All settings of one server process: those of the rooms, and these. Frozen.

    The descriptions are the flags' help texts.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )

    home: Path = Field(default_factory=default_home, description="Directory of all state.")
    keys: Literal["on", "off"] = Field(
        "off", description="Ask every caller for an API key (`ratchet keys`); off: whoever is on this machine may call."
    )
    keys_grace: float = Field(
        3600.0, ge=0, le=30 * 86_400, description="Seconds that known keys go on working while Postgres is away."
    )
    tls_certificate: Path | None = Field(None, description="PEM certificate of the gRPC API, with what signed it.")
    tls_key: Path | None = Field(
        None, validate_default=True, description="The certificate's private key, PEM without a passphrase."
    )
    plaintext: Literal["loopback", "anywhere"] = Field(
        "loopback",
        description="Where calls without TLS are taken; anywhere: behind a proxy that ends TLS, for keys are readable.",
    )
    listen: str = Field(
        "127.0.0.1:50051", description="Address of the gRPC API; beyond loopback only with keys, and TLS."
    )
    console: str = Field("127.0.0.1:8080", description="Address of the web console, or 'off'.")
    metrics: str = Field("127.0.0.1:9464", description="Address of Prometheus /metrics, or 'off'.")
    processes: int = Field(1, ge=1, le=64, description="Server processes that share the port.")
    database_url: str | None = _plain("database_url")
    redis_url: str | None = _plain("redis_url")
    triton_url: str | None = _plain("triton_url")
    opensearch_url: str | None = _plain("opensearch_url")
    triton_urls: str | None = Field(
        None,
        description="The replicas behind TRITON_URL (host:port,…): each gets the models. Unset: it is one.",
    )
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
    sample_data: Literal["auto", "on", "off"] = Field(
        "auto", description="Load the starter's help pages and orders; auto: with the starter policy and own database."
    )
    spool: Literal["on", "off"] = Field(
        "on", description="While Postgres is away, answer and keep the log rows on disk; off: refuse."
    )
    spool_dir: Path | None = Field(None, description="Where those rows go: a persistent volume. Default: HOME/spool.")
    spool_size: int = Field(1 << 30, ge=1 << 20, description="Bytes that the spool may take.")
    training_minimum: int = Field(
        1000, ge=0, description="New feedback that starts a training run, where a trainer runs; 0: none does by itself."
    )
    rollout_new: Literal["on", "off"] = Field(
        "off", description="Roll out by itself what training made better, by the default plan; off: only publish it."
    )
    sample_query: str = Field("How long is the warranty?", min_length=1, description="The query answered at start.")

    @field_validator("tls_certificate", "tls_key", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return value or None

    @field_validator("tls_key")
    @classmethod
    def _pair(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if bool(value) != bool(info.data.get("tls_certificate")):
            raise ValueError(
                "a certificate and its key belong together: set RATCHET_TLS_CERTIFICATE and RATCHET_TLS_KEY"
            )
        return value

    @field_validator("listen")
    @classmethod
    def _guarded(cls, value: str, info: ValidationInfo) -> str:
        host = _host_of(value)
        if _is_loopback(host):
            return value
        if info.data.get("keys") != "on":
            raise ValueError(
                f"{host} is not a loopback address: without keys Ratchet serves this machine only, so use 127.0.0.1, "
                "or set RATCHET_KEYS=on and make keys with `ratchet keys add`"
            )
        if info.data.get("tls_certificate") is None and info.data.get("plaintext") != "anywhere":
            raise ValueError(
                f"{host} is not a loopback address, and keys would be readable on the way: set RATCHET_TLS_CERTIFICATE "
                "and RATCHET_TLS_KEY, or RATCHET_PLAINTEXT=anywhere behind a proxy that ends TLS"
            )
        return value

    @field_validator("console")
    @classmethod
    def _signed_in(cls, value: str, info: ValidationInfo) -> str:
        if value == "off" or _is_loopback(host := _host_of(value)):
            return value
        if info.data.get("keys") != "on" or info.data.get("plaintext") != "anywhere":
            raise ValueError(
                f"{host} is not a loopback address: set RATCHET_KEYS=on, so that visitors sign in, and "
                "RATCHET_PLAINTEXT=anywhere behind a proxy that ends TLS; or use 127.0.0.1"
            )
        return value

    @field_validator("metrics")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if value != "off" and not _is_loopback(host := _host_of(value)):
            raise ValueError(f"{host} is not a loopback address: metrics ask for no key, so use 127.0.0.1")
        return value

    @field_validator(*_PLAIN_NAMES, "web_search_url", "sql_url")
    @classmethod
    def _place(cls, value: str | None, info: ValidationInfo) -> str | None:
        if not value:
            return None
        schemes = _SCHEMES.get(info.field_name or "")
        if schemes is None:
            return _host_and_port(value)
        scheme, separator, _ = value.partition("://")
        if scheme not in schemes or not separator:
            raise ValueError(f"it must begin with {' or '.join(f'{each}://' for each in schemes)}")
        if scheme in ("http", "https") and not urlsplit(value).hostname:
            raise ValueError("it must name a host")
        if info.field_name == "redis_url":
            _require_port(value)
        return value

    @field_validator("triton_urls")
    @classmethod
    def _replicas(cls, value: str | None, info: ValidationInfo) -> str | None:
        if not value:
            return None
        if not info.data.get("triton_url"):
            raise ValueError("it names the replicas behind TRITON_URL, which is not set")
        addresses = [_host_and_port(address.strip()) for address in value.split(",")]
        if len(set(addresses)) < len(addresses):
            raise ValueError("it names a replica twice")
        return ",".join(addresses)

    @field_validator("max_deadline")
    @classmethod
    def _longest(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("deadline", 0):
            raise ValueError(f"it must not be less than RATCHET_DEADLINE, which is {info.data['deadline']:g} seconds")
        return value

    @field_validator("home", "triton_env", "model_repository", "spool_dir", "tls_certificate", "tls_key")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @property
    def samples(self) -> bool:
        """Whether the starter's help pages and orders belong to this server."""
        if self.sample_data != "auto":
            return self.sample_data == "on"
        return self.database_url is None and Path(self.policy).parent == STARTER

    @property
    def replicas(self) -> tuple[str, ...]:
        """The addresses of `triton_urls`."""
        return tuple(self.triton_urls.split(",")) if self.triton_urls else ()

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
        name, *inside = first["loc"]
        detail = ": ".join([*map(str, inside), str(first["msg"]).removeprefix("Value error, ")])
        raise ConfigurationError(f"The setting {variable(str(name))} can't be used: {detail}.") from error


def text_of(value: object) -> str:
    """A setting's value as its variable and its flag take it; URLs without their passwords, lists of URLs (webhooks)
    without all that comes after their hosts, "" for None."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        plain = [origin(each) if isinstance(each, str) else asdict(each) for each in value]
        return json.dumps(plain, ensure_ascii=False)
    return redact(str(value))


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


def _host_of(address: str) -> str:
    """The host of HOST:PORT, an IPv6 address without its brackets."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"must be HOST:PORT, such as 127.0.0.1:50051, not {address!r}")
    return host.strip("[]")


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
