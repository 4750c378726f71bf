"""The log for people, on a real Postgres and over gRPC."""

import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.v1 import conversation_pb2 as pb
from ratchet.v1 import feedback_pb2
from server import identity
from server.errors import InvalidRequest, PermissionDenied, ResponseNotFound
from server.identity import Caller, Role
from server.rpc.conversations import ConversationService
from server.rpc.messages import Defaults, response_of
from server.storage.conversations import Conversations
from server.types import Choice, Degradation, DegradationReason, Evidence, SelectionMethod, ToolOutcome, ToolRun
from tests.logged import NOW, entry_at, give_feedback, log
from tests.turns import a_candidate

MINUTE = timedelta(minutes=1)


class Call:
    """Stands for grpc's context of a call."""

    def time_remaining(self) -> float | None:
        return 20.0


class Book:
    """A tenant's log, and the service on it as the tenant's caller sees it."""

    def __init__(self, pool: asyncpg.Pool, tenant: str) -> None:
        self.pool, self.tenant = pool, tenant
        self.service = ConversationService(Conversations(pool), Defaults())

    async def write(self, **changes: Any) -> str:
        """One reply; `at` is minutes after NOW."""
        moment = NOW + changes.pop("at", 0) * MINUTE
        changes.setdefault("number", uuid.uuid4().int % 2**60)
        (made,) = await log(self.pool, entry_at(moment, tenant_id=self.tenant, **changes))
        return str(made)

    async def rate(self, response_id: str, **says: Any) -> None:
        await give_feedback(self.pool, self.tenant, uuid.UUID(response_id), **says)

    async def page(self, service: ConversationService | None = None, **asked: Any) -> pb.ListConversationsResponse:
        identity.enter(Caller(self.tenant, frozenset(Role)))
        request = pb.ListConversationsRequest(**asked)
        return await (service or self.service).ListConversations(request, Call())

    async def ids(self, **asked: Any) -> list[str]:
        """The ids of the first page."""
        return [each.response_id for each in (await self.page(**asked)).summaries]

    async def walk(self, service: ConversationService | None = None, **asked: Any) -> list[str]:
        """The ids of all pages, in their order."""
        found, token = [], ""
        while True:
            page = await self.page(service, page_token=token, **asked)
            found += [each.response_id for each in page.summaries]
            found += [each.reply.response_id for each in page.conversations]
            token = page.next_page_token
            if not token:
                return found

    async def get(self, response_id: str) -> pb.Conversation:
        identity.enter(Caller(self.tenant, frozenset(Role)))
        request = pb.GetConversationRequest(response_id=response_id)
        return (await self.service.GetConversation(request, Call())).conversation


@pytest.fixture
def book(pool: asyncpg.Pool) -> Book:
    return Book(pool, f"tenant-{uuid.uuid4()}")


async def test_pages_hold_every_reply_once_newest_first(book: Book) -> None:
    written = [await book.write(at=minute) for minute in range(7)]
    for size in (1, 2, 3, 7, 8, 1000):
        assert await book.walk(page_size=size) == written[::-1]


async def test_rows_that_come_while_someone_pages_change_no_later_page(book: Book) -> None:
    written = [await book.write(at=minute) for minute in range(6)]
    page = await book.page(page_size=2)
    await book.write(at=60)
    rest = await book.page(page_size=4, page_token=page.next_page_token)
    assert [each.response_id for each in rest.summaries] == written[3::-1]
    assert not rest.next_page_token


async def test_an_empty_log_is_an_empty_page(book: Book) -> None:
    page = await book.page()
    assert (len(page.summaries), page.next_page_token, page.HasField("searched_from")) == (0, "", False)


@pytest.mark.parametrize(
    ("query", "answer", "asked"),
    [
        ("Đổi trả thế nào?", "Trong 30 ngày.", "ĐỔI TRẢ"),
        ("Đổi trả thế nào?", "Trong 30 ngày.", "ngày thế"),
        ("Vie\u0323\u0302t Nam", "r", "Vi\u1ec7t"),
        ("Vi\u1ec7t Nam", "r", "Vie\u0323\u0302t"),
        ("VIỆT NAM", "r", "vie\u0323\u0302t nam"),
        ("100% sure_thing", "r", "100% e_t"),
        ("back\\slash", "r", "k\\s"),
        ("a 'quoted' \"word\"", "r", "'quoted'"),
        ("warranty", "Two years", "years WARRANTY"),
        ("x", "🎉 party", "🎉"),
    ],
)
async def test_words_are_found_in_any_case_and_composition(book: Book, query: str, answer: str, asked: str) -> None:
    wanted = await book.write(query=query, text=answer)
    await book.write(query="something else", text="entirely")
    window = {"from_time": NOW - MINUTE}
    assert await book.ids(text=asked, **window) == [wanted]


