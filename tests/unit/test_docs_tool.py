"""The docs tool with a store in this process: what is searched, in which order it comes, what is left out."""

import asyncio
import uuid
from collections.abc import Sequence

import pytest

from server.documents.digests import MOST_TENANTS, Digests
from server.documents.vocabulary import Vocabulary
from server.errors import BackendTimeout, StoreUnavailable
from server.storage.passages import Found, Search
from server.tools.docs import UNKNOWN, DocsTool, chosen, trust
from server.tools.tool import Question, ToolFailed
from server.types import Exchange, Profile

MODEL = "some-model"


class Embedding:
    """`server.backends.embedding.Embedder` that keeps what it is asked for; it fails when told to."""

    model, dimension = MODEL, 2

    def __init__(self) -> None:
        self.texts, self.fails = list[str](), False

    async def embed(self, texts: Sequence[str], timeout: float) -> list[tuple[float, ...]]:
        if self.fails:
            raise BackendTimeout("late")
        self.texts += texts
        return [(0.6, 0.8) for _ in texts]


EMBEDDER = Embedding()
VOCABULARY = Vocabulary(3, 1000, {"refund": 10, "warranty": 10})


class Shelf:
    """`server.storage.passages.Passages` that gives what it is told to."""

    def __init__(self, *found: Found) -> None:
        self.found, self.searches, self.loads = list(found), list[Search](), 0
        self.current = VOCABULARY
        self.failures: list[Exception] = []

    async def search(self, search: Search, vocabulary: Vocabulary) -> list[Found]:
        self.searches.append(search)
        return self.found

    async def vocabulary(self, tenant: str) -> Vocabulary:
        if self.failures:
            raise self.failures.pop(0)
        self.loads += 1
        return self.current

    async def versions(self, tenants: Sequence[str]) -> dict[str, int]:
        return dict.fromkeys(tenants, self.current.version)


def found(number: int, *, score: float = 1.0, fused: float = 0.03, preference: float = 0.0, text: str = "") -> Found:
    return Found(uuid.UUID(int=1), number, "Title", text or f"text {number}", "uri", fused, score, preference)


def asked(query: str = "When is my refund?", **more: object) -> Question:
    return Question("default", "user", query, **more)  # type: ignore[arg-type]


async def test_passages_that_are_hardly_relevant_are_no_evidence() -> None:
    tool = DocsTool(Shelf(found(1, score=0.3), found(2, score=0.1)), EMBEDDER, most=3, least=0.25)
    evidence = await tool.run(asked())
    assert [(one.tool, one.source, one.score) for one in evidence] == [("docs", f"{uuid.UUID(int=1)}#1", 0.3)]


async def test_a_passage_that_is_there_twice_is_given_once_and_no_more_than_wanted() -> None:
    tool = DocsTool(Shelf(found(1, text="same"), found(2, text="same"), *map(found, range(3, 9))), EMBEDDER, most=3)
    assert [one.text for one in await tool.run(asked())] == ["same", "text 3", "text 4"]


async def test_without_an_embedding_words_alone_are_searched() -> None:
    shelf = Shelf()
    await DocsTool(shelf, EMBEDDER).run(asked())
    assert not shelf.searches[0].vector
    assert [term.plain for term in shelf.searches[0].terms][-1] == "refund"


async def test_a_preference_of_another_embedding_model_is_left_out() -> None:
    shelf = Shelf()
    for model in (MODEL, "another"):
        profile = Profile("default", "user", preference=(1.0, 0.0), weight=5.0, model=model)
        await DocsTool(shelf, EMBEDDER).run(asked(profile=profile, embedding=(0.0, 1.0)))
    assert [tuple(search.preference) for search in shelf.searches] == [(1.0, 0.0), ()]


async def test_a_store_that_is_away_is_a_tool_that_failed() -> None:
    shelf = Shelf()
    shelf.failures.append(StoreUnavailable("The documents can't be reached."))
    with pytest.raises(ToolFailed, match="can't be reached"):
        await DocsTool(shelf, EMBEDDER).run(asked())


async def test_relevance_is_the_share_of_telling_words_once_the_vocabulary_is_known() -> None:
    tool = DocsTool(Shelf(), EMBEDDER)
    assert tool.relevance(asked()) == UNKNOWN
    await tool.run(asked())
    assert tool.relevance(asked("refund warranty")) == pytest.approx(1.0)
    assert tool.relevance(asked("When is my refund?")) > 0.7
    assert tool.relevance(asked("Who painted the Mona Lisa?")) < 0.1
    assert tool.relevance(asked("")) == 0.0


