"""Documents on a real Postgres, read by the real reading process, through storage, tool, gRPC and the command."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import grpc
import pytest
from click.testing import CliRunner, Result

from cli.main import ratchet
from ratchet.v1 import document_pb2 as pb
from ratchet.v1 import document_pb2_grpc
from server.backends.embedding import HashingEmbedder, hashed
from server.documents import sample
from server.documents.formats import Format
from server.documents.library import Library
from server.documents.reader import Reader, Source
from server.errors import (
    DeadlineExceeded,
    DocumentNotFound,
    DocumentUnreadable,
    Overloaded,
    RequestIdReused,
    StoreUnavailable,
)
from server.rpc.documents import DocumentService, token_of
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.storage import passages as searching
from server.storage.documents import Outcome, PostgresDocuments
from server.storage.passages import PostgresPassages, Search
from server.tools.docs import DocsTool
from server.tools.tool import Question
from server.types import Evidence, Exchange, Profile
from tests.pdfs import pdf
from tests.unit.test_rpc import refused

MODEL = HashingEmbedder.model


@pytest.fixture(scope="module")
async def library(pool: asyncpg.Pool) -> AsyncIterator[Library]:
    found = Library(PostgresDocuments(pool), Reader(), HashingEmbedder())
    await PostgresPassages(pool, MODEL, HashingEmbedder.dimension).prepare()
    yield found
    await found.close()


@pytest.fixture
def tenant() -> str:
    """One of its own for each test."""
    return f"tenant-{uuid.uuid4()}"


def markdown(tenant: str, text: str, uri: str = "page.md") -> Source:
    return Source(tenant, uri, text.encode(), Format.MARKDOWN)


async def found(pool: asyncpg.Pool, tenant: str, query: str, **more: object) -> tuple[Evidence, ...]:
    """What a fresh docs tool answers."""
    tool = DocsTool(PostgresPassages(pool, MODEL, HashingEmbedder.dimension), HashingEmbedder())
    return await tool.run(Question(tenant, "user", query, **{"embedding": hashed(query), **more}))  # type: ignore[arg-type]


# --- the reading process -------------------------------------------------------------------------------------------


async def test_a_hostile_document_is_given_up_and_the_next_one_is_read() -> None:
    reader = Reader(seconds=1.0)
    with pytest.raises(DocumentUnreadable, match="takes more than 1 seconds"):
        await reader.read(markdown("t", "[" * 1_000_000), 60)
    assert len((await reader.read(markdown("t", "# Still\n\nhere"), 60)).passages) == 1
    await reader.close()


async def test_a_caller_who_leaves_takes_the_reading_along() -> None:
    reader = Reader(seconds=60)
    reading = asyncio.create_task(reader.read(markdown("t", "[" * 1_000_000), 60))
    while reader._process is None:
        await asyncio.sleep(0.01)
    process = reader._process
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(DeadlineExceeded):
        await reader.read(markdown("t", "[" * 1_000_000), 0.5)
    await reader.close()


async def test_a_reading_process_that_was_killed_is_started_again() -> None:
    reader = Reader()
    await reader.read(markdown("t", "one"), 60)
    assert reader._process is not None
    os.kill(reader._process.pid, signal.SIGKILL)
    await reader._process.wait()
    assert (await reader.read(markdown("t", "two"), 60)).passages[0].text == "two"
    await reader.close()


async def test_only_so_many_documents_wait_to_be_read() -> None:
    reader = Reader(waiting=2)
    outcomes = await asyncio.gather(
        *(reader.read(markdown("t", f"text {number}"), 60) for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 3
    await reader.close()


async def test_a_document_of_more_text_than_is_kept_is_refused() -> None:
    reader = Reader(seconds=60)
    with pytest.raises(DocumentUnreadable, match="more than 4,000,000 characters"):
        await reader.read(Source("t", "a.txt", b"word " * 1_000_000), 60)
    await reader.close()


# --- storage -------------------------------------------------------------------------------------------------------


async def test_adding_again_replaces_what_changed_and_leaves_what_did_not(library: Library, tenant: str) -> None:
    first, added = await library.add(markdown(tenant, "# Page\n\nold text"), 30)
    same, unchanged = await library.add(markdown(tenant, "# Page\n\nold text"), 30)
    second, replaced = await library.add(markdown(tenant, "# Page\n\n## New\n\ntext\n\n## More\n\ntext"), 30)
    assert (added, unchanged, replaced) == (Outcome.ADDED, Outcome.UNCHANGED, Outcome.REPLACED)
    assert same == first
    assert (second.document_id, second.created_at) == (first.document_id, first.created_at)
    assert (first.passage_count, second.passage_count) == (1, 2)
    assert second.updated_at > first.updated_at


async def test_a_deleted_document_is_gone_and_comes_back_under_its_id(
    library: Library, pool: asyncpg.Pool, tenant: str
) -> None:
    kept, _ = await library.add(markdown(tenant, "# Zebra\n\nstripes"), 30)
    assert await found(pool, tenant, "zebra stripes")
    await library.delete(tenant, kept.document_id)
    assert await found(pool, tenant, "zebra stripes") == ()
    with pytest.raises(DocumentNotFound):
        await library.delete(tenant, kept.document_id)
    again, outcome = await library.add(markdown(tenant, "# Zebra\n\nstripes"), 30)
    assert (again.document_id, outcome) == (kept.document_id, Outcome.ADDED)


async def test_of_many_that_come_at_once_one_whole_document_is_kept(
    library: Library, pool: asyncpg.Pool, tenant: str
) -> None:
    texts = ["\n\n".join(f"## Part {part}\n\nversion {version}" for part in range(20)) for version in range(6)]
    outcomes = await asyncio.gather(*(library.add(markdown(tenant, text), 60) for text in texts))
    assert [outcome for _, outcome in outcomes].count(Outcome.ADDED) == 1
    kept = await pool.fetch("SELECT number, text FROM passages WHERE tenant_id = $1 ORDER BY number", tenant)
    assert [row["number"] for row in kept] == list(range(20))
    assert len({row["text"] for row in kept}) == 1


async def test_who_searches_meanwhile_finds_the_old_or_the_new_document(
    library: Library, pool: asyncpg.Pool, tenant: str
) -> None:
    def version(number: int) -> Source:
        return markdown(tenant, "\n\n".join(f"## Zebra {part}\n\nversion {number}" for part in range(30)))

    await library.add(version(0), 30)

    async def replace() -> None:
        for number in range(1, 6):
            await library.add(version(number), 30)

    replacing = asyncio.create_task(replace())
    looks = 0
    while not replacing.done():
        rows = await pool.fetch("SELECT text FROM passages WHERE tenant_id = $1", tenant)
        assert len(rows) == 30
        assert len({row["text"] for row in rows}) == 1
        looks += 1
    await replacing
    assert looks > 1


async def test_a_repeated_request_gets_the_first_response_and_another_one_is_refused(
    library: Library, tenant: str
) -> None:
    first = await library.add(markdown(tenant, "one"), 30, "request-1")
    await library.add(markdown(tenant, "two"), 30, "request-2")
    assert await library.add(markdown(tenant, "one"), 30, "request-1") == first
    with pytest.raises(RequestIdReused):
        await library.add(markdown(tenant, "three"), 30, "request-1")
    for _ in range(2):
        await library.delete(tenant, first[0].document_id, "request-3")
    with pytest.raises(RequestIdReused):
        await library.add(markdown(tenant, "three"), 30, "request-3")
    together = await asyncio.gather(*(library.add(markdown(tenant, "four"), 30, "request-4") for _ in range(5)))
    assert len(set(together)) == 1


async def test_a_request_that_failed_may_be_repeated(library: Library, tenant: str) -> None:
    for _ in range(2):
        with pytest.raises(DocumentNotFound):
            await library.delete(tenant, uuid.uuid4(), "")
    missing = uuid.uuid4()
    for _ in range(2):
        with pytest.raises(DocumentNotFound):
            await library.delete(tenant, missing, "request-5")


async def test_a_document_made_with_another_embedding_model_is_made_anew(
    library: Library, pool: asyncpg.Pool, tenant: str
) -> None:
    class Another(HashingEmbedder):
        model = "another-3"
        dimension = 3

        async def embed(self, texts: object, timeout: float) -> list[tuple[float, ...]]:
            return [(1.0, 0.0, 0.0) for _ in texts]  # type: ignore[attr-defined]

    await library.add(markdown(tenant, "# Zebra\n\nstripes"), 30)
    other = Library(library.documents, library.reader, Another())
    assert (await other.add(markdown(tenant, "# Zebra\n\nstripes"), 30))[1] is Outcome.REPLACED
    # The vectors of another space are no neighbours, and words still find the passage.
    assert [one.title for one in await found(pool, tenant, "zebra stripes")] == ["Zebra"]


async def test_a_store_that_is_away_says_so(stack: object, tenant: str) -> None:
    away = await asyncpg.create_pool(stack.endpoints.database_url, min_size=0)  # type: ignore[attr-defined]
    await away.close()
    with pytest.raises(StoreUnavailable):
        await PostgresDocuments(away).page(tenant, "", "", 10)


# --- search --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def help_desk(library: Library) -> str:
    """The starter's help pages, in a tenant of their own."""
    name = f"help-{uuid.uuid4()}"
    assert await sample.load(library, tenant=name) == 22
    assert await sample.load(library, tenant=name) == 0
    return name


