"""A tenant whose feedback is trained on: its replies, what was said of them, its runs, and whom it erased."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from server.storage.erasure import Erasures
from server.types import Choice, SelectionMethod
from tests.logged import NOW, entry_at, give_feedback, log
from tests.turns import a_candidate
from trainer.data.ingest import ingest
from trainer.data.records import Question
from trainer.reward.config import DataConfig

CONFIG = DataConfig()


@dataclass
class Tenant:
    """Its tables as the server writes them."""

    name: str
    pool: asyncpg.Pool
    erasures: Erasures
    replies: int = 0

    async def reply(self, user: str = "ann", query: str = "Đơn hàng ở đâu?", **changes: Any) -> UUID:
        """Logs a reply of two candidates, the first one shown with probability 0.75, and gives its id."""
        self.replies += 1
        shown, other, context = (changes.pop(k, d) for k, d in (("text", "Đây."), ("other", "Kia."), ("context", "c")))
        columns = {name: changes.pop(name) for name in ("arm", "refused", "erased") if name in changes}
        candidates = (a_candidate(0, shown, 0.5), a_candidate(1, other, 0.25))
        choice = Choice(0, SelectionMethod.WEIGHTED, (0.75, 0.25))
        entry = entry_at(
            NOW,
            self.replies,
            tenant_id=self.name,
            user_id=user,
            query=query,
            text=shown,
            candidates=candidates,
            choice=choice,
            **changes,
        )
        (response_id,) = await log(self.pool, replace(entry, reward_context=context))
        for name, value in columns.items():
            await self.pool.execute(
                f"UPDATE conversation_logs SET {name} = $1 WHERE response_id = $2", value, response_id
            )
        return response_id

    async def say(self, response_id: UUID, user: str = "ann", **says: Any) -> UUID:
        return await give_feedback(self.pool, self.name, response_id, user_id=user, **says)

    async def questions(self) -> tuple[Question, ...]:
        return (await ingest(self.pool, self.name, CONFIG)).questions

    def digest(self, user: str) -> str:
        return self.erasures.digest(self.name, user).hex()

    async def erase(self, user: str) -> None:
        """Notes the erasure, as a server does first; its tables are not swept yet."""
        async with self.pool.acquire() as connection:
            await self.erasures.mark(connection, self.name, user, NOW + timedelta(days=1))
            await connection.execute(
                "UPDATE training_snapshots SET erased_at = now() WHERE erased_at IS NULL AND snapshot IN"
                " (SELECT snapshot FROM training_snapshot_users WHERE digest = $1)",
                self.erasures.digest(self.name, user),
            )


async def a_tenant(pool: asyncpg.Pool) -> Tenant:
    """One that nobody else has."""
    return Tenant(f"t-{uuid4().hex}", pool, await Erasures.open(pool))


def reasons(exclusions: Sequence[Any]) -> dict[str, int]:
    """How many stayed out, by reason."""
    return {each.reason: each.count for each in exclusions}


async def a_run(tenant: Tenant, **columns: Any) -> UUID:
    """One that waits, unless `columns` say otherwise."""
    given = {"tenant_id": tenant.name, "training_id": uuid4(), "kind": "reward", "requested_by": "test", **columns}
    places = ", ".join(f"${number}" for number in range(1, len(given) + 1))
    await tenant.pool.execute(f"INSERT INTO training_runs ({', '.join(given)}) VALUES ({places})", *given.values())
    return given["training_id"]


async def rated(tenant: Tenant, count: int, stars: Sequence[int] = (5, 1)) -> None:
    """Replies to as many users, with these stars by turns."""
    for number in range(count):
        reply = await tenant.reply(user=f"user-{number}", query=f"Question {number}?", text=f"Answer {number}.")
        await tenant.say(reply, user=f"user-{number}", rating_overall=stars[number % len(stars)])


async def used(tenant: Tenant) -> int:
    """How much feedback some run has used."""
    found: int = await tenant.pool.fetchval(
        "SELECT count(*) FROM feedback_data WHERE tenant_id = $1 AND is_training_data", tenant.name
    )
    return found
