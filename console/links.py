"""Where an address that others wrote may lead."""

from urllib.parse import urlsplit


def web_address(uri: str) -> str:
    """`uri` where it is of the web: http or https, with a host. "" for any other, also one that can't be read."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    return uri if parts.scheme in ("http", "https") and parts.netloc else ""
