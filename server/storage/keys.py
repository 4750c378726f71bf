"""How keys in Redis are spelt, so that all that belong to one user can be found."""

import re
from collections.abc import AsyncIterator

from redis.asyncio import Redis

PREFIX = "ratchet"
_BATCH = 1000
_LENGTH = re.compile(r"0|[1-9][0-9]{0,8}")
_GLOB = re.compile(r"([*?\[\]\\^])")


def key(room: str, *parts: str) -> str:
    """A key that no other parts can spell: each part is preceded by its length."""
    return f"{PREFIX}:{room}:" + ":".join(f"{len(part)}.{part}" for part in parts)


def parts_of(spelt: str) -> tuple[str, ...] | None:
    """The parts of a key that `key` made, without its room; None for any other."""
    prefix, _, rest = spelt.partition(":")
    _, colon, rest = rest.partition(":")
    if prefix != PREFIX or not colon:
        return None
    found = []
    while True:
        digits, dot, rest = rest.partition(".")
        if not dot or not _LENGTH.fullmatch(digits) or len(rest) < int(digits):
            return None
        part, rest = rest[: int(digits)], rest[int(digits) :]
        found.append(part)
        if not rest:
            return tuple(found)
        if not rest.startswith(":"):
            return None
        rest = rest[1:]


async def of_user(redis: Redis, tenant: str, user: str) -> AsyncIterator[list[bytes | str]]:
    """The keys of all rooms whose first two parts are this tenant and user, batch by batch.

    SCAN gives every key that is there from its beginning to its end, and blocks nobody else meanwhile.
    """
    wanted = ":".join(f"{len(part)}.{_escaped(part)}" for part in (tenant, user))
    cursor = 0
    while True:
        cursor, found = await redis.scan(cursor, match=f"{PREFIX}:*:{wanted}*", count=_BATCH)
        # The pattern's stars also match inside of other parts: what is spelt decides.
        if mine := [each for each in found if _belongs(each, tenant, user)]:
            yield mine
        if not int(cursor):
            return


def _belongs(raw: bytes | str, tenant: str, user: str) -> bool:
    parts = parts_of(raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw)
    return parts is not None and parts[:2] == (tenant, user)


def _escaped(part: str) -> str:
    """Stands for itself only in a pattern of SCAN."""
    return _GLOB.sub(r"\\\1", part)
