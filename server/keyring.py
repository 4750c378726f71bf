"""API keys: how they are made, and which of them a server process takes.

A key is `ratchet_<key id>_<secret>`. The secret is 256 random bits, so what is kept of it is a plain SHA-256: slow,
salted hashes protect what people can guess, and nobody guesses 2^256 values. So a call costs one hash and one look-up.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from server.errors import Overloaded, RatchetError, StoreUnavailable, Unauthenticated, told
from server.identity import Caller, Role
from server.storage.api_keys import ApiKey

log = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0
"""After so long at most a revoked key is refused."""
AT_MOST_EVERY = 0.25
"""Seconds between two readings, however many unknown keys come: so long a new key waits at most."""
WAITING = 64
"""Calls with unknown keys that may wait for a reading; more are refused at once."""

_KEY = re.compile(r"ratchet_([0-9a-z]{8,32})_([0-9a-f]{64})")
_BEARER = "bearer "
_REFUSED = "The API key is not known here: it is wrong, revoked or expired."


class KeyStore(Protocol):
    """Where keys are read: `server.storage.api_keys.PostgresKeys`."""

    async def usable(self, known: str) -> tuple[str, list[ApiKey] | None]:
        """The store's state, and its keys unless that is `known`. Raises StoreUnavailable."""


def issue(
    tenant: str, name: str, roles: Iterable[Role], user: str = "", expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A new key as it is kept, and its text, which is nowhere else."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    key = ApiKey(key_id, tenant, name, _digest(secret), frozenset(roles), datetime.now(UTC), user, expires_at)
    return key, f"ratchet_{key_id}_{secret}"


def key_id_of(text: str) -> str:
    """The id within a key's text; the text itself where it is no whole key."""
    found = _KEY.fullmatch(text)
    return found[1] if found else text


def bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The key in a call's metadata: `authorization: Bearer <key>` (RFC 6750). Raises Unauthenticated."""
    given = [value for name, value in metadata if name == "authorization"]
    if not given:
        raise Unauthenticated("This server asks for an API key: send the metadata `authorization: Bearer <key>`.")
    value = given[0]
    if len(given) > 1 or not isinstance(value, str) or value[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated("The metadata `authorization` must be given once, as `Bearer <key>`.")
    return value[len(_BEARER) :].strip()


@dataclass(frozen=True, slots=True)
class _Held:
    """A usable key. `until`: seconds since 1970."""

    digest: bytes = field(repr=False)
    caller: Caller
    until: float

    @classmethod
    def of(cls, key: ApiKey) -> "_Held":
        return cls(key.digest, key.caller, key.expires_at.timestamp() if key.expires_at else float("inf"))


class KeyRing:
    """The usable keys of the store, in memory, read again every REFRESH_SECONDS and when an unknown one comes.

    While the store is away the keys that were read last go on working for `grace` seconds; of others nobody can tell.
    Nothing is kept of keys that are refused.
    """

    def __init__(
        self, store: KeyStore, grace: float, *, every: float = REFRESH_SECONDS, at_most_every: float = AT_MOST_EVERY
    ) -> None:
        self._store, self._grace = store, grace
        self._every, self._at_most_every = every, at_most_every
        self._held: dict[str, _Held] = {}
        self._state = ""
        self._read_at = -float("inf")
        self._away = False
        self._waiting = 0
        self._wanted = asyncio.Event()
        self._round: asyncio.Future[bool] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """Whether nobody can call."""
        return not self._held

    async def start(self) -> None:
        """Reads the keys, and goes on doing so. Raises StoreUnavailable."""
        await self._read()
        self._round = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ends the reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def caller_of(self, text: str) -> Caller:
        """Who has this key. Raises Unauthenticated; StoreUnavailable and Overloaded when that can't be told now."""
        found = _KEY.fullmatch(text)
        if found is None:
            raise Unauthenticated("The API key has not the form ratchet_<id>_<secret>: it was cut or mistyped.")
        key_id, secret = found[1], found[2]
        if key_id not in self._held:
            await self._look_again()
        held = self._held.get(key_id)
        if held is None or not hmac.compare_digest(held.digest, _digest(secret)):
            raise Unauthenticated(_REFUSED)
        self._require_current(held)
        return held.caller

    def require(self, who: Caller) -> None:
        """Raises Unauthenticated when the key of a call that goes on is not usable any more, or a changed one."""
        held = self._held.get(who.key_id)
        if held is None or held.caller != who:
            raise Unauthenticated(_REFUSED)
        self._require_current(held)

    def _require_current(self, held: _Held) -> None:
        if time.time() >= held.until:
            raise Unauthenticated(_REFUSED)
        if time.monotonic() - self._read_at > self._grace:
            raise StoreUnavailable("API keys can't be checked: Postgres has been away for too long.")

    async def _look_again(self) -> None:
        """Waits for a reading that begins now or later; many wait for the same one."""
        if self._waiting >= WAITING:
            raise Overloaded("Too many unknown API keys are being looked up.", retry_after=1.0)
        assert self._round is not None
        self._waiting += 1
        try:
            self._wanted.set()
            if not await asyncio.shield(self._round):
                raise StoreUnavailable("This API key can't be looked up: Postgres is away.")
        finally:
            self._waiting -= 1

    async def _keep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._wanted.wait()
            self._wanted.clear()
            await self._one_round()
            await asyncio.sleep(self._at_most_every)

    async def _one_round(self) -> None:
        """One reading. Who comes while it goes on waits for the next one: this one may be too early for its key."""
        assert self._round is not None
        done, self._round = self._round, asyncio.get_running_loop().create_future()
        try:
            await self._read()
            self._away = False
        except RatchetError as error:
            if not self._away:
                log.warning("API keys can't be read, the known ones go on working for a while: %s", told(error))
            self._away = True
        except Exception:  # a defect of ours must not end the reading: revoked keys would work on
            log.exception("API keys can't be read")
            self._away = True
        finally:
            done.set_result(not self._away)

    async def _read(self) -> None:
        began = time.monotonic()
        self._state, keys = await self._store.usable(self._state)
        if keys is not None:
            self._held = await asyncio.to_thread(_by_id, keys)  # there may be thousands
        self._read_at = began


def _by_id(keys: Sequence[ApiKey]) -> dict[str, _Held]:
    return {key.key_id: _Held.of(key) for key in keys}


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