async def test_a_vocabulary_is_read_again_when_documents_have_changed_and_only_then() -> None:
    shelf = Shelf()
    digests = Digests(shelf, every=0.001)
    digests.start()
    first = await digests.of("default")
    await asyncio.sleep(0.02)
    assert (first.version, shelf.loads) == (3, 1)
    shelf.current = Vocabulary(4)
    while digests.known("default") is first:  # the test's own time limit ends it
        await asyncio.sleep(0.001)
    assert shelf.loads == 2
    await digests.close()


async def test_digests_survive_a_store_that_is_away() -> None:
    shelf = Shelf()
    shelf.failures = [StoreUnavailable("away"), RuntimeError("a defect")]
    digests = Digests(shelf, every=0.001)
    digests.start()
    while digests.known("default") is None:
        await asyncio.sleep(0.001)
    assert not shelf.failures
    await digests.close()


async def test_the_tenants_that_asked_last_keep_their_vocabulary() -> None:
    shelf = Shelf()
    digests = Digests(shelf)
    for number in range(MOST_TENANTS + 1):
        await digests.of(f"tenant {number}")
        await digests.of("tenant 1")
    assert shelf.loads == MOST_TENANTS + 1
    await digests.of("tenant 1")
    assert shelf.loads == MOST_TENANTS + 1
    await digests.of("tenant 0")
    assert shelf.loads == MOST_TENANTS + 2


@pytest.mark.parametrize(
    ("earlier", "query"),
    [("Where is my warranty card?", "And how long does it take?"), ("Xin bảo hành ở đâu?", "Vậy thì mất bao lâu?")],
)
async def test_a_follow_up_is_searched_and_routed_with_what_it_follows(earlier: str, query: str) -> None:
    """By its words and by a vector of both; while the embedding is away, by words alone."""
    shelf, embedding = Shelf(), Embedding()
    rare = dict.fromkeys(["warranty", "card", "bao", "=bảo", "hanh", "=hành"], 5)
    common = dict.fromkeys(["long", "mat", "=mất", "lau", "=lâu"], 500)
    shelf.current = Vocabulary(1, 1000, rare | common)
    tool = DocsTool(shelf, embedding)
    before = asked(query, exchanges=(Exchange(earlier, "an answer"),), embedding=(1.0, 0.0))
    await tool.run(before)
    embedding.fails = True
    await tool.run(before)
    await tool.run(asked(query, embedding=(1.0, 0.0)))
    assert embedding.texts == [f"{earlier}\n{query}"]
    assert [tuple(search.vector) for search in shelf.searches] == [(0.6, 0.8), (), (1.0, 0.0)]
    assert {"warranty", "hanh"} & {term.plain for term in shelf.searches[1].terms}
    assert not {"warranty", "hanh"} & {term.plain for term in shelf.searches[2].terms}
    off_topic = asked(query, exchanges=(Exchange("Who painted the Mona Lisa?", "an answer"),))
    assert tool.relevance(before) > 0.4 > tool.relevance(off_topic)


async def test_the_most_relevant_passage_comes_first_as_prompts_are_cut_from_their_end() -> None:
    shelf = Shelf(
        found(1, score=0.43, fused=0.033), found(2, score=0.91, fused=0.032), found(3, score=0.40, fused=0.031)
    )
    assert [one.score for one in await DocsTool(shelf, EMBEDDER).run(asked())] == [0.91, 0.43, 0.40]


def test_passages_about_as_relevant_stay_in_the_order_of_both_lists() -> None:
    near = [found(1, score=0.7, fused=0.033), found(2, score=0.9, fused=0.032), found(3, score=0.8, fused=0.031)]
    assert [each.number for each in chosen(near, 3, 1.0)] == [1, 2, 3]
    assert [each.number for each in chosen(near, 2, 0.0)] == [1, 2]


def test_a_preference_decides_among_passages_that_are_about_equally_relevant() -> None:
    one, two, far = found(1, fused=0.032, preference=-0.5), found(2, fused=0.031, preference=0.5), found(3, score=0.2)
    assert [each.number for each in chosen([one, two, far], 3, 0.8)] == [2, 1, 3]
    assert [each.number for each in chosen([one, two, far], 3, 0.0)] == [1, 2, 3]


def test_a_preference_never_lifts_a_passage_that_is_much_less_relevant() -> None:
    best, liked = found(1, score=0.9, preference=-1.0), found(2, score=0.3, fused=0.02, preference=1.0)
    assert [each.number for each in chosen([best, liked], 3, 1.0)] == [1, 2]
    assert chosen([], 3, 1.0) == []


def test_trust_grows_with_what_was_learned() -> None:
    weights = [trust(Profile("t", "u", weight=weight)) for weight in (0.0, 1.0, 3.0, 100.0)]
    assert weights == sorted(weights)
    assert weights[0] == trust(None) == 0.0
    assert weights[2] == 0.5
    assert weights[3] < 1.0