@pytest.mark.parametrize(
    ("query", "title", "text"),
    [
        ("How long does shipping take?", "Shipping · How long does shipping take?", "Standard delivery takes 2 to 4"),
        ("Giao hàng mất bao lâu?", "Giao hàng · Giao hàng mất bao lâu vậy shop?", "Giao hàng tiêu chuẩn mất 2 đến 4"),
        ("giao hang mat bao lau", "Giao hàng · Giao hàng mất bao lâu vậy shop?", "Giao hàng tiêu chuẩn mất 2 đến 4"),
        ("Giao ha\u0300ng ma\u0302\u0301t bao la\u0302u?", "Giao hàng · Giao hàng mất bao lâu vậy shop?", "Giao hàng"),
        ("does the WARRANTY cover accidents", "Warranty and repairs · Does the warranty cover accidents?", ""),
    ],
)
async def test_a_help_page_question_finds_its_answer_first(
    help_desk: str, pool: asyncpg.Pool, query: str, title: str, text: str
) -> None:
    for embedding in (hashed(query), None):  # without an embedding, words alone
        best, *_ = await found(pool, help_desk, query, embedding=embedding)
        assert best.title == title
        assert best.text.startswith(text)
        assert best.uri.startswith("starter/help_pages/")
        assert best.score > 0.8


