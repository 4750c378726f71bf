"""Reads the log: requests that were answered, with all that their replies came from. Changes nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from server.errors import LogUnavailable, RatchetError, told
from server.storage import rows
from server.storage.database import GONE
from server.types import Exchange, Profile, Recollection, Reply

_PLACE = "tenant_id, response_id, policy_release, reward_release"
_ROW = "SELECT * FROM conversation_logs WHERE tenant_id = $1 AND response_id = $2"
_BY_ID = f"SELECT {_PLACE} FROM conversation_logs WHERE response_id = ANY($1::uuid[])"
_ERASED = "SELECT response_id FROM request_keys WHERE response_id = ANY($1::uuid[])"
_LATER: Mapping[str, Any] = {
    "tool_runs": "[]",
    "citations": "[]",
    "selection": "{}",
    "refused": False,
    "regenerated": False,
    "explored": False,
    "profile_used": False,
}
"""Columns that a database which was not migrated yet lacks."""


class ReplyNotFound(RatchetError):
    """The log has no reply of this id, or none that can be read."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reply is in the log, and which releases answered; `reward_release` is "" when none scored."""

    tenant_id: str
    response_id: UUID
    policy_release: str
    reward_release: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A request that was answered.

    `recollection` and `profile` are what the prompt held of them; `decided` is the column `selection`: the settings
    that the choice hung on and what the request asked for. `missing` says, in sentences, what the row does not hold.
    """

    tenant_id: str
    user_id: str
    session_id: str
    query: str
    context: str
    recollection: Recollection
    profile: Profile | None
    reply: Reply
    decided: Mapping[str, Any]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """The newest `last` replies of a tenant; None: of any user, of any session."""

    tenant_id: str
    last: int
    user_id: str | None = None
    session_id: str | None = None


class History:
    """The log, for reading. Every method raises LogUnavailable when Postgres does not answer, or holds no log."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def newest(self, wanted: Filter) -> list[Place]:
        """The replies that fit, oldest first; none whose user was erased, of which no query is left."""
        conditions, values = ["tenant_id = $1", "query <> ''"], [wanted.tenant_id]
        for name, value in (("user_id", wanted.user_id), ("session_id", wanted.session_id)):
            if value is not None:
                values.append(value)
                conditions.append(f"{name} = ${len(values)}")
        statement = (
            f"SELECT {_PLACE} FROM conversation_logs WHERE {' AND '.join(conditions)} "
            f"ORDER BY response_id DESC LIMIT {wanted.last:d}"
        )
        return [Place(**row) for row in reversed(await self._fetch(statement, *values))]

    async def named(self, ids: Sequence[UUID]) -> tuple[list[Place], dict[UUID, ReplyNotFound]]:
        """The replies of these ids in their order, whoever's they are; and why the log lacks each of the others."""
        found = {row["response_id"]: Place(**row) for row in await self._fetch(_BY_ID, list(ids))}
        lost = [each for each in ids if each not in found]
        erased = {row["response_id"] for row in await self._fetch(_ERASED, lost)} if lost else set()
        said = {True: "The reply {} was erased from the log.", False: "The log has no reply {}."}
        errors = {each: ReplyNotFound(said[each in erased].format(each)) for each in lost}
        return [found[each] for each in ids if each in found], errors

    async def read(self, place: Place) -> Logged:
        """The whole row. Raises ReplyNotFound when it was erased meanwhile, or only a newer Ratchet can read it."""
        found = await self._fetch(_ROW, place.tenant_id, place.response_id)
        if not found or not found[0]["query"]:
            raise ReplyNotFound(f"The reply {place.response_id} was erased from the log.")
        try:
            return logged_of({**_LATER, **dict(found[0])})
        except (KeyError, TypeError, ValueError) as error:
            raise ReplyNotFound(
                f"A newer Ratchet wrote the reply {place.response_id}: replay it with that one."
            ) from error

    async def _fetch(self, statement: str, *values: object) -> list[Any]:
        try:
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                found: list[Any] = await connection.fetch(statement, *values)
                return found
        except asyncpg.UndefinedTableError as error:
            raise LogUnavailable("This database holds no log: no Ratchet has served from it yet.") from error
        except (asyncpg.PostgresError, *GONE) as error:
            raise LogUnavailable(f"The log can't be read: {told(error)}.") from error


def logged_of(row: Mapping[str, Any]) -> Logged:
    """What a row holds. Raises KeyError, TypeError or ValueError for a row that a newer version wrote."""
    context, decided = json.loads(row["context"]), json.loads(row["selection"])
    known = context.get("profile")
    profile = Profile(row["tenant_id"], row["user_id"], known["attributes"], weight=known["weight"]) if known else None
    return Logged(
        tenant_id=row["tenant_id"],
        user_id=row["user_id"],
        session_id=row["session_id"],
        query=row["query"],
        context=context["given"],
        recollection=Recollection(
            tuple(Exchange(turn["query"], turn["response"]) for turn in context["turns"]), context.get("summary", "")
        ),
        profile=profile,
        reply=rows.reply_of(row),
        decided=decided,
        missing=_missing(context, decided),
    )


def _missing(context: Mapping[str, Any], decided: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    if "summary" not in context or "profile" not in context:
        found.append("An older Ratchet wrote this row: whether a profile or a summary of the session was used is lost.")
    if "minimum_reward" not in decided:
        found.append("The settings that decided then were not logged: those of now stand in for them.")
    if "candidate_count" not in decided:
        found.append("What the request asked for was not logged: as many candidates as it has, and their length.")
    return tuple(found)
