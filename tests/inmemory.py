"""Storage in this process, held to the same contract tests as Postgres and Valkey."""

from uuid import UUID

from server.errors import LogRowRefused, RequestIdReused
from server.storage.journal import Key
from server.storage.rows import COLUMNS, LogEntry, reply_of, values
from server.types import Exchange, Reply


class InMemoryLog:
    """`server.storage.journal.Log`. `failures` are raised by the next appends, in order."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.failures: list[Exception] = []

    async def find(self, key: Key) -> Reply | None:
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
            first = await self.find((entry.turn.tenant_id, entry.turn.request_id, entry.turn.fingerprint))
            if first is not None:
                return first
        if "\0" in entry.turn.query:
            raise LogRowRefused("text can't hold U+0000")
        self.entries.append(entry)
        return entry.reply


class InMemoryMemory:
    """`server.storage.memory.Memory`, without expiry. `failures` are raised by the next calls, in order."""

    def __init__(self, turns: int = 8) -> None:
        self.sessions: dict[tuple[str, str, str], list[Exchange]] = {}
        self.remembered: set[UUID] = set()
        self.asked: set[tuple[str, str]] = set()
        self.failures: list[Exception] = []
        self._turns = turns

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    async def recall(self, tenant: str, user: str, session: str) -> tuple[Exchange, ...]:
        self._fail()
        return tuple(self.sessions.get((tenant, user, session), ()))

    async def remember(self, tenant: str, user: str, session: str, response_id: UUID, exchange: Exchange) -> None:
        self._fail()
        if response_id in self.remembered:
            return
        self.remembered.add(response_id)
        kept = [*self.sessions.get((tenant, user, session), ()), exchange][-self._turns :]
        self.sessions[tenant, user, session] = kept

    async def claim_feedback_prompt(self, tenant: str, who: str) -> bool:
        self._fail()
        if not who:
            return True
        if (tenant, who) in self.asked:
            return False
        self.asked.add((tenant, who))
        return True
