"""Storage in this process, held to the same contract tests as Postgres, Valkey and OpenSearch."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from server.errors import LogRowRefused, RequestIdReused
from server.storage.journal import Key
from server.storage.memory import FALLEN, cut, gist, size, summary
from server.storage.profiles import LONGEST_MEMORY, Attributes, Change, Neighbour, unit
from server.storage.rows import COLUMNS, LogEntry, reply_of, values
from server.types import Exchange, Profile, Recollection, Reply


class InMemoryLog:
    """`server.storage.journal.Log`. `failures` are raised by the next appends; `lookups` are the seconds of each."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.lookups: list[float] = []
        self.failures: list[Exception] = []

    async def find(self, key: Key, seconds: float) -> Reply | None:
        self.lookups.append(seconds)
        for entry in self.entries:
            if (entry.turn.tenant_id, entry.turn.request_id) == key[:2]:
                if entry.turn.fingerprint != key[2]:
                    raise RequestIdReused("used before for a different request")
                return reply_of(dict(zip(COLUMNS, values(entry), strict=True)))
        return None

    async def append(self, entry: LogEntry) -> Reply:
        if self.failures:
            raise self.failures.pop(0)
        if entry.turn.request_id:
            first = await self.find((entry.turn.tenant_id, entry.turn.request_id, entry.turn.fingerprint), 1.0)
            if first is not None:
                return first
        if "\0" in entry.turn.query:
            raise LogRowRefused("text can't hold U+0000")
        self.entries.append(entry)
        return entry.reply


class InMemoryMemory:
    """`server.storage.memory.Memory`, without expiry. `failures` are raised by the next calls, in order."""

    def __init__(self, turns: int = 8, tokens: int = 2048) -> None:
        self.sessions: dict[tuple[str, str, str], list[Exchange]] = {}
        self.gists: dict[tuple[str, str, str], list[str]] = {}
        self.remembered: set[UUID] = set()
        self.asked: set[tuple[str, str]] = set()
        self.failures: list[Exception] = []
        self.delay = 0.0
        self._turns, self._tokens = turns, tokens

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    async def recall(self, tenant: str, user: str, session: str) -> Recollection:
        self._fail()
        await asyncio.sleep(self.delay)
        key = (tenant, user, session)
        return Recollection(tuple(self.sessions.get(key, ())), summary(self.gists.get(key, [])[-FALLEN:]))

    async def remember(self, tenant: str, user: str, session: str, response_id: UUID, exchange: Exchange) -> None:
        self._fail()
        if response_id in self.remembered:
            return
        self.remembered.add(response_id)
        key = (tenant, user, session)
        kept = self.sessions.setdefault(key, [])
        kept.append(cut(exchange, self._tokens))
        while len(kept) > self._turns or (len(kept) > 1 and sum(map(size, kept)) > self._tokens):
            self.gists.setdefault(key, []).append(gist(kept.pop(0).query))

    async def claim_feedback_prompt(self, tenant: str, who: str) -> bool:
        self._fail()
        if not who:
            return True
        if (tenant, who) in self.asked:
            return False
        self.asked.add((tenant, who))
        return True


class InMemoryProfiles:
    """`server.storage.profiles.Profiles`. `failures` are raised by the next calls, in order."""

    def __init__(self) -> None:
        self.profiles: dict[tuple[str, str], Profile] = {}
        self.means: dict[tuple[str, str], list[float]] = {}
        self.changes: dict[tuple[str, str], Attributes] = {}
        self.failures: list[Exception] = []
        self.delay = 0.0

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    async def prepare(self, model: str, dimension: int) -> None:
        self._fail()

    async def get(self, tenant: str, user: str) -> Profile | None:
        self._fail()
        await asyncio.sleep(self.delay)
        return self.profiles.get((tenant, user))

    async def put(self, tenant: str, user: str, change: Change) -> Profile:
        self._fail()
        after = self.changes.get((tenant, user), Attributes({})).after(change)
        self.changes[tenant, user] = after
        known = self.profiles.get((tenant, user), Profile(tenant, user))
        if (tenant, user) not in self.profiles or after.values != known.attributes:
            known = replace(known, attributes=dict(sorted(after.values.items())), updated_at=datetime.now(UTC))
        self.profiles[tenant, user] = known
        return known

    async def learn(self, tenant: str, user: str, embedding: Sequence[float], weight: float, model: str) -> None:
        self._fail()
        if not weight:
            return
        known = self.profiles.get((tenant, user), Profile(tenant, user))
        mean = self.means.get((tenant, user), [])
        heaviness = known.weight if known.model == model and len(mean) == len(embedding) else 0.0
        if not heaviness:
            mean = [0.0] * len(embedding)
        added = min(abs(weight), LONGEST_MEMORY)
        sign = 1 if weight > 0 else -1
        total = heaviness + added
        mean = [(heaviness * old + sign * added * new) / total for old, new in zip(mean, embedding, strict=True)]
        self.means[tenant, user] = mean
        self.profiles[tenant, user] = replace(
            known,
            preference=unit(mean),
            weight=min(total, LONGEST_MEMORY),
            model=model,
            updated_at=datetime.now(UTC),
        )

    async def delete(self, tenant: str, user: str) -> bool:
        self._fail()
        self.changes.pop((tenant, user), None)
        self.means.pop((tenant, user), None)
        return self.profiles.pop((tenant, user), None) is not None

    async def nearest(self, tenant: str, embedding: Sequence[float], model: str, limit: int) -> list[Neighbour]:
        self._fail()
        found = [
            Neighbour(each.user_id, sum(a * b for a, b in zip(each.preference, embedding, strict=True)))
            for each in self.profiles.values()
            if each.tenant_id == tenant and each.model == model and each.preference is not None
        ]
        return sorted(found, key=lambda each: -each.similarity)[:limit]

    async def close(self) -> None:
        pass
