"""FeedbackService and `ratchet feedback` over a loopback server, with a real Postgres and Valkey behind."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from click.testing import CliRunner, Result
from prometheus_client import REGISTRY

from cli.main import ratchet
from ratchet.v1 import feedback_pb2 as pb
from ratchet.v1 import feedback_pb2_grpc
from server import identity
from server.backends.embedding import HashingEmbedder
from server.errors import StoreUnavailable
from server.feedback.intake import Intake
from server.feedback.lessons import Lessons
from server.feedback.receipts import Receipts
from server.feedback.types import GivenReply
from server.identity import ANYONE, Caller, Role
from server.learning import Learner
from server.rpc.feedback import FeedbackService
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.storage import memory, windows
from server.storage.erasure import Erasures
from server.storage.feedback import PostgresFeedback
from server.storage.feedback_reading import FeedbackReader
from server.storage.ledger import Ledger
from server.storage.records import Row
from server.storage.windows import RedisWindow
from server.types import Candidate
from tests.conftest import RunningStack
from tests.inmemory import InMemoryProfiles
from tests.turns import a_candidate, a_turn, an_entry
from tests.unit.test_rpc import refused

HORIZON = 3600.0


class As(grpc.aio.ServerInterceptor):
    """Makes the caller of `as: NAME` the one that is known by this name, as API keys do."""

    def __init__(self) -> None:
        self.callers = {"": ANYONE}

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(handler_call_details)
        identity.enter(self.callers[dict(handler_call_details.invocation_metadata or ()).get("as", "")])  # type: ignore[index]
        return handler


class Edge:
    stub: Any
    address: str

    def __init__(self, pool: asyncpg.Pool, erasures: Erasures) -> None:
        self.pool, self.erasures = pool, erasures
        self.receipts = Receipts([b"s" * 32])
        self.callers = As()
        self.profiles = InMemoryProfiles()
        self.learner = Learner(self.profiles, HashingEmbedder.model)
        self.store, self.reader = PostgresFeedback(pool, erasures.digest), FeedbackReader(pool)

    async def reply(self, *candidates: Candidate, logged: bool = True, age: float = 0.0, **turn: Any) -> GivenReply:
        """A reply that was given to a user of its own, unless `turn` names one."""
        entry = an_entry(a_turn(**{"user_id": f"ann-{uuid4()}", **turn}))
        reply = replace(entry.reply, created_at=datetime.now(UTC) - timedelta(seconds=age))
        if candidates:
            shares = (1.0, *(0.0 for _ in candidates[1:]))
            choice = replace(reply.choice, probabilities=shares)
            reply = replace(reply, candidates=candidates, choice=choice)
        if logged:
            await Ledger(self.pool, self.pool).insert([Row.of(replace(entry, reply=reply))])
        turn_ = entry.turn
        releases = (reply.policy_release, reply.reward_release)
        return GivenReply(
            turn_.tenant_id, turn_.response_id, turn_.user_id, turn_.session_id, reply.created_at, *releases, logged
        )

    async def rate(self, reply: GivenReply, key: str = "", **fields: Any) -> pb.SubmitFeedbackResponse:
        given = {"response_id": str(reply.response_id), "user_id": reply.user_id, **fields}
        answer: pb.SubmitFeedbackResponse = await self.stub.SubmitFeedback(
            pb.SubmitFeedbackRequest(**given), metadata=being(key)
        )
        return answer

    async def prefer(self, reply: GivenReply, chosen: int, rejected: int, **fields: Any) -> pb.SubmitPreferenceResponse:
        given = {"response_id": str(reply.response_id), "user_id": reply.user_id, **fields}
        request = pb.SubmitPreferenceRequest(chosen_index=chosen, rejected_index=rejected, **given)
        answer: pb.SubmitPreferenceResponse = await self.stub.SubmitPreference(request)
        return answer

    async def erase(self, user: str) -> None:
        """Notes that the user was erased up to now, as an erasure does; nothing is swept."""
        async with self.pool.acquire() as connection:
            await self.erasures.mark(connection, "default", user, datetime.now(UTC))

    async def command(self, *arguments: str) -> Result:
        """Runs `ratchet feedback …` in a thread, as another process would."""
        where = ["--address", self.address, "--timeout", "20"]
        return await asyncio.to_thread(CliRunner().invoke, ratchet, ["feedback", *arguments, *where])


def being(who: str) -> tuple[tuple[str, str], ...]:
    return (("as", who),) if who else ()


@pytest.fixture
async def edge(pool: asyncpg.Pool, stack: RunningStack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.setattr(windows, "PATIENCE", 20.0)  # a busy machine is no Redis that is away
    edge, client = Edge(pool, await Erasures.open(pool)), memory.connect(stack.endpoints.redis_url, timeout=20.0)
    lessons = Lessons(edge.reader, HashingEmbedder(), edge.learner)
    intake = Intake(edge.store, edge.reader, edge.receipts, RedisWindow(client, "feedback", 10), lessons, HORIZON)
    server = grpc.aio.server(interceptors=[edge.callers, Guard(Admission(limit=64))])
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(FeedbackService(intake, edge.reader, Defaults()), server)
    edge.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    edge.learner.start()
    async with grpc.aio.insecure_channel(edge.address) as channel:
        edge.stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
        yield edge
    await edge.learner.stop()
    await server.stop(0)
    await client.aclose()


async def test_a_whole_rating_is_taken_and_told_as_it_is_kept(edge: Edge) -> None:
    reply = await edge.reply()
    given = await edge.rate(
        reply,
        rating_overall=4,
        rating_dimensions=pb.RatingDimensions(accuracy=5, clarity=1),
        reaction_type=pb.REACTION_TYPE_THUMBS_UP,
        text_feedback=" Cảm ơn, rất rõ ràng! 🎉\n",
        safety_report=pb.SafetyReport(category=pb.SAFETY_CATEGORY_PRIVACY, detail="An address."),
        request_id="r1",
    )
    rating, report = given.feedback
    assert not given.replayed
    assert (rating.kind, report.kind) == (pb.FEEDBACK_KIND_RATING, pb.FEEDBACK_KIND_SAFETY_REPORT)
    assert (rating.response_id, rating.user_id, rating.session_id) == (str(reply.response_id), reply.user_id, "s1")
    assert (rating.rating_overall, rating.reaction_type) == (4, pb.REACTION_TYPE_THUMBS_UP)
    assert rating.rating_dimensions == pb.RatingDimensions(accuracy=5, clarity=1)
    assert (rating.text_feedback, rating.revision, rating.withdrawn) == ("Cảm ơn, rất rõ ràng! 🎉", 1, False)
    assert (rating.arm, rating.arm_share, rating.selection_probability) == ("champion", 1.0, 1.0)
    assert (rating.policy_release, rating.reward_release) == ("policy-000001", "reward-000001")
    assert rating.create_time == rating.update_time
    assert (report.safety_category, report.text_feedback) == (pb.SAFETY_CATEGORY_PRIVACY, "An address.")
    assert not report.HasField("rating_overall")


async def test_a_repeated_request_is_answered_as_such(edge: Edge) -> None:
    reply = await edge.reply()
    first = await edge.rate(reply, rating_overall=4, request_id=f"again-{reply.user_id}")
    again = await edge.rate(reply, rating_overall=4, request_id=f"again-{reply.user_id}")
    assert (first.replayed, again.replayed) == (False, True)
    assert again.feedback == first.feedback
    other = await refused(edge.rate(reply, rating_overall=1, request_id=f"again-{reply.user_id}"))
    assert (other.code, other.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_ten_are_taken_in_a_minute_and_repetitions_do_not_count(edge: Edge) -> None:
    replies = [await edge.reply(user_id=f"eager-{edge.address}") for _ in range(11)]
    for number, reply in enumerate(replies[:10]):
        for _ in range(2):
            await edge.rate(reply, rating_overall=5, request_id=f"{reply.response_id}-{number}")
    refusal = await refused(edge.rate(replies[10], rating_overall=5))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert 0 < refusal.retry_after <= 60
    assert await edge.pool.fetchval("SELECT count(*) FROM feedback_data WHERE user_id = $1", replies[0].user_id) == 10
    await edge.rate(await edge.reply(), rating_overall=5)


async def test_the_same_request_fifty_times_at_once_counts_once(edge: Edge) -> None:
    reply, other = await edge.reply(user_id="fast"), await edge.reply(user_id="fast")
    told = await asyncio.gather(
        *(edge.rate(reply, rating_overall=5, request_id=f"fast-{edge.address}") for _ in range(50))
    )
    assert sorted(each.replayed for each in told) == [False] + [True] * 49
    assert {each.feedback[0].feedback_id for each in told} == {told[0].feedback[0].feedback_id}
    for number in range(9):
        await edge.rate(other, text_feedback=f"{number}")
    assert (await refused(edge.rate(other, text_feedback="one too many"))).reason == "RATE_LIMITED"
    revisions = "SELECT count(*) FROM feedback_revisions WHERE feedback_id = $1"
    assert await edge.pool.fetchval(revisions, told[0].feedback[0].feedback_id) == 1


async def test_of_anonymous_replies_each_has_its_own_limit(edge: Edge) -> None:
    reply, other = await edge.reply(user_id=""), await edge.reply(user_id="")
    for number in range(10):
        await edge.rate(reply, text_feedback=f"{number}")
    assert (await refused(edge.rate(reply, text_feedback="more"))).reason == "RATE_LIMITED"
    assert (await edge.rate(other, text_feedback="fine")).feedback[0].user_id == ""


async def test_someone_elses_reply_and_one_that_never_was_are_refused_in_the_same_words(edge: Edge) -> None:
    reply = await edge.reply()
    edge.callers.callers["elsewhere"] = Caller("elsewhere", frozenset({Role.CALLER}))
    refusals = [
        await refused(edge.rate(reply, user_id="mallory", rating_overall=1)),
        await refused(edge.rate(reply, user_id="", rating_overall=1)),
        await refused(edge.rate(reply, key="elsewhere", rating_overall=1)),
        await refused(edge.rate(reply, response_id=str(uuid4()), rating_overall=1)),
        await refused(edge.prefer(reply, 0, 1, user_id="mallory")),
    ]
    assert {(each.code, each.reason, each.text) for each in refusals} == {
        (grpc.StatusCode.NOT_FOUND, "RESPONSE_NOT_FOUND", "No such reply was given to this user.")
    }
    assert await edge.pool.fetchval("SELECT count(*) FROM feedback_data WHERE response_id = $1", reply.response_id) == 0


async def test_a_key_of_one_user_speaks_for_nobody_else(edge: Edge) -> None:
    reply, other = await edge.reply(user_id="ann"), await edge.reply(user_id="bob")
    edge.callers.callers["ann"] = Caller("default", frozenset({Role.RATER}), user_id="ann")
    given = await edge.rate(reply, key="ann", rating_overall=5)
    calls = [
        edge.rate(other, key="ann", rating_overall=1),
        edge.stub.SubmitPreference(
            pb.SubmitPreferenceRequest(response_id=str(other.response_id), user_id="bob"), metadata=being("ann")
        ),
        edge.stub.WithdrawFeedback(
            pb.WithdrawFeedbackRequest(feedback_id=given.feedback[0].feedback_id), metadata=being("ann")
        ),
        edge.stub.ListFeedback(pb.ListFeedbackRequest(user_id="bob"), metadata=being("ann")),
    ]
    for call in calls:
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    await edge.rate(other, rating_overall=2)
    listed = await edge.stub.ListFeedback(pb.ListFeedbackRequest(), metadata=being("ann"))
    assert {each.user_id for each in listed.feedback} == {"ann"}, "who does not say whose gets the key's own"


async def test_a_reply_that_is_not_logged_yet_is_rated_by_its_receipt(edge: Edge) -> None:
    reply = await edge.reply(logged=False)
    assert (await refused(edge.rate(reply, rating_overall=5))).reason == "RESPONSE_NOT_FOUND"
    given = await edge.rate(reply, rating_overall=5, receipt=edge.receipts.make(reply))
    assert (given.feedback[0].policy_release, given.feedback[0].arm) == ("policy-000001", "")
    waiting = await refused(edge.prefer(reply, 0, 1, receipt=edge.receipts.make(reply)))
    assert (waiting.code, waiting.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


async def test_after_an_erasure_a_receipt_from_before_opens_nothing_and_leaves_no_trace(edge: Edge) -> None:
    reply = await edge.reply(logged=False)
    receipt, name = edge.receipts.make(reply), f"erased-{uuid4()}"
    assert (await refused(edge.prefer(reply, 0, 1, receipt=receipt))).reason == "STORE_UNAVAILABLE"
    await edge.erase(reply.user_id)
    for call in (
        edge.prefer(reply, 0, 1, receipt=receipt, request_id=name),
        edge.rate(reply, clear=[pb.FEEDBACK_PART_TEXT], receipt=receipt, request_id=name),
        edge.rate(reply, clear=[pb.FEEDBACK_PART_TEXT], receipt=receipt),
        edge.rate(reply, rating_overall=4, receipt=receipt, request_id=name),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "RESPONSE_NOT_FOUND")
    assert await edge.pool.fetchval("SELECT count(*) FROM feedback_requests WHERE request_id = $1", name) == 0
    forged = Receipts([b"x" * 32]).make(reply)
    told = await refused(edge.rate(reply, rating_overall=4, receipt=forged))
    assert told.reason == "RECEIPT_INVALID", "who has no receipt does not learn that there was an erasure"


async def test_what_is_cleared_while_its_user_is_erased_leaves_no_trace(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply, name = await edge.reply(), f"in-flight-{uuid4()}"
    enter = RedisWindow.enter

    async def erased_meanwhile(window: RedisWindow, *arguments: Any) -> float:
        await edge.erase(reply.user_id)
        return await enter(window, *arguments)

    monkeypatch.setattr(RedisWindow, "enter", erased_meanwhile)
    await edge.rate(reply, clear=[pb.FEEDBACK_PART_TEXT], request_id=name)
    assert await edge.pool.fetchval("SELECT count(*) FROM feedback_requests WHERE request_id = $1", name) == 0


async def test_keys_of_two_users_may_use_the_same_request_id(edge: Edge) -> None:
    name = f"same-{uuid4()}"
    replies = [await edge.reply(), await edge.reply()]
    for stars, reply in enumerate(replies, 1):
        edge.callers.callers[reply.user_id] = Caller("default", frozenset({Role.RATER}), user_id=reply.user_id)
        given = await edge.rate(reply, key=reply.user_id, rating_overall=stars, request_id=name)
        assert (given.replayed, given.feedback[0].rating_overall) == (False, stars)


async def test_a_receipt_that_is_not_of_this_reply_is_refused_though_the_reply_is_known(edge: Edge) -> None:
    reply, other = await edge.reply(), await edge.reply()
    receipt = edge.receipts.make(reply)
    flipped = receipt[:20] + ("A" if receipt[20] != "A" else "B") + receipt[21:]
    forged = Receipts([b"x" * 32]).make(reply)
    for bad in (flipped, receipt[:-1], forged, edge.receipts.make(other), "."):
        refusal = await refused(edge.rate(reply, rating_overall=5, receipt=bad))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RECEIPT_INVALID")
    stolen = await refused(edge.rate(reply, user_id="mallory", rating_overall=1, receipt=receipt))
    assert stolen.reason == "RECEIPT_INVALID"
    assert not (await edge.rate(reply, rating_overall=5, receipt=receipt)).replayed


async def test_after_the_horizon_feedback_is_too_late_by_log_and_by_receipt(edge: Edge) -> None:
    late, fine = await edge.reply(age=HORIZON + 60), await edge.reply(age=HORIZON - 60)
    spooled = await edge.reply(age=HORIZON + 60, logged=False)
    for call in (
        edge.rate(late, rating_overall=1),
        edge.rate(spooled, rating_overall=1, receipt=edge.receipts.make(spooled)),
        edge.prefer(late, 0, 1),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FEEDBACK_TOO_LATE")
    assert (await edge.rate(fine, rating_overall=1)).feedback


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, ""),
        ({"text_feedback": " \n "}, "text_feedback"),
        ({"rating_overall": 0}, "rating_overall"),
        ({"rating_overall": 6}, "rating_overall"),
        ({"rating_dimensions": pb.RatingDimensions(safety=9)}, "rating_dimensions.safety"),
        ({"reaction_type": 99}, "reaction_type"),
        ({"text_feedback": "ữ" * 2731}, "text_feedback"),
        ({"text_feedback": "a\0"}, "text_feedback"),
        ({"safety_report": pb.SafetyReport(detail="x" * 8193)}, "safety_report.detail"),
        ({"safety_report": pb.SafetyReport(category=77)}, "safety_report.category"),  # type: ignore[arg-type]
        ({"rating_overall": 3, "response_id": "42"}, "response_id"),
        ({"rating_overall": 3, "response_id": ""}, "response_id"),
        ({"rating_overall": 3, "user_id": "a\nb"}, "user_id"),
        ({"rating_overall": 3, "request_id": "r" * 129}, "request_id"),
        ({"rating_overall": 3, "receipt": "x y"}, "receipt"),
        ({"rating_overall": 3, "receipt": "x" * 2049}, "receipt"),
        ({"clear": [pb.FEEDBACK_PART_TEXT, pb.FEEDBACK_PART_TEXT]}, "clear"),
        ({"clear": [0]}, "clear[0]"),
    ],
)
async def test_what_can_not_be_taken_is_refused_by_its_field(edge: Edge, fields: dict[str, Any], field: str) -> None:
    refusal = await refused(edge.rate(GivenReply("", uuid4(), "ann", "", datetime.now(UTC), "", ""), **fields))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == [field]


async def test_the_longest_comment_is_taken(edge: Edge) -> None:
    text = "ữ" * 2730
    assert (await edge.rate(await edge.reply(), text_feedback=text)).feedback[0].text_feedback == text


async def test_clearing_edits_and_clearing_all_withdraws(edge: Edge) -> None:
    reply = await edge.reply()
    assert (await edge.rate(reply, clear=[pb.FEEDBACK_PART_TEXT])) == pb.SubmitFeedbackResponse(replayed=True)
    await edge.rate(reply, rating_overall=5, text_feedback="Good.")
    edited = (await edge.rate(reply, clear=[pb.FEEDBACK_PART_RATING_OVERALL])).feedback[0]
    assert not edited.HasField("rating_overall")
    assert (await edge.rate(reply, clear=[pb.FEEDBACK_PART_TEXT])).feedback[0].withdrawn


async def test_one_candidate_is_preferred_to_another_and_the_mind_may_change(edge: Edge) -> None:
    reply = await edge.reply(a_candidate(0, "One."), a_candidate(1, "Other."), a_candidate(2, "Third."))
    given = (await edge.prefer(reply, 2, 0, text_feedback="Shorter.")).feedback
    assert (given.kind, given.preference) == (
        pb.FEEDBACK_KIND_PREFERENCE,
        pb.Preference(chosen_index=2, rejected_index=0),
    )
    changed = await edge.prefer(reply, 0, 1)
    assert (changed.feedback.feedback_id, changed.feedback.revision) == (given.feedback_id, 2)
    assert changed.feedback.preference == pb.Preference(chosen_index=0, rejected_index=1)
    assert (await edge.prefer(reply, 0, 1)).replayed


async def test_a_repeated_preference_that_was_erased_since_is_not_found(edge: Edge) -> None:
    reply = await edge.reply(a_candidate(0, "One."), a_candidate(1, "Other."))
    await edge.prefer(reply, 0, 1, request_id=f"erased-{reply.user_id}")
    await edge.pool.execute("DELETE FROM feedback_data WHERE response_id = $1", reply.response_id)
    refusal = await refused(edge.prefer(reply, 0, 1, request_id=f"erased-{reply.user_id}"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "FEEDBACK_NOT_FOUND")


@pytest.mark.parametrize(
    ("chosen", "rejected", "fields"),
    [
        (0, 9, ["rejected_index"]),
        (9, 8, ["chosen_index", "rejected_index"]),
        (1, 0, ["chosen_index"]),
        (0, 0, ["rejected_index"]),
        (0, 2, ["rejected_index"]),
        (-1, 0, ["chosen_index"]),
        (0, 256, ["rejected_index"]),
    ],
)
async def test_a_preference_is_between_two_different_texts(
    edge: Edge, chosen: int, rejected: int, fields: list[str]
) -> None:
    reply = await edge.reply(a_candidate(0, "Same."), a_candidate(1, error="late"), a_candidate(2, "Same."))
    refusal = await refused(edge.prefer(reply, chosen, rejected))
    assert (refusal.reason, refusal.fields) == ("INVALID_FIELD", fields)


async def test_a_feedback_is_withdrawn_once_and_only_by_its_user(edge: Edge) -> None:
    reply = await edge.reply()
    given = (await edge.rate(reply, rating_overall=1)).feedback[0]

    async def withdraw(user: str, feedback_id: str) -> pb.Feedback:
        request = pb.WithdrawFeedbackRequest(feedback_id=feedback_id, user_id=user)
        answer = await edge.stub.WithdrawFeedback(request)
        found: pb.Feedback = answer.feedback
        return found

    for user, feedback_id in (("mallory", given.feedback_id), (reply.user_id, str(uuid4()))):
        refusal = await refused(withdraw(user, feedback_id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "FEEDBACK_NOT_FOUND")
    assert (await refused(withdraw(reply.user_id, "42"))).fields == ["feedback_id"]
    first, second = await withdraw(reply.user_id, given.feedback_id), await withdraw(reply.user_id, given.feedback_id)
    assert (first.withdrawn, first.revision) == (True, 2)
    assert second == first


async def test_pages_follow_each_other_and_a_token_belongs_to_its_listing(edge: Edge) -> None:
    replies = [await edge.reply(user_id=f"pages-{edge.address}") for _ in range(5)]
    ids = [(await edge.rate(each, rating_overall=3)).feedback[0].feedback_id for each in replies]

    async def page(**fields: Any) -> pb.ListFeedbackResponse:
        request = pb.ListFeedbackRequest(**{"user_id": replies[0].user_id, "page_size": 2, **fields})
        answer: pb.ListFeedbackResponse = await edge.stub.ListFeedback(request)
        return answer

    found, token, tokens = [], "", []
    while True:
        answer = await page(page_token=token)
        found += [each.feedback_id for each in answer.feedback]
        tokens.append(token := answer.next_page_token)
        if not token:
            break
    assert found == ids[::-1]
    assert len(tokens) == 3
    for fields in ({"page_token": tokens[0], "include_withdrawn": True}, {"page_token": "nonsense"}):
        assert (await refused(page(**fields))).fields == ["page_token"]
    assert (await refused(page(page_size=1001))).fields == ["page_size"]
    bad = pb.ListFeedbackRequest()
    bad.from_time.seconds = 1 << 50
    assert (await refused(edge.stub.ListFeedback(bad))).fields == ["from_time"]


async def test_a_store_that_is_away_or_late_is_told_so(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = await edge.reply()

    async def away(*_: object) -> None:
        raise StoreUnavailable("The store of feedback did not answer.")

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    calls: dict[str, Callable[..., Any]] = {
        "look": lambda **how: edge.stub.SubmitFeedback(
            pb.SubmitFeedbackRequest(response_id=str(reply.response_id), rating_overall=3), **how
        ),
        "withdraw": lambda **how: edge.stub.WithdrawFeedback(
            pb.WithdrawFeedbackRequest(feedback_id=str(uuid4())), **how
        ),
    }
    for name, call in calls.items():
        monkeypatch.setattr(edge.store.__class__, name, away)
        refusal = await refused(call())
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        monkeypatch.setattr(edge.store.__class__, name, hang)
        assert (await refused(call(timeout=0.3))).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_rating_teaches_its_users_profile_and_a_withdrawal_undoes_it(edge: Edge) -> None:
    reply, other = await edge.reply(query="Where is my parcel?"), await edge.reply(query="Where is my parcel?")
    likes = (await edge.rate(reply, rating_overall=5)).feedback[0]
    await edge.rate(other, reaction_type=pb.REACTION_TYPE_THUMBS_DOWN)
    await edge.learner.stop()
    liking, disliking = (edge.profiles.means["default", each.user_id] for each in (reply, other))
    assert [-each for each in liking] == pytest.approx(disliking)
    edge.learner.start()
    request = pb.WithdrawFeedbackRequest(feedback_id=likes.feedback_id, user_id=reply.user_id)
    await edge.stub.WithdrawFeedback(request)
    await edge.learner.stop()
    assert edge.profiles.means["default", reply.user_id] == pytest.approx([0.0] * HashingEmbedder.dimension)


async def test_metrics_count_what_was_given_by_release(edge: Edge) -> None:
    def count(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"policy_release": "policy-000001", **labels}) or 0.0

    def counted() -> list[float]:
        of_ratings = [
            count("ratchet_feedback_total", kind="rating", outcome=outcome)
            for outcome in ("given", "edited", "withdrawn", "unchanged")
        ]
        return [*of_ratings, count("ratchet_feedback_rating_sum"), count("ratchet_safety_reports_total")]

    before, reply = counted(), await edge.reply()
    await edge.rate(reply, rating_overall=2, safety_report=pb.SafetyReport())
    await edge.rate(reply, rating_overall=5)
    await edge.rate(reply, rating_overall=5)
    await edge.rate(reply, clear=[pb.FEEDBACK_PART_RATING_OVERALL])
    assert [after - old for after, old in zip(counted(), before, strict=True)] == [1, 1, 1, 1, 7, 1]


async def test_the_commands_give_withdraw_and_list(edge: Edge) -> None:
    reply = await edge.reply(a_candidate(0, "One."), a_candidate(1, "Other."))
    who = ["--user", reply.user_id]
    done = await edge.command(
        *("submit", str(reply.response_id), "--up", "--stars", "4", "--accuracy", "5", "--comment", "Tốt [red]"),
        *("--report", "other", "--detail", "Hm.", *who, "--json"),
    )
    assert done.exit_code == 0, done.output
    rating, report = json.loads(done.output)["feedback"]
    assert (rating["rating_overall"], rating["rating_dimensions"], rating["text_feedback"]) == (
        4,
        {"accuracy": 5},
        "Tốt [red]",
    )
    assert report["safety_category"] == "SAFETY_CATEGORY_OTHER"
    preferred = await edge.command("prefer", str(reply.response_id), "1", "0", *who)
    assert "1 over 0" in preferred.output
    again = await edge.command("submit", str(reply.response_id), "--stars", "4", *who)
    assert "Nothing changed" in again.output
    withdrawn = await edge.command("withdraw", rating["feedback_id"], *who)
    assert "withdrawn" in withdrawn.output
    listed = await edge.command("list", *who, "--response", str(reply.response_id))
    assert "other" in listed.output
    assert "Tốt [red]" not in listed.output
    everything = await edge.command("list", *who, "--withdrawn", "--limit", "2", "--json")
    assert len(json.loads(everything.output)["feedback"]) == 2
    assert "Tốt [red]" in (await edge.command("list", *who, "--withdrawn", "--kind", "rating")).output
    assert "no such feedback" in (await edge.command("list", "--user", str(uuid4()))).output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["submit", "42", "--up"], "response_id"),
        (["submit", str(uuid4())], "must hold a rating"),
        (["submit", str(uuid4()), "--stars", "9"], "--stars"),
        (["submit", str(uuid4()), "--up", "--detail", "x"], "--detail belongs to --report"),
        (["submit", str(uuid4()), "--up"], "RESPONSE_NOT_FOUND"),
        (["submit", str(uuid4()), "--comment", "\udcff"], "surrogates"),
        (["prefer", str(uuid4()), "0", "x"], "not a valid integer"),
        (["withdraw", str(uuid4())], "FEEDBACK_NOT_FOUND"),
    ],
)
async def test_the_command_says_in_a_sentence_what_is_wrong(edge: Edge, arguments: list[str], sentence: str) -> None:
    done = await edge.command(*arguments)
    assert done.exit_code != 0
    assert "Traceback" not in done.output
    assert sentence in " ".join(done.output.split())