@pytest.mark.parametrize("asked", ["%", "_", "10_%", "wart", "warranty absent", "warranty\u00a0absent", "doi"])
async def test_wildcards_are_plain_letters_and_every_word_must_be_there(book: Book, asked: str) -> None:
    await book.write(query="warranty đổi", text="100 sure")
    assert await book.ids(text=asked, from_time=NOW - MINUTE) == []


async def test_text_without_a_time_searches_thirty_days_and_the_pages_after_keep_the_window(book: Book) -> None:
    old, new = await book.write(at=0, query="warranty"), await book.write(at=60 * 24 * 29, query="warranty")
    until = NOW + timedelta(days=30, hours=1)
    page = await book.page(text="warranty", until_time=until)
    assert [each.response_id for each in page.summaries] == [new]
    assert page.searched_from.ToDatetime() == (until - timedelta(days=30)).replace(tzinfo=None)
    assert await book.ids(text="warranty", from_time=NOW, until_time=until) == [new, old]
    with_old = NOW + timedelta(days=30) - MINUTE
    assert await book.walk(text="warranty", until_time=with_old, page_size=1) == [new, old]


async def test_each_filter_finds_what_it_names(book: Book) -> None:
    reason = Degradation(DegradationReason.TOOL_UNAVAILABLE, "The tool was late.")
    sampled = Choice(0, SelectionMethod.WEIGHTED, (1.0, 0.0), explored=True)
    plain = await book.write(score=0.4)
    ids = {
        "user": await book.write(user_id="bob", session_id="b1"),
        "anonymous": await book.write(user_id="", session_id=""),
        "high": await book.write(score=0.9),
        "unscored": await book.write(score=None, reward_release=""),
        "release": await book.write(policy_release="policy-000002"),
        "reward": await book.write(reward_release="reward-000007"),
        "degraded": await book.write(degradations=(reason,)),
        "regenerated": await book.write(regenerated=True),
        "explored": await book.write(choice=sampled),
        "refused": await book.write(choice=Choice(None, SelectionMethod.BEST, (0.0, 0.0))),
    }
    flag = pb.ConversationFlag.Value
    assert await book.ids(user_id="bob") == [ids["user"]]
    assert await book.ids(user_id="bob", session_id="b1") == [ids["user"]]
    assert await book.ids(session_id="b1") == [ids["user"]]
    assert await book.ids(user_id="ann", session_id="b1") == []
    assert await book.ids(user_id="") == [ids["anonymous"]]
    assert await book.ids(minimum_reward=0.9) == [ids["high"]]
    assert await book.ids(maximum_reward=0.4) == [plain]
    assert await book.ids(release="policy-000002") == [ids["release"]]
    assert await book.ids(release="reward-000007") == [ids["reward"]]
    for name in ("degraded", "regenerated", "explored", "refused"):
        assert await book.ids(flags=[flag(f"CONVERSATION_FLAG_{name.upper()}")]) == [ids[name]], name
    assert len(await book.ids()) == 11


async def test_replies_are_found_by_their_feedback_and_withdrawn_feedback_is_none(book: Book) -> None:
    ids = [await book.write(at=minute) for minute in range(6)]
    await book.rate(ids[0], rating_overall=2, reaction_type="thumbs_down", text_feedback="Sai rồi")
    await book.rate(ids[1], rating_overall=5)
    await book.rate(ids[2], kind="safety_report", safety_category="toxic", text_feedback="rude")
    await book.rate(ids[3], rating_overall=1, withdrawn=True)
    await book.rate(ids[4], kind="preference", chosen_index=1, rejected_index=0)
    reported = [pb.CONVERSATION_FLAG_SAFETY_REPORTED]
    assert await book.ids(maximum_rating=2) == [ids[0]]
    assert await book.ids(minimum_rating=2) == [ids[1], ids[0]]
    assert await book.ids(minimum_rating=3, maximum_rating=4) == []
    assert await book.ids(reaction_type=feedback_pb2.REACTION_TYPE_THUMBS_DOWN) == [ids[0]]
    assert await book.ids(flags=reported) == [ids[2]]
    assert await book.ids(flags=[pb.CONVERSATION_FLAG_COMMENTED]) == [ids[0]]
    assert await book.ids(flags=[pb.CONVERSATION_FLAG_HAS_FEEDBACK]) == [ids[4], ids[2], ids[1], ids[0]]
    assert await book.ids(flags=reported, maximum_rating=2) == []
    shown = (await book.page(maximum_rating=2)).summaries[0]
    assert (shown.rating_overall, shown.reaction_type) == (2, feedback_pb2.REACTION_TYPE_THUMBS_DOWN)
    flags = [pb.CONVERSATION_FLAG_HAS_FEEDBACK, pb.CONVERSATION_FLAG_COMMENTED]
    assert list(shown.flags) == flags
    assert not (await book.page()).summaries[0].HasField("rating_overall")


