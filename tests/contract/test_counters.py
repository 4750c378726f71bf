"""Live counters: whatever happens on the way, they are those of what Postgres holds. Real Postgres and Valkey."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from server.analytics.calls import Calls
from server.analytics.figures import Figures, Granularity
from server.analytics.follower import Follower
from server.errors import FeedbackNotFound, MetricsUnavailable, StoreUnavailable
from server.feedback.types import Change, GivenReply, Kind, Opinion, Part, Reaction, SafetyCategory
from server.storage import counters as stored
from server.storage import memory
from server.storage.counters import RedisCounters
from server.storage.feedback import PostgresFeedback, Submission
from server.storage.feedback_requests import RequestKey
from server.storage.following import PostgresFeed
from tests.analytics import INSERT, TENANTS, own_database, recount, replies
from tests.conftest import RunningStack
from tests.valkeys import OwnValkey

OPERATIONS = 10_000
WRITERS = 8
NO_KEY = RequestKey("", b"")


@pytest.fixture
async def valkey() -> AsyncIterator[OwnValkey]:
    own = OwnValkey()
    await own.start()
    yield own
    await own.close()


@pytest.fixture
async def client(valkey: OwnValkey) -> AsyncIterator[memory.Redis]:
    found = memory.connect(valkey.url, timeout=5.0)
    yield found
    await found.aclose()


@pytest.fixture(scope="module")
async def own(stack: RunningStack, pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Pool]:
    async with own_database(pool, stack.endpoints.database_url) as found:
        yield found


@pytest.fixture
async def base(own: asyncpg.Pool) -> asyncpg.Pool:
    await own.execute("TRUNCATE conversation_logs, feedback_data, feedback_revisions, feedback_requests")
    return own


@pytest.fixture
def counters(client: memory.Redis) -> RedisCounters:
    return RedisCounters(client)


@pytest.fixture
def follower(counters: RedisCounters, base: asyncpg.Pool) -> Follower:
    return Follower(counters, PostgresFeed(base), step=50)


async def log(base: asyncpg.Pool, number: int = 20, tenant: str = "default", seed: int = 1) -> list[GivenReply]:
    made, arguments = replies(random.Random(seed), number, tenant, datetime.now(UTC))
    await base.execute(INSERT, *arguments)
    return made


async def rate(base: asyncpg.Pool, reply: GivenReply, **says: Any) -> None:
    change = Change(Kind.RATING, Opinion(**says))
    await PostgresFeedback(base).submit(Submission(reply, (change,), NO_KEY, datetime.now(UTC)))


async def dumped(counters: RedisCounters) -> dict[str, dict[str, int]]:
    state = await counters.state()
    assert state is not None
    return await counters.dump(state.generation)


class Crowd:
    """Does random things at once with others of its kind: replies, submits, edits, withdrawals, retries."""

    def __init__(self, base: asyncpg.Pool, known: list[GivenReply]) -> None:
        self._base, self._known = base, known
        self._feedback = PostgresFeedback(base)
        self._done: list[Submission] = []
        self.operations = 0

    async def work(self, dice: random.Random, operations: int) -> None:
        for _ in range(operations):
            with suppress(StoreUnavailable):  # a busy machine
                await dice.choices((self._submit, self._withdraw, self._retry, self._reply), (70, 15, 12, 3))[0](dice)
            self.operations += 1

    async def _submit(self, dice: random.Random) -> None:
        says = Opinion(
            rating_overall=dice.choice((None, 1, 2, 3, 4, 5)),
            rating_dimensions={name: dice.randint(1, 5) for name in ("accuracy", "safety") if dice.random() < 0.3},
            text_feedback=dice.choice(("", "", "Tốt lắm 🎉")),
            reaction_type=dice.choice((None, *Reaction)),
        )
        clear = frozenset(part for part in Part if dice.random() < 0.1)
        changes = [Change(Kind.RATING, says, clear)]
        if dice.random() < 0.05:
            changes.append(Change(Kind.SAFETY_REPORT, Opinion(safety_category=SafetyCategory.TOXIC)))
        if dice.random() < 0.1:
            changes.append(Change(Kind.PREFERENCE, Opinion(chosen_index=dice.randint(0, 1), rejected_index=2)))
        key = RequestKey(f"r{dice.getrandbits(64)}", b"same")
        submission = Submission(dice.choice(self._known), tuple(changes), key, datetime.now(UTC))
        self._done.append(submission)
        await self._feedback.submit(submission)

    async def _withdraw(self, dice: random.Random) -> None:
        reply = dice.choice(self._known)
        for given in await self._feedback.current(reply.tenant_id, reply.response_id, "ann", list(Kind)):
            with suppress(FeedbackNotFound):
                await self._feedback.withdraw(reply.tenant_id, "ann", given.feedback_id, NO_KEY, datetime.now(UTC))

    async def _retry(self, dice: random.Random) -> None:
        if self._done:
            await self._feedback.submit(dice.choice(self._done))

    async def _reply(self, dice: random.Random) -> None:
        self._known += await log(self._base, dice.randint(1, 3), dice.choice(TENANTS), dice.getrandbits(32))


async def follow_for_ever(follower: Follower) -> None:
    while True:
        await follower.tick()
        await asyncio.sleep(0.2)


async def reach(crowd: Crowd, share: float) -> None:
    while crowd.operations < share * OPERATIONS:
        await asyncio.sleep(0.01)


async def hold_back(base: asyncpg.Pool, crowd: Crowd, begin: float, end: float) -> None:
    """A transaction that writes, stays open while others come and go, and commits late."""
    await reach(crowd, begin)
    _, arguments = replies(random.Random(begin), 3, "default", datetime.now(UTC))
    async with base.acquire() as connection, connection.transaction():
        await connection.execute(INSERT, *arguments)
        await reach(crowd, end)


async def break_redis(crowd: Crowd, valkey: OwnValkey, client: memory.Redis) -> None:
    """It comes back empty, then as it was a while ago, and then hangs."""
    await reach(crowd, 0.2)
    await valkey.kill()
    await asyncio.sleep(0.2)
    await valkey.start()
    await reach(crowd, 0.35)
    await client.save()
    await reach(crowd, 0.5)
    await valkey.kill()
    await valkey.start()
    await reach(crowd, 0.65)
    await valkey.pause(1.2)  # longer than a client waits: answers are lost


@pytest.mark.timeout(600)
async def test_counters_equal_a_rebuild_after_ten_thousand_operations_with_redis_killed_midway(
    base: asyncpg.Pool, valkey: OwnValkey, client: memory.Redis, counters: RedisCounters, follower: Follower
) -> None:
    """Also with two followers at once, transactions that end out of order, and retries; and both equal a recount."""
    known = [reply for tenant in TENANTS for reply in await log(base, 100, tenant)]
    crowd = Crowd(base, known)
    hasty = memory.connect(valkey.url, timeout=0.5)
    followers = [Follower(RedisCounters(hasty), PostgresFeed(base), step=step) for step in (40, 300)]
    following = [asyncio.create_task(follow_for_ever(each)) for each in followers]
    async with asyncio.TaskGroup() as group:
        group.create_task(break_redis(crowd, valkey, client))
        for begin, end in ((0.15, 0.25), (0.45, 0.6), (0.75, 0.85), (0.8, 0.95)):
            group.create_task(hold_back(base, crowd, begin, end))
        for number in range(WRITERS):
            group.create_task(crowd.work(random.Random(number), OPERATIONS // WRITERS))
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    for each in followers:
        await each.close()
    await hasty.aclose()
    for _ in range(2):  # an answer that nobody waited for may still move the position
        await follower.follow()
    live = await dumped(counters)
    assert crowd.operations == OPERATIONS
    assert live == await recount(base)
    rebuilt = await follower.rebuild()
    assert await dumped(counters) == live
    assert rebuilt.replies == await base.fetchval("SELECT count(*) FROM conversation_logs")
    assert rebuilt.revisions == await base.fetchval("SELECT count(*) FROM feedback_revisions") > 3000


async def test_an_empty_redis_is_filled_again_by_itself(
    base: asyncpg.Pool, client: memory.Redis, counters: RedisCounters, follower: Follower
) -> None:
    known = await log(base)
    await rate(base, known[0], rating_overall=4, text_feedback="gut")
    await follower.follow()
    before = await dumped(counters)
    await client.flushall()
    await rate(base, known[0], rating_overall=5)
    await follower.follow()
    assert await dumped(counters) == await recount(base) != before


async def test_a_step_whose_answer_was_lost_is_not_counted_twice(base: asyncpg.Pool, client: memory.Redis) -> None:
    class Deaf(RedisCounters):
        lost = 0

        async def apply(self, *step: Any) -> bool:
            done = await super().apply(*step)
            if self.lost < 3:
                self.lost += 1
                raise MetricsUnavailable("no answer")
            return done

    counters = Deaf(client)
    follower = Follower(counters, PostgresFeed(base), step=7)
    await Follower(RedisCounters(client), PostgresFeed(base)).follow()
    await log(base, 30)
    for _ in range(3):
        with pytest.raises(MetricsUnavailable):
            await follower.follow()
    await follower.follow()
    assert await dumped(counters) == await recount(base)


async def test_the_same_step_is_taken_once_however_many_take_it(base: asyncpg.Pool, counters: RedisCounters) -> None:
    followers = [Follower(counters, PostgresFeed(base), step=5) for _ in range(4)]
    await followers[0].follow()
    for seed in range(5):
        await log(base, 20, seed=seed)
        await asyncio.gather(*(each.follow() for each in followers))
    await followers[0].follow()
    assert await dumped(counters) == await recount(base)


async def test_a_transaction_of_more_rows_than_a_step_is_counted_whole(
    base: asyncpg.Pool, counters: RedisCounters
) -> None:
    await log(base, 3)
    await log(base, 700)  # one transaction
    await log(base, 3)
    follower = Follower(counters, PostgresFeed(base), step=10)
    rebuilt = await follower.rebuild()
    assert rebuilt.replies == 706
    assert await dumped(counters) == await recount(base)


async def test_a_rebuild_while_others_write_misses_nothing_and_leaves_nothing_behind(
    base: asyncpg.Pool, client: memory.Redis, counters: RedisCounters, follower: Follower
) -> None:
    known = await log(base, 50)
    await follower.follow()

    async def write() -> None:
        for number in range(40):
            await rate(base, known[number % 7], rating_overall=number % 5 + 1)
            await log(base, 2, seed=number)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        for _ in range(3):
            await asyncio.gather(follower.rebuild(), Follower(counters, PostgresFeed(base)).rebuild())
            await follower.tick()
    await follower.follow()
    await follower.follow()
    live = await dumped(counters)
    assert live == await recount(base)
    names = {key.decode() for key in await client.keys("*")}
    assert len(names) == len(live) + len({"generation", "generations", "state", "index"})


async def test_who_asks_for_a_rebuild_that_is_under_way_waits_for_it(base: asyncpg.Pool, follower: Follower) -> None:
    await log(base)
    one, other = await asyncio.gather(follower.rebuild(), follower.rebuild())
    assert one is other


async def test_a_rebuild_whose_redis_lost_it_on_the_way_fails_and_the_old_counters_stay(
    base: asyncpg.Pool, client: memory.Redis, counters: RedisCounters
) -> None:
    class Losing(RedisCounters):
        async def apply(self, state: stored.State, *rest: Any) -> bool:
            await client.delete(f"{stored.PREFIX}{state.generation}:state")
            return await super().apply(state, *rest)

    await log(base)
    await Follower(counters, PostgresFeed(base)).follow()
    with pytest.raises(MetricsUnavailable):
        await Follower(Losing(client), PostgresFeed(base)).rebuild()
    assert await dumped(counters) == await recount(base)


async def test_a_bucket_that_redis_evicted_is_noticed_and_made_again(
    base: asyncpg.Pool, client: memory.Redis, counters: RedisCounters
) -> None:
    await log(base)
    await Follower(counters, PostgresFeed(base)).follow()
    state = await counters.state()
    assert state is not None
    assert await counters.whole(state.generation)
    await client.delete(next(iter(await client.keys(f"{stored.PREFIX}{state.generation}:minute:*"))))
    assert not await counters.whole(state.generation)
    await Follower(counters, PostgresFeed(base)).follow()
    assert await dumped(counters) == await recount(base)


async def test_counters_of_another_database_are_made_again(
    base: asyncpg.Pool, pool: asyncpg.Pool, stack: RunningStack, counters: RedisCounters
) -> None:
    await log(base)
    await Follower(counters, PostgresFeed(base)).follow()
    async with own_database(pool, stack.endpoints.database_url) as other:
        await log(other, 3, seed=2)
        await Follower(counters, PostgresFeed(other)).follow()
        assert await dumped(counters) == await recount(other)


async def test_erasing_texts_changes_no_counter_and_a_rebuild_agrees(
    base: asyncpg.Pool, counters: RedisCounters, follower: Follower
) -> None:
    known = await log(base)
    await rate(base, known[0], rating_overall=2, text_feedback="my name is Ann")
    await follower.follow()
    before = await dumped(counters)
    for table in ("feedback_data", "feedback_revisions"):
        await base.execute(f"UPDATE {table} SET text_feedback = ''")
    await base.execute("UPDATE conversation_logs SET query = '', user_id = 'erased-1', erased = true")
    await follower.follow()
    assert await dumped(counters) == before
    await follower.rebuild()
    assert await dumped(counters) == before
    assert any(name.endswith("\tcomments") for fields in before.values() for name in fields)


async def test_old_rows_count_in_their_own_time_and_what_expires_goes(
    base: asyncpg.Pool, counters: RedisCounters, follower: Follower
) -> None:
    _, arguments = replies(random.Random(1), 1, "default", datetime.now(UTC) - timedelta(days=10))
    await base.execute(INSERT, *arguments)
    await follower.follow()
    live = await dumped(counters)
    assert sorted(name.split(":")[0] for name in live) == ["day", "hour"]
    state = await counters.state()
    assert state is not None
    await counters.sweep(state.generation, datetime.now(UTC).timestamp() + 55 * 86_400)
    assert [name.split(":")[0] for name in await dumped(counters)] == ["day"]


async def test_the_position_stays_at_the_last_row_whatever_else_uses_transaction_numbers(
    base: asyncpg.Pool, counters: RedisCounters, follower: Follower
) -> None:
    """Postgres may use numbers again, after a crash, of transactions that wrote nothing."""
    await log(base)
    await follower.follow()
    state = await counters.state()
    await base.fetchval("SELECT pg_current_xact_id()")
    await follower.follow()
    after = await counters.state()
    assert state is not None
    assert after is not None
    assert after.position == state.position
    assert after.position == 1 + await base.fetchval(
        "SELECT transaction_id FROM conversation_logs ORDER BY transaction_id DESC LIMIT 1"
    )


async def test_the_lag_says_since_when_a_transaction_holds_the_log_back(
    base: asyncpg.Pool, counters: RedisCounters, follower: Follower
) -> None:
    await follower.follow()
    async with base.acquire() as connection, connection.transaction():
        await connection.fetchval("SELECT pg_current_xact_id()")
        await follower.follow()
        before = await counters.state()
        await log(base)
        await follower.follow()
        held = await counters.state()
    await follower.follow()
    free = await counters.state()
    assert before is not None
    assert held is not None
    assert free is not None
    assert held.followed == before.followed < free.followed


async def test_figures_are_those_of_one_tenant_and_of_the_window(
    base: asyncpg.Pool, counters: RedisCounters, follower: Follower
) -> None:
    now = datetime.now(UTC)
    known = await log(base, 30, TENANTS[1])
    await log(base, 10, "default")
    await rate(base, known[0], rating_overall=5, reaction_type=Reaction.THUMBS_UP)
    await follower.follow()
    figures = Figures(counters)
    whole = await figures.window(TENANTS[1], now, 3 * 86_400, Granularity.DAY)
    assert whole.total.replies == 30
    assert (whole.total.rating_sum, whole.total.thumbs_up, whole.total.rated_replies) == (5, 1, 1)
    assert sum(whole.releases[name].replies for name in ("policy-000001", "policy-000002")) == 30
    assert sum(metrics.replies for _, metrics in whole.points) == 30
    hour = await figures.window(TENANTS[1], now, 3600)
    assert hour.total.replies == sum(reply.created_at >= hour.start for reply in known) < 30
    one = await figures.window(TENANTS[1], now, 3 * 86_400, Granularity.DAY, release="policy-000002")
    assert one.total == whole.releases["policy-000002"]
    assert (await figures.window("nobody", now, 3600)).total.replies == 0


async def test_who_asks_at_the_same_time_shares_one_read(
    base: asyncpg.Pool, counters: RedisCounters, follower: Follower
) -> None:
    await follower.follow()
    figures = Figures(counters)
    windows = await asyncio.gather(*(figures.newest("default", 3600) for _ in range(20)))
    assert len({id(window) for window in windows}) <= 2  # a quarter of a second may have ended between them


async def test_calls_and_errors_are_counted_apart(
    base: asyncpg.Pool, counters: RedisCounters, follower: Follower
) -> None:
    calls = Calls(counters)
    for code in ("OK", "OK", "INTERNAL", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNAVAILABLE"):
        calls.ended("default", code)
    calls.ended("other", "OK")
    await calls.flush()
    await calls.flush()
    await follower.follow()
    await follower.rebuild()
    total = (await Figures(counters).window("default", datetime.now(UTC), 3600, Granularity.HOUR)).total
    assert (total.calls, total.errors, total.replies) == (6, 2, 0)


async def test_without_redis_there_are_no_figures_and_calls_are_lost_quietly(
    valkey: OwnValkey, counters: RedisCounters, follower: Follower
) -> None:
    await valkey.kill()
    with pytest.raises(MetricsUnavailable):
        await Figures(counters).window("default", datetime.now(UTC), 3600)
    await follower.tick()
    calls = Calls(counters)
    calls.ended("default", "OK")
    await calls.flush()


async def test_who_is_cancelled_while_redis_is_asked_ends(counters: RedisCounters) -> None:
    """With Python 3.11 its client alone goes on in about half of the cases."""

    async def ask() -> None:
        while True:
            await counters.state()

    for number in range(100):
        asking = asyncio.create_task(ask())
        for _ in range(3 + number % 17):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking], timeout=5)
        assert asking.cancelled()


async def test_before_there_are_counters_figures_are_refused_instead_of_zero(counters: RedisCounters) -> None:
    with pytest.raises(MetricsUnavailable, match="made again"):
        await Figures(counters).newest("default", 3600)


async def test_a_key_that_is_no_hash_stops_a_step_before_it_changes_anything_and_makes_all_again(
    base: asyncpg.Pool, client: memory.Redis, counters: RedisCounters, follower: Follower
) -> None:
    await follower.follow()
    state = await counters.state()
    assert state is not None
    made, arguments = replies(random.Random(3), 1, "default", datetime.now(UTC))
    day = int(made[0].created_at.timestamp()) // 86_400 * 86_400
    await client.set(f"{stored.PREFIX}{state.generation}:day:{day}:default", b"odd")
    await base.execute(INSERT, *arguments)
    await follower.follow()
    unchanged = await counters.state()
    assert unchanged is not None
    assert unchanged.position == state.position
    assert await client.zcard(f"{stored.PREFIX}{state.generation}:index") == 0
    await follower.follow()
    assert await dumped(counters) == await recount(base)


async def test_following_reads_by_the_index_however_many_rows_and_partitions_there_are(base: asyncpg.Pool) -> None:
    for seed in range(4):
        await log(base, 3000, seed=seed)
    await base.execute("ANALYZE conversation_logs")
    last = await base.fetchval("SELECT transaction_id FROM conversation_logs ORDER BY transaction_id DESC LIMIT 1")
    for statement in (stored_row("conversation_logs"), stored_row("feedback_revisions")):
        plan = "\n".join(row[0] for row in await base.fetch(f"EXPLAIN {statement}", last, last + 1))
        assert "Seq Scan" not in plan, plan


def stored_row(table: str) -> str:
    return (
        f"SELECT transaction_id FROM {table} WHERE transaction_id >= $1::xid8 AND transaction_id < $2::xid8"
        " ORDER BY transaction_id OFFSET 1000 LIMIT 1"
    )
