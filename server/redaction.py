"""URLs as they may be shown and logged."""

import re

_SECRET = re.compile(r"(?i)([?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=)[^&]*")
HIDDEN = "…"


def redact(url: str) -> str:
    """The URL without passwords, in its authority or its query; what is no URL stays as it is.

    An unquoted password may hold any character, `@`, `/` and `?` too: all up to the last `@` belongs to it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    user, at, place = rest.rpartition("@")
    if at and not rest.startswith("/"):
        name, colon, _ = user.partition(":")
        rest = name + (colon and colon + HIDDEN) + at + place
    return scheme + separator + _SECRET.sub(rf"\1{HIDDEN}", rest)