async def test_times_are_those_of_the_replies_to_the_edge(book: Book) -> None:
    ids = [await book.write(at=minute) for minute in range(4)]
    made = [(NOW + minute * MINUTE + timedelta(seconds=1)) for minute in range(4)]
    assert await book.ids(from_time=made[1], until_time=made[3]) == [ids[2], ids[1]]
    assert await book.ids(from_time=made[3] + timedelta(microseconds=1)) == []
    assert await book.ids(until_time=made[0]) == []


async def test_a_search_that_takes_long_ends_its_page_early_and_goes_on_in_the_next(book: Book) -> None:
    """Whatever the sizes of slices and pages are, what is rare is found, once."""
    wanted = await book.write(at=0, query="rare")
    for minute in range(1, 12):
        await book.write(at=minute)
    hasty = ConversationService(Conversations(book.pool, slice_rows=3, searching=0.0), Defaults())
    first = await book.page(hasty, text="rare", from_time=NOW - MINUTE)
    assert (len(first.summaries), bool(first.next_page_token)) == (0, True)
    assert first.searched_from.ToDatetime() == (NOW + 9 * MINUTE).replace(tzinfo=None)
    assert await book.walk(hasty, text="rare", from_time=NOW - MINUTE) == [wanted]
    assert len(await book.walk(hasty, page_size=5)) == 12


async def test_a_token_of_another_listing_is_refused(book: Book, pool: asyncpg.Pool) -> None:
    for minute in range(3):
        await book.write(at=minute, query="warranty")
    token = (await book.page(page_size=1, text="warranty", from_time=NOW - MINUTE)).next_page_token
    for asked in (
        {"text": "warrant", "from_time": NOW - MINUTE},
        {"text": "warranty"},
        {"from_time": NOW - MINUTE},
        {"text": "warranty", "from_time": NOW - MINUTE, "maximum_rating": 2},
        {"text": "warranty", "from_time": NOW - MINUTE, "user_id": ""},
    ):
        with pytest.raises(InvalidRequest) as refused:
            await book.page(page_token=token, **asked)
        assert [each.field for each in refused.value.violations] == ["page_token"]
    with pytest.raises(InvalidRequest):
        await Book(pool, "another").page(page_token=token, text="warranty", from_time=NOW - MINUTE)
    for forged in ("forged", "AAAA", "=", "ä", token[:-2], token[2:], token + "A"):
        with pytest.raises(InvalidRequest):
            await book.page(page_token=forged, text="warranty", from_time=NOW - MINUTE)
    rest = await book.page(page_token=token, text="warranty", from_time=NOW - MINUTE, page_size=50, full=True)
    assert len(rest.conversations) == 2


async def test_of_other_tenants_there_is_nothing(book: Book, pool: asyncpg.Pool) -> None:
    ours, other = await book.write(), Book(pool, f"{book.tenant}-2")
    assert await other.ids() == []
    with pytest.raises(ResponseNotFound):
        await other.get(ours)
    with pytest.raises(ResponseNotFound):
        await book.get(str(uuid.uuid4()))


async def test_a_key_of_one_user_sees_that_users_replies_only(book: Book) -> None:
    mine, theirs = await book.write(user_id="ann"), await book.write(user_id="bob")
    identity.enter(Caller(book.tenant, frozenset(Role), user_id="ann"))
    listed = await book.service.ListConversations(pb.ListConversationsRequest(), Call())
    assert [each.response_id for each in listed.summaries] == [mine]
    with pytest.raises(PermissionDenied):
        await book.service.ListConversations(pb.ListConversationsRequest(user_id="bob"), Call())
    with pytest.raises(ResponseNotFound):
        await book.service.GetConversation(pb.GetConversationRequest(response_id=theirs), Call())
    found = await book.service.GetConversation(pb.GetConversationRequest(response_id=mine), Call())
    assert found.conversation.user_id == "ann"