@pytest.mark.parametrize(
    ("earlier", "query", "text"),
    [
        ("How do I delete my account?", "And how long does it take?", "You can delete your account"),
        ("Mình xóa tài khoản thế nào?", "Vậy mất bao lâu?", "Bạn có thể tự xóa tài khoản"),
        ("minh xoa tai khoan the nao", "the thi mat bao lau", "Bạn có thể tự xóa tài khoản"),
    ],
)
async def test_a_follow_up_finds_the_page_of_what_it_follows_first(
    help_desk: str, pool: asyncpg.Pool, earlier: str, query: str, text: str
) -> None:
    best, *_ = await found(pool, help_desk, query, exchanges=(Exchange(earlier, "an answer"),))
    assert best.text.startswith(text)


@pytest.mark.parametrize(
    "query", ["What is the capital of France?", "Hello!", "Thủ đô của Úc là gì?", "?!", "", "xyzzy " * 300]
)
async def test_nothing_is_found_for_what_the_documents_do_not_speak_of(
    help_desk: str, pool: asyncpg.Pool, query: str
) -> None:
    assert await found(pool, help_desk, query) == ()


async def test_another_tenant_finds_nothing(help_desk: str, pool: asyncpg.Pool, tenant: str) -> None:
    assert await found(pool, tenant, "How long does shipping take?") == ()


async def test_users_with_opposite_profiles_get_different_evidence(
    library: Library, pool: asyncpg.Pool, tenant: str
) -> None:
    await library.add(markdown(tenant, "# Jackets\n\n## Care\n\nWash the trail running jacket cold.", "running.md"), 30)
    await library.add(
        markdown(tenant, "# Jackets\n\n## Care\n\nWash the alpine climbing jacket cold.", "climbing.md"), 30
    )
    tastes = {"running": hashed("trail running marathon"), "climbing": hashed("alpine climbing ropes")}
    first = {}
    for taste, preference in tastes.items():
        profile = Profile(tenant, taste, preference=preference, weight=20.0, model=MODEL)
        best, *_ = await found(pool, tenant, "How do I wash my jacket?", profile=profile)
        first[taste] = best.uri
    assert first == {"running": "running.md", "climbing": "climbing.md"}


