"""Feedback in a real Postgres: merged, revised, withdrawn, idempotent, and safe when many come at once."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import uuid_utils

from server.errors import FeedbackNotFound, RequestIdReused, ResponseNotFound
from server.feedback.completion import complete
from server.feedback.pruning import MARGIN, prune
from server.feedback.types import (
    Change,
    Effect,
    Feedback,
    GivenReply,
    Kept,
    Kind,
    Opinion,
    Part,
    Reaction,
    SafetyCategory,
)
from server.storage.erasure import Erasures
from server.storage.feedback import PostgresFeedback, Seen, Submission
from server.storage.feedback_reading import FeedbackReader, Wanted
from server.storage.feedback_requests import RequestKey
from server.storage.ledger import Ledger
from server.storage.records import Row
from server.types import Profile
from tests.turns import a_turn, an_entry

NO_KEY = RequestKey("", b"")
TENANT = "default"


@pytest.fixture
def store(pool: asyncpg.Pool) -> PostgresFeedback:
    return PostgresFeedback(pool)


@pytest.fixture
def reader(pool: asyncpg.Pool) -> FeedbackReader:
    return FeedbackReader(pool)


async def a_reply(pool: asyncpg.Pool, **changes: Any) -> GivenReply:
    """One whose log row is in Postgres."""
    entry = an_entry(a_turn(**changes))
    profile = Profile(entry.turn.tenant_id, entry.turn.user_id, {"language": "vi"})
    await Ledger(pool, pool).insert([Row.of(replace(entry, profile=profile))])
    turn, reply = entry.turn, entry.reply
    return GivenReply(
        turn.tenant_id,
        turn.response_id,
        turn.user_id,
        turn.session_id,
        reply.created_at,
        reply.policy_release,
        reply.reward_release,
    )


def rating(clear: tuple[Part, ...] = (), **says: Any) -> Change:
    return Change(Kind.RATING, Opinion(**says), frozenset(clear))


def submission(reply: GivenReply, *changes: Change, key: RequestKey = NO_KEY) -> Submission:
    return Submission(reply, changes, key, datetime.now(UTC))


async def current(pool: asyncpg.Pool, reply: GivenReply) -> list[Any]:
    return await pool.fetch(
        "SELECT * FROM feedback_data WHERE tenant_id = $1 AND response_id = $2 ORDER BY kind",
        reply.tenant_id,
        reply.response_id,
    )


async def revisions(pool: asyncpg.Pool, feedback: Feedback) -> list[Any]:
    return await pool.fetch(
        "SELECT * FROM feedback_revisions WHERE feedback_id = $1 ORDER BY revision", feedback.feedback_id
    )


async def requests(pool: asyncpg.Pool, name: str) -> int:
    """How many requests with this id are kept as done."""
    return int(await pool.fetchval("SELECT count(*) FROM feedback_requests WHERE request_id = $1", name))


async def only(submitted: Any) -> Kept:
    (kept,) = await submitted
    found: Kept = kept
    return found


async def test_a_feedback_keeps_the_context_and_the_figures_of_its_reply(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool, query="Đơn hàng của tôi đâu?")
    said = rating(rating_overall=4, rating_dimensions={"accuracy": 5}, text_feedback="Cảm ơn 🎉")
    kept = await only(store.submit(submission(reply, said)))
    (row,) = await current(pool, reply)
    assert kept.effect is Effect.GIVEN
    assert json.loads(row["context"]) == {
        "query": "Đơn hàng của tôi đâu?",
        "previous_messages": [{"query": "Xin chào", "response": "Chào bạn!"}],
        "user_profile": {"language": "vi"},
    }
    assert (row["arm"], row["arm_share"], row["selection_probability"]) == ("champion", 1.0, 1.0)
    assert (row["policy_release"], row["reward_release"]) == ("policy-000001", "reward-000001")
    assert (row["session_id"], row["user_id"], row["revision"]) == ("s1", "ann", 1)
    assert json.loads(row["rating_dimensions"]) == {"accuracy": 5}
    assert row["text_feedback"] == "Cảm ơn 🎉"
    assert row["timestamp"] == row["updated_at"]
    assert not row["is_training_data"]
    (revision,) = await revisions(pool, kept.feedback)
    assert (revision["rating_overall"], revision["withdrawn"]) == (4, False)
    assert revision["recorded_at"] == row["timestamp"]


async def test_an_edit_keeps_what_it_does_not_name_and_the_bucket_of_the_first(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool)
    first = await only(store.submit(submission(reply, rating(rating_overall=2, text_feedback="Slow."))))
    second = await only(store.submit(submission(reply, rating(reaction_type=Reaction.THUMBS_DOWN))))
    third = await only(store.submit(submission(reply, rating((Part.TEXT,), rating_dimensions={"safety": 3}))))
    assert third.feedback.feedback_id == second.feedback.feedback_id == first.feedback.feedback_id
    assert (second.effect, third.feedback.revision) == (Effect.EDITED, 3)
    assert third.feedback.standing.opinion == Opinion(
        rating_overall=2, rating_dimensions={"safety": 3}, reaction_type=Reaction.THUMBS_DOWN
    )
    assert third.feedback.timestamp == first.feedback.timestamp
    assert third.feedback.updated_at > first.feedback.updated_at
    told = [(row["rating_overall"], row["text_feedback"]) for row in await revisions(pool, first.feedback)]
    assert told == [(2, "Slow."), (2, "Slow."), (2, "")]


async def test_saying_the_same_again_writes_nothing(pool: asyncpg.Pool, store: PostgresFeedback) -> None:
    reply = await a_reply(pool)
    said = rating(rating_overall=5, text_feedback="Good.")
    first = await only(store.submit(submission(reply, said)))
    for again in (said, rating(rating_overall=5), rating((Part.REACTION,))):
        kept = await only(store.submit(submission(reply, again)))
        assert (kept.effect, kept.feedback) == (Effect.UNCHANGED, first.feedback)
    assert len(await revisions(pool, first.feedback)) == 1


async def test_a_withdrawal_is_a_revision_with_the_values_as_they_were(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool)
    given = (await only(store.submit(submission(reply, rating(rating_overall=1, text_feedback="Bad."))))).feedback
    for _ in range(2):
        kept = await store.withdraw(TENANT, "ann", given.feedback_id, NO_KEY, datetime.now(UTC))
        assert kept.feedback.withdrawn
    assert kept.effect is Effect.UNCHANGED, "the second one finds it done"
    told = [(row["rating_overall"], row["text_feedback"], row["withdrawn"]) for row in await revisions(pool, given)]
    assert told == [(1, "Bad.", False), (1, "Bad.", True)]


async def test_speaking_again_after_a_withdrawal_begins_anew_as_a_new_revision(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool)
    given = (await only(store.submit(submission(reply, rating(rating_overall=1, text_feedback="Bad."))))).feedback
    await store.withdraw(TENANT, "ann", given.feedback_id, NO_KEY, datetime.now(UTC))
    again = await only(store.submit(submission(reply, rating(reaction_type=Reaction.THUMBS_UP))))
    assert (again.feedback.feedback_id, again.feedback.revision) == (given.feedback_id, 3)
    assert again.feedback.standing.opinion == Opinion(reaction_type=Reaction.THUMBS_UP)
    assert not again.feedback.withdrawn
    assert again.feedback.timestamp == given.timestamp


async def test_clearing_the_last_part_withdraws_and_clearing_nothing_does_nothing(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool)
    assert await store.submit(submission(reply, rating((Part.TEXT,)))) == []
    await store.submit(submission(reply, rating(rating_overall=3)))
    kept = await only(store.submit(submission(reply, rating((Part.RATING_OVERALL,)))))
    assert (kept.effect, kept.feedback.withdrawn, kept.feedback.rating_overall) == (Effect.WITHDRAWN, True, 3)
    again = await only(store.submit(submission(reply, rating((Part.RATING_OVERALL,)))))
    assert again.effect is Effect.UNCHANGED


async def test_a_rating_and_a_safety_report_are_two_feedbacks_of_one_request(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool)
    report = Change(Kind.SAFETY_REPORT, Opinion(text_feedback="An address.", safety_category=SafetyCategory.PRIVACY))
    key = RequestKey(f"both-{uuid4()}", b"f")
    kept = await store.submit(submission(reply, rating(rating_overall=1), report, key=key))
    assert [each.feedback.kind for each in kept] == [Kind.RATING, Kind.SAFETY_REPORT]
    assert kept[1].feedback.safety_category is SafetyCategory.PRIVACY
    again = await store.submit(submission(reply, rating(rating_overall=1), report, key=key))
    assert [each.feedback for each in again] == [each.feedback for each in kept]
    assert {each.effect for each in again} == {Effect.UNCHANGED}


async def test_an_empty_safety_report_is_a_report(pool: asyncpg.Pool, store: PostgresFeedback) -> None:
    reply = await a_reply(pool)
    kept = await only(store.submit(submission(reply, Change(Kind.SAFETY_REPORT, Opinion()))))
    assert (kept.effect, kept.feedback.kind) == (Effect.GIVEN, Kind.SAFETY_REPORT)


async def test_a_request_that_is_repeated_changes_nothing_even_after_an_edit(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool)
    key = RequestKey(f"late-{uuid4()}", b"up")
    up = submission(reply, rating(reaction_type=Reaction.THUMBS_UP), key=key)
    await store.submit(up)
    await store.submit(submission(reply, rating(reaction_type=Reaction.THUMBS_DOWN)))
    late = await only(store.submit(up))
    assert (late.effect, late.feedback.reaction_type) == (Effect.UNCHANGED, Reaction.THUMBS_DOWN)
    assert await store.look(TENANT, key, reply.response_id, "ann") == Seen(reply, repeated=True, erased=False)


async def test_a_request_id_stands_for_one_request(pool: asyncpg.Pool, store: PostgresFeedback) -> None:
    reply, other = await a_reply(pool), await a_reply(pool)
    name = f"reused-{uuid4()}"
    given = await only(store.submit(submission(reply, rating(rating_overall=4), key=RequestKey(name, b"one"))))
    with pytest.raises(RequestIdReused):
        await store.submit(submission(other, rating(rating_overall=1), key=RequestKey(name, b"other")))
    with pytest.raises(RequestIdReused):
        await store.withdraw(TENANT, "ann", given.feedback.feedback_id, RequestKey(name, b"w"), datetime.now(UTC))
    with pytest.raises(RequestIdReused):
        await store.look(TENANT, RequestKey(name, b"other"), other.response_id, "ann")
    assert await current(pool, other) == []
    assert not (await current(pool, reply))[0]["withdrawn"]


async def test_users_neither_take_nor_see_each_others_request_ids(pool: asyncpg.Pool, store: PostgresFeedback) -> None:
    name = f"shared-{uuid4()}"
    mine, other = await a_reply(pool), await a_reply(pool, user_id="bob")
    first = await only(store.submit(submission(mine, rating(rating_overall=1), key=RequestKey(name, b"ann"))))
    assert not (await store.look(TENANT, RequestKey(name, b"bob"), other.response_id, "bob")).repeated
    report = Change(Kind.SAFETY_REPORT, Opinion())
    told = await store.submit(submission(other, rating(rating_overall=2), report, key=RequestKey(name, b"bob")))
    assert [each.effect for each in (first, *told)] == [Effect.GIVEN] * 3
    withdrawal = RequestKey(name, b"withdrawal")
    with pytest.raises(RequestIdReused):
        await store.withdraw(TENANT, "bob", told[0].feedback.feedback_id, withdrawal, datetime.now(UTC))


async def test_request_ids_of_anonymous_users_belong_to_the_reply(pool: asyncpg.Pool, store: PostgresFeedback) -> None:
    name = f"anonymous-{uuid4()}"
    replies = [await a_reply(pool, user_id="") for _ in range(2)]
    for number, reply in enumerate(replies):
        key = RequestKey(name, str(number).encode())
        assert not (await store.look(TENANT, key, reply.response_id, "")).repeated
        given = await only(store.submit(submission(reply, rating(rating_overall=1), key=key)))
        assert given.effect is Effect.GIVEN
        assert (await store.look(TENANT, key, reply.response_id, "")).repeated
        with pytest.raises(RequestIdReused):
            await store.submit(submission(reply, rating(rating_overall=5), key=RequestKey(name, b"other")))
        own = RequestKey(f"{name}-withdraw", str(number).encode())
        taken = await store.withdraw(TENANT, "", given.feedback.feedback_id, own, datetime.now(UTC))
        assert taken.effect is Effect.WITHDRAWN


async def test_clearing_where_nothing_is_leaves_no_trace_of_the_request(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    name = f"nothing-{uuid4()}"
    unknown = GivenReply(
        TENANT, UUID(int=uuid_utils.uuid7().int), "ann", "s1", datetime.now(UTC), "p", "", logged=False
    )
    for reply in (unknown, await a_reply(pool)):
        assert await store.submit(submission(reply, rating((Part.TEXT,)), key=RequestKey(name, b"f"))) == []
    assert await requests(pool, name) == 0


@pytest.mark.parametrize("stars", [4, 1], ids=["says the same", "edits"])
async def test_a_request_on_what_an_erasure_reaches_is_refused_and_leaves_no_trace(
    pool: asyncpg.Pool, stars: int
) -> None:
    erasures, user, name = await Erasures.open(pool), f"ann-{uuid4()}", f"swept-{uuid4()}"
    store, reply = PostgresFeedback(pool, erasures.digest), await a_reply(pool, user_id=user)
    given = await only(store.submit(submission(reply, rating(rating_overall=4))))
    async with pool.acquire() as connection:  # noted, not swept yet: the request looked before
        await erasures.mark(connection, TENANT, user, datetime.now(UTC))
    assert (await store.look(TENANT, NO_KEY, reply.response_id, user)).erased
    with pytest.raises(ResponseNotFound):
        await store.submit(submission(reply, rating(rating_overall=stars), key=RequestKey(name, b"f")))
    with pytest.raises(FeedbackNotFound):
        await store.withdraw(TENANT, user, given.feedback.feedback_id, RequestKey(name, b"w"), datetime.now(UTC))
    assert await requests(pool, name) == 0
    assert len(await revisions(pool, given.feedback)) == 1


async def test_only_the_withdrawal_that_changes_something_keeps_its_request(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply, name = await a_reply(pool), f"withdraw-{uuid4()}"
    used = RequestKey(f"{name}-used", b"submit")
    given = (await only(store.submit(submission(reply, rating(rating_overall=5), key=used)))).feedback
    effects = [
        (
            await store.withdraw(TENANT, "ann", given.feedback_id, RequestKey(f"{name}-{n}", b"w"), datetime.now(UTC))
        ).effect
        for n in range(3)
    ]
    assert effects == [Effect.WITHDRAWN, Effect.UNCHANGED, Effect.UNCHANGED]
    assert [await requests(pool, f"{name}-{n}") for n in range(3)] == [1, 0, 0]
    with pytest.raises(RequestIdReused):
        await store.withdraw(TENANT, "ann", given.feedback_id, replace(used, fingerprint=b"w"), datetime.now(UTC))


async def test_an_edit_fifty_times_at_once_is_made_once_and_not_again_after_the_next(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool)
    first = (await only(store.submit(submission(reply, rating(rating_overall=5))))).feedback
    edit = submission(reply, rating(rating_overall=2), key=RequestKey(f"edit-{uuid4()}", b"2"))
    next_one = submission(reply, rating(rating_overall=3), key=RequestKey(f"edit-{uuid4()}", b"3"))
    await asyncio.gather(*(store.submit(each) for each in [edit] * 25 + [next_one] * 25))
    assert len(await revisions(pool, first)) == 3


async def test_requests_are_forgotten_once_their_replies_are_too_old_to_rate(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    name, horizon = f"old-{uuid4()}", timedelta(hours=1)
    ages = [horizon + MARGIN + timedelta(minutes=minutes) for minutes in (-5, 5, 10, 15, 20, 25)]
    for number, age in enumerate(ages):
        await store.submit(
            submission(await a_reply(pool), rating(rating_overall=5), key=RequestKey(f"{name}-{number}", b"f"))
        )
        await pool.execute(
            "UPDATE feedback_requests SET created_at = now() - $2::interval WHERE request_id = $1",
            f"{name}-{number}",
            age,
        )
    await prune(store, horizon, batch=2)
    assert [await requests(pool, f"{name}-{number}") for number in range(len(ages))] == [1, 0, 0, 0, 0, 0]
    assert await store.forget_requests(datetime.now(UTC) - horizon - MARGIN, 2) == 0


@pytest.mark.parametrize("key", [NO_KEY, RequestKey("fifty", b"f")], ids=["without an id", "with a request id"])
async def test_the_same_feedback_fifty_times_at_once_is_one_row_and_one_revision(
    pool: asyncpg.Pool, store: PostgresFeedback, key: RequestKey
) -> None:
    reply = await a_reply(pool)
    same = submission(reply, rating(rating_overall=5, text_feedback="Tuyệt!"), key=key)
    kept = [each for (each,) in await asyncio.gather(*(store.submit(same) for _ in range(50)))]
    assert [each.effect for each in kept].count(Effect.GIVEN) == 1
    assert {each.feedback.feedback_id for each in kept} == {kept[0].feedback.feedback_id}
    assert len(await current(pool, reply)) == 1
    assert len(await revisions(pool, kept[0].feedback)) == 1


async def test_fifty_different_edits_at_once_each_build_upon_the_one_before(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool)
    changes = [rating(text_feedback=f"comment {number}") for number in range(47)]
    changes += [
        rating(rating_overall=2),
        rating(reaction_type=Reaction.NEUTRAL),
        rating(rating_dimensions={"clarity": 4}),
    ]
    kept = await asyncio.gather(*(only(store.submit(submission(reply, each))) for each in changes))
    assert sorted(each.feedback.revision for each in kept) == list(range(1, 51))
    (row,) = await current(pool, reply)
    assert (row["rating_overall"], row["reaction_type"], row["rating_dimensions"]) == (2, "neutral", '{"clarity": 4}')
    last = (await revisions(pool, kept[0].feedback))[-1]
    assert (last["text_feedback"], last["revision"]) == (row["text_feedback"], 50)
    assert sum(each.to_learn for each in kept) == row["learned_weight"] == -1.0


async def test_submits_and_withdrawals_at_once_leave_a_history_without_gaps(
    pool: asyncpg.Pool, store: PostgresFeedback
) -> None:
    reply = await a_reply(pool)
    given = (await only(store.submit(submission(reply, rating(rating_overall=5))))).feedback

    async def one(number: int) -> Kept:
        if number % 2:
            return await store.withdraw(TENANT, "ann", given.feedback_id, NO_KEY, datetime.now(UTC))
        return await only(store.submit(submission(reply, rating(rating_overall=1 + number % 5))))

    kept = await asyncio.gather(*map(one, range(40)))
    history = await revisions(pool, given)
    assert [row["revision"] for row in history] == list(range(1, len(history) + 1))
    assert len(history) == 1 + sum(each.effect is not Effect.UNCHANGED for each in kept)
    assert not any(a["withdrawn"] and b["withdrawn"] for a, b in pairwise(history))
    (row,) = await current(pool, reply)
    assert 2.0 + sum(each.to_learn for each in kept) == row["learned_weight"]


async def test_only_its_own_user_withdraws_a_feedback(pool: asyncpg.Pool, store: PostgresFeedback) -> None:
    reply = await a_reply(pool)
    given = (await only(store.submit(submission(reply, rating(rating_overall=5))))).feedback
    for tenant, user, feedback_id in [
        (TENANT, "bob", given.feedback_id),
        ("other", "ann", given.feedback_id),
        (TENANT, "ann", uuid4()),
    ]:
        with pytest.raises(FeedbackNotFound):
            await store.withdraw(tenant, user, feedback_id, RequestKey("gone", b"f"), datetime.now(UTC))
    assert await pool.fetchval("SELECT count(*) FROM feedback_requests WHERE request_id = 'gone'") == 0


async def test_a_reply_of_another_user_or_tenant_is_not_found(pool: asyncpg.Pool, store: PostgresFeedback) -> None:
    reply = await a_reply(pool)
    assert await store.look(TENANT, NO_KEY, reply.response_id, "ann") == Seen(reply, repeated=False, erased=False)
    for tenant, user, response_id in [
        (TENANT, "bob", reply.response_id),
        ("other", "ann", reply.response_id),
        (TENANT, "", reply.response_id),
        (TENANT, "ann", uuid4()),
    ]:
        seen = await store.look(tenant, NO_KEY, response_id, user)
        assert seen == Seen(None, repeated=False, erased=False)


async def test_feedback_before_its_log_row_is_completed_when_that_comes(
    pool: asyncpg.Pool, store: PostgresFeedback, reader: FeedbackReader
) -> None:
    entry = an_entry(a_turn(query="Still on disk?"))
    late = GivenReply(TENANT, entry.turn.response_id, "ann", "s1", datetime.now(UTC), "policy-000007", "", logged=False)
    never = replace(late, response_id=UUID(int=uuid_utils.uuid7().int))
    for reply in (never, late):
        kept = await only(store.submit(submission(reply, rating(rating_overall=5))))
        assert (kept.feedback.arm, kept.feedback.policy_release, kept.to_learn) == (None, "policy-000007", 0.0)
    await complete(reader)
    (row,) = await current(pool, late)
    assert row["context"] is None
    await Ledger(pool, pool).insert([Row.of(entry)])
    await complete(reader)
    (row,) = await current(pool, late)
    assert json.loads(row["context"])["query"] == "Still on disk?"
    assert (row["arm"], row["arm_share"], row["selection_probability"]) == ("champion", 1.0, 1.0)
    assert (row["policy_release"], row["revision"]) == ("policy-000007", 1), "what was set at first never changes"
    edited = await only(store.submit(submission(late, rating(rating_overall=4))))
    assert edited.to_learn == 1.0, "what could not be learned before its query was known is learned with the edit"
    (row,) = await current(pool, never)
    assert row["context"] is None


async def test_completing_stops_when_there_is_nothing_left(
    pool: asyncpg.Pool, store: PostgresFeedback, reader: FeedbackReader
) -> None:
    entries = [an_entry(a_turn(session_id="batch")) for _ in range(5)]
    for entry in entries:
        reply = GivenReply(TENANT, entry.turn.response_id, "ann", "batch", datetime.now(UTC), "p", "", logged=False)
        await store.submit(submission(reply, rating(rating_overall=5)))
    await Ledger(pool, pool).insert([Row.of(entry) for entry in entries])
    assert [await reader.complete(2) for _ in range(4)] == [2, 2, 1, 0]


async def test_pages_list_the_newest_first_and_only_what_is_wanted(
    pool: asyncpg.Pool, store: PostgresFeedback, reader: FeedbackReader
) -> None:
    user = f"lister-{uuid4()}"
    replies = [await a_reply(pool, user_id=user, session_id=f"s{number % 2}") for number in range(5)]
    given = [(await only(store.submit(submission(each, rating(rating_overall=3))))).feedback for each in replies]
    report = Change(Kind.SAFETY_REPORT, Opinion(safety_category=SafetyCategory.TOXIC))
    reported = (await only(store.submit(submission(replies[0], report)))).feedback
    withdrawn = (await store.withdraw(TENANT, user, given[4].feedback_id, NO_KEY, datetime.now(UTC))).feedback
    mine = Wanted(TENANT, user_id=user)

    async def listed(wanted: Wanted, before: UUID | None = None, limit: int = 10) -> list[Feedback]:
        return await reader.page(wanted, before, limit)

    assert await listed(mine) == [reported, *reversed(given[:4])]
    assert await listed(mine, given[2].feedback_id) == [given[1], given[0]]
    assert await listed(mine, limit=1) == [reported]
    assert (await listed(replace(mine, withdrawn=True)))[1] == withdrawn
    assert await listed(replace(mine, kind=Kind.SAFETY_REPORT)) == [reported]
    assert await listed(replace(mine, session_id="s1")) == [given[3], given[1]]
    assert await listed(replace(mine, response_id=replies[1].response_id)) == [given[1]]
    assert await listed(replace(mine, since=given[3].timestamp, kind=Kind.RATING)) == [given[3]]
    assert await listed(replace(mine, until=given[1].timestamp)) == [given[0]]
    assert await listed(replace(mine, policy_release="policy-000002")) == []
    assert await listed(replace(mine, tenant_id="other")) == []