async def test_the_whole_story_is_the_reply_as_it_was_given_and_what_it_came_from(book: Book) -> None:
    page = Evidence("docs", "doc-1", "Bảo hành", "Hai năm.", "https://shop.example/warranty", 0.9)
    run = ToolRun("docs", ToolOutcome.FOUND, 0.8, 0.01, "1 passage", (page,))
    entry = entry_at(NOW, 77, tenant_id=book.tenant, query="Bảo hành?", context="Khách VIP", tool_runs=(run,))
    await log(book.pool, entry)
    response_id = str(entry.turn.response_id)
    await book.rate(response_id, rating_overall=4, rating_dimensions={"accuracy": 5}, text_feedback="Tốt")
    await book.rate(response_id, kind="safety_report", withdrawn=True, safety_category="other")
    found = await book.get(response_id)
    assert found.reply == response_of(entry.reply)
    assert (found.query, found.context, found.user_id, found.session_id) == ("Bảo hành?", "Khách VIP", "ann", "s1")
    assert [(turn.query, turn.response) for turn in found.previous_messages] == [("Xin chào", "Chào bạn!")]
    assert (found.summary, found.arm, found.arm_share, found.erased, found.problem) == (
        *("Earlier: hours", "champion", 1.0),
        *(False, ""),
    )
    rating, report = found.feedback
    assert (rating.rating_overall, rating.rating_dimensions.accuracy, rating.text_feedback) == (4, 5, "Tốt")
    assert not rating.rating_dimensions.HasField("safety")
    assert report.withdrawn


async def test_a_row_of_a_newer_version_is_listed_and_told_with_a_mark(book: Book) -> None:
    """Neither the page nor the call fails: the plain columns are there, the rest says why it is not."""
    ids = [await book.write(at=minute, query=f"q{minute}") for minute in range(3)]
    await book.pool.execute(
        "UPDATE conversation_logs SET selection_method = 'telepathy' WHERE tenant_id = $1 AND response_id = $2",
        book.tenant,
        uuid.UUID(ids[1]),
    )
    assert await book.ids() == ids[::-1]
    page = await book.page(full=True)
    assert [bool(each.problem) for each in page.conversations] == [False, True, False]
    strange = page.conversations[1]
    assert (strange.query, strange.reply.response_id, strange.reply.response) == ("q1", ids[1], "An answer.")
    assert (await book.get(ids[1])).problem.startswith("A newer Ratchet")


async def test_pages_of_whole_replies_stay_below_the_message_limit_and_lose_nothing(book: Book) -> None:
    """Twelve replies of 1 MiB: several pages, each below 8 MiB, together all of them."""
    heavy = [await book.write(at=minute, context=f"{minute:02d}" + "x" * (1 << 20)) for minute in range(12)]
    sizes, found, token = [], [], ""
    while True:
        page = await book.page(full=True, page_size=1000, page_token=token)
        sizes.append(page.ByteSize())
        found += [each.reply.response_id for each in page.conversations]
        token = page.next_page_token
        if not token:
            break
    assert found == heavy[::-1]
    assert max(sizes) < 8 << 20
    assert len(sizes) < 12


async def test_a_reply_that_no_message_can_hold_is_told_in_part(book: Book) -> None:
    long = tuple(a_candidate(index, "y" * (1 << 20)) for index in range(2))
    huge = await book.write(context="x" * (7 << 20), candidates=long)
    small = await book.write(at=-1)
    page = await book.page(full=True)
    assert [each.reply.response_id for each in page.conversations] == [huge, small]
    assert page.conversations[0].problem.startswith("The reply is too large")
    assert page.ByteSize() < 8 << 20


async def test_impossible_times_are_the_callers_mistake(book: Book) -> None:
    request = pb.ListConversationsRequest()
    request.from_time.seconds = 10**15
    with pytest.raises(InvalidRequest):
        await book.service.ListConversations(request, Call())
    request = pb.ListConversationsRequest(text="x")
    request.until_time.seconds = -62135596800  # the first second of the year 1
    assert not (await book.service.ListConversations(request, Call())).summaries


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40))
async def test_any_text_is_a_question_that_finds_the_reply_which_quotes_it(pool: asyncpg.Pool, asked: str) -> None:
    book = Book(pool, f"tenant-{uuid.uuid4()}")
    wanted = await book.write(query=f"before {asked} after")
    assert await book.ids(text=asked, from_time=NOW - MINUTE) == [wanted]