async def test_the_index_finds_the_same_as_comparing_each(
    help_desk: str, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresPassages(pool, MODEL, HashingEmbedder.dimension)
    vocabulary = await store.vocabulary(help_desk)
    search = Search(help_desk, (), hashed("How can I get my money back?"))
    compared = await store.search(search, vocabulary)
    monkeypatch.setattr(searching, "COMPARED", 0)
    indexed = await store.search(search, vocabulary)
    assert [one.text for one in indexed[:5]] == [one.text for one in compared[:5]]


async def test_two_processes_may_prepare_at_once(pool: asyncpg.Pool) -> None:
    stores = [PostgresPassages(pool, "some-7", 7) for _ in range(5)]
    await asyncio.gather(*(store.prepare() for store in stores))
    assert await stores[0].search(Search("nobody", (), (0.0,) * 7), await stores[0].vocabulary("nobody")) == []


async def test_any_text_of_a_tenant_and_a_query_is_searched_safely(library: Library, pool: asyncpg.Pool) -> None:
    nasty = "x' | '@x\\ \"; DROP TABLE passages; -- $1 %s"
    await library.add(markdown(nasty, "# It's\n\na 'quoted' \\ back\\slash & | ! : * (text) $1"), 30)
    assert [one.title for one in await found(pool, nasty, "quoted back\\slash' | & ! text")] == ["It's"]


# --- gRPC ----------------------------------------------------------------------------------------------------------


class Served:
    def __init__(self, address: str, stub: document_pb2_grpc.DocumentServiceStub) -> None:
        self.address, self.stub = address, stub


@pytest.fixture
async def served(library: Library) -> AsyncIterator[Served]:
    limit = [("grpc.max_receive_message_length", 8 << 20)]
    server = grpc.aio.server(interceptors=[Guard(Admission(limit=16))], options=limit)
    document_pb2_grpc.add_DocumentServiceServicer_to_server(DocumentService(library, Defaults()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(f"127.0.0.1:{port}", document_pb2_grpc.DocumentServiceStub(channel))
    await server.stop(0)


async def test_documents_are_added_got_listed_and_deleted_over_grpc(served: Served) -> None:
    base = f"grpc-{uuid.uuid4()}/"
    names = [f"{base}{number}" for number in range(5)]
    for name in names:
        reply = await served.stub.AddDocument(
            pb.AddDocumentRequest(uri=name, content=b"# Title\n\ntext", title="Named")
        )
        assert reply.outcome == pb.ADD_OUTCOME_ADDED
    got = await served.stub.GetDocument(pb.GetDocumentRequest(document_id=reply.document.document_id))
    assert got.document == reply.document
    assert (got.document.title, got.document.media_type, got.document.passage_count) == ("Named", "text/plain", 1)
    listed, token = [], ""
    while True:
        request = pb.ListDocumentsRequest(page_size=2, page_token=token, uri_prefix=base)
        page = await served.stub.ListDocuments(request)
        listed += [document.uri for document in page.documents]
        if not (token := page.next_page_token):
            break
    assert listed == names
    await served.stub.DeleteDocument(pb.DeleteDocumentRequest(document_id=got.document.document_id))
    gone = await refused(served.stub.GetDocument(pb.GetDocumentRequest(document_id=got.document.document_id)))
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "DOCUMENT_NOT_FOUND")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.AddDocumentRequest(content=b"x"), "uri"),
        (pb.AddDocumentRequest(uri="a\nb", content=b"x"), "uri"),
        (pb.AddDocumentRequest(uri="x" * 2000, content=b"x"), "uri"),
        (pb.AddDocumentRequest(uri="a", content=b"x" * 8_000_001), "content"),
        (pb.AddDocumentRequest(uri="a", content=b"x", format=99), "format"),
        (pb.AddDocumentRequest(uri="a", content=b"x", title="x" * 300), "title"),
    ],
)
async def test_a_document_that_breaks_a_rule_names_its_field(
    served: Served, request_: pb.AddDocumentRequest, field: str
) -> None:
    found = await refused(served.stub.AddDocument(request_))
    assert (found.code, found.reason, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", [field])


@pytest.mark.parametrize("content", [b"\0\1\2", b"", b" ", b"%PDF-1.4 broken", b"PK\x03\x04"])
async def test_an_unreadable_document_says_so(served: Served, content: bytes) -> None:
    found = await refused(served.stub.AddDocument(pb.AddDocumentRequest(uri="a.txt", content=content)))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DOCUMENT_UNREADABLE")
    assert found.text.endswith(".")
    assert content.strip() or found.text == "The document is empty."


@pytest.mark.parametrize(
    "token",
    [
        "forged",
        "AAAA",
        "=",
        "ä",
        "A" * 4000,
        token_of("x", "7.default:other prefix"),
        token_of("x", "5.other:"),
        token_of("a\0b", "7.default:"),
    ],
)
async def test_a_forged_page_token_is_refused(served: Served, token: str) -> None:
    found = await refused(served.stub.ListDocuments(pb.ListDocumentsRequest(page_token=token)))
    assert (found.code, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


# --- the command ---------------------------------------------------------------------------------------------------


async def docs(served: Served, *arguments: str) -> Result:
    """`ratchet docs ...`, in a thread: the server is on this loop."""
    command = ["docs", *arguments, "--address", served.address]
    return await asyncio.to_thread(CliRunner().invoke, ratchet, command)


async def test_a_folder_is_added_listed_and_deleted_from_a_terminal(served: Served, tmp_path: Path) -> None:
    (tmp_path / "deep" / ".git").mkdir(parents=True)
    (tmp_path / "returns.md").write_text("# Đổi trả\n\nTrả hàng trong 30 ngày.")
    (tmp_path / "deep" / "policy.PDF").write_bytes(pdf(["Refunds take 5 days."]))
    (tmp_path / "deep" / ".git" / "hidden.md").write_text("hidden")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    first = await docs(served, "add", str(tmp_path))
    assert first.exit_code == 0, first.output
    assert "added      policy (1 passage)" in first.stdout
    assert "added      Đổi trả (1 passage)" in first.stdout
    again = json.loads((await docs(served, "add", str(tmp_path), str(tmp_path / "returns.md"), "--json")).stdout)
    assert [each["outcome"] for each in again["documents"]] == ["unchanged", "unchanged"]
    below = tmp_path.resolve().as_uri()
    listed = json.loads((await docs(served, "list", "--below", below, "--json")).stdout)["documents"]
    assert [document["uri"] for document in listed] == [f"{below}/deep/policy.PDF", f"{below}/returns.md"]
    assert "Đổi trả" in (await docs(served, "list", "--below", below)).stdout
    gone = await docs(served, "delete", str(tmp_path / "returns.md"), listed[0]["document_id"])
    assert (gone.exit_code, gone.stdout) == (0, "Deleted 2 documents.\n")
    assert json.loads((await docs(served, "list", "--below", below, "--json")).stdout) == {"documents": []}


async def test_one_unreadable_file_does_not_keep_the_others_out(served: Served, tmp_path: Path) -> None:
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 broken")
    (tmp_path / "good.txt").write_text("Good text.")
    (tmp_path / "huge.txt").write_bytes(b"x" * 8_000_001)
    base = f"https://help.example/{uuid.uuid4()}/"
    result = await docs(served, "add", str(tmp_path), "--base", base, "--json")
    bad, good, huge = json.loads(result.stdout)["documents"]
    assert "DOCUMENT_UNREADABLE" in bad["error"]
    assert good["document"]["uri"] == f"{base}good.txt"
    assert "8,000,001 bytes" in huge["error"]
    assert result.exit_code == 1
    assert "2 of the 3 documents could not be added" in result.stderr


async def test_the_command_says_what_is_wrong(served: Served, tmp_path: Path) -> None:
    missing = await docs(served, "delete", "no such document")
    assert (missing.exit_code, "There is no document" in missing.stderr) == (1, True)
    empty = await docs(served, "add", str(tmp_path))
    assert (empty.exit_code, "no file to add" in empty.stderr) == (2, True)
    nobody = await asyncio.to_thread(CliRunner().invoke, ratchet, ["docs", "list", "--address", "127.0.0.1:1"])
    assert "No server answers at 127.0.0.1:1" in nobody.stderr
