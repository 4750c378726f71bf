"""Settings of alerts."""

import base64
import binascii
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationInfo, field_validator

_KEY_BYTES = range(24, 65)
"""Of a signing secret, as Standard Webhooks has it."""


class AlertSettings(BaseModel):
    """Where alerts go."""

    alert_webhooks: tuple[str, ...] = Field((), description="Addresses that get each alert, as a JSON list.")
    alert_secret: str | None = Field(
        None,
        pattern=r"^whsec_[A-Za-z0-9+/]{32,}={0,2}$",
        repr=False,
        validate_default=True,
        description="Signs what is sent to them: whsec_ and 24 to 64 bytes in base64 (Standard Webhooks).",
    )
    alert_interval: float = Field(5.0, ge=0.1, le=3600, description="Seconds between two looks at the figures.")

    @field_validator("alert_webhooks")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not _is_address(url):  # what is wrong with it is not quoted: it may hold a password
                raise ValueError("each must be an address like https://alerts.example.com/ratchet")
        return tuple(dict.fromkeys(value))

    @field_validator("alert_secret")
    @classmethod
    def _key(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            if info.data.get("alert_webhooks"):
                raise ValueError(
                    "RATCHET_ALERT_WEBHOOKS needs it, so that receivers can tell our messages from others':"
                    " make one with echo whsec_$(openssl rand -base64 32)"
                )
            return None
        try:
            key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise ValueError("what follows whsec_ is no base64") from None
        if len(key) not in _KEY_BYTES:
            raise ValueError(f"it has {len(key)} bytes; 24 to 64 are needed")
        return value


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0 and url.isprintable()
        )
    except ValueError:
        return False
