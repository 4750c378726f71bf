"""Settings as they may be shown and logged."""

import re
from urllib.parse import urlsplit

_SECRET = re.compile(r"(?i)([?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=)[^&]*")
HIDDEN = "…"
_SIGNING = "whsec_"
"""What secrets that sign webhooks begin with."""


def redact(url: str) -> str:
    """The URL without passwords, in its authority or its query, and no signing secret; anything else stays as it is.

    An unquoted password may hold any character, `@`, `/` and `?` too: all up to the last `@` belongs to it.
    """
    if url.startswith(_SIGNING):
        return _SIGNING + HIDDEN
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    user, at, place = rest.rpartition("@")
    if at and not rest.startswith("/"):
        name, colon, _ = user.partition(":")
        rest = name + (colon and colon + HIDDEN) + at + place
    return scheme + separator + _SECRET.sub(rf"\1{HIDDEN}", rest)


def origin(url: str) -> str:
    """Scheme, host and port of a webhook's URL: the rest of it is often its password."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
