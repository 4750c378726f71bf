"""Replies in the log and feedback on them, for tests that read both."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc

from server import identity
from server.identity import Caller, Role
from server.storage.rows import COLUMNS, LogEntry, values
from tests.turns import a_turn, an_entry

NOW = datetime(2026, 9, 15, 12, tzinfo=UTC)


def id_at(moment: datetime, number: int = 0) -> UUID:
    """A UUIDv7 of that moment; larger numbers are later ones of the same millisecond."""
    head = int(moment.timestamp() * 1000) << 80 | 7 << 76
    return UUID(int=head | 2 << 62 | number)


def entry_at(moment: datetime, number: int = 0, **changes: Any) -> LogEntry:
    """A reply that was asked for at that moment, and made a second later."""
    reply = {name: changes.pop(name) for name in list(changes) if name in _OF_THE_REPLY}
    text, score = changes.pop("text", "An answer."), changes.pop("score", 0.5)
    made = an_entry(a_turn(response_id=id_at(moment, number), **changes), text=text, score=score)
    return replace(made, reply=replace(made.reply, created_at=moment + timedelta(seconds=1), **reply))


_OF_THE_REPLY = {
    *("policy_release", "reward_release", "degradations", "choice", "candidates", "tool_runs", "citations"),
    "regenerated",
}


async def log(pool: asyncpg.Pool, *entries: LogEntry) -> list[UUID]:
    """Writes the rows as they are, and gives their ids."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    places = ", ".join(f"${number}::{kind}" for number, kind in enumerate(COLUMNS.values(), 1))
    await pool.executemany(
        f"INSERT INTO conversation_logs ({names}) VALUES ({places})", [values(entry) for entry in entries]
    )
    return [entry.turn.response_id for entry in entries]


async def give_feedback(pool: asyncpg.Pool, tenant: str, response_id: UUID, **says: Any) -> UUID:
    """Writes one feedback of the user "ann"; `says` are columns."""
    columns = {
        "tenant_id": tenant,
        "feedback_id": uuid4(),
        "response_id": response_id,
        "user_id": "ann",
        "kind": "rating",
        "timestamp": NOW,
        "updated_at": NOW,
        "policy_release": "policy-000001",
        **says,
    }
    if "rating_dimensions" in columns:
        columns["rating_dimensions"] = json.dumps(columns["rating_dimensions"])
    names = ", ".join(f'"{name}"' for name in columns)
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    await pool.execute(f"INSERT INTO feedback_data ({names}) VALUES ({places})", *columns.values())
    found: UUID = columns["feedback_id"]
    return found


class OfTenant(grpc.aio.ServerInterceptor):
    """Stands for the guard: whoever calls belongs to the tenant."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None

        async def call(request: Any, context: Any) -> Any:
            identity.enter(Caller(self._tenant, frozenset(Role)))
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )
