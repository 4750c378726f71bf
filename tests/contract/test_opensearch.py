"""What the OpenSearch store does beyond the common contract, and that its tests would notice a mistake."""

import asyncio
import base64
import copy
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from server.errors import ConfigurationError, StoreUnavailable
from server.storage import opensearch
from server.storage.opensearch import OpenSearchProfiles
from server.storage.profiles import Change
from tests.opensearch_api import ABSENT, PLACE, specification
from tests.opensearch_server import OpenSearchServer

pytestmark = pytest.mark.skipif(not PLACE.is_dir(), reason=ABSENT)
MODEL, EAST = "test-3", (1.0, 0.0, 0.0)
SEARCH = {
    "size": 3,
    "query": {"knn": {"mean_3": {"vector": [1.0, 0.0, 0.0], "k": 3, "filter": {"term": {"tenant_id": "t"}}}}},
}


@pytest.fixture
async def server() -> AsyncIterator[OpenSearchServer]:
    async with OpenSearchServer(specification()) as running:
        yield running


@pytest.fixture
async def profiles(server: OpenSearchServer) -> AsyncIterator[OpenSearchProfiles]:
    store = await opensearch.connect(server.url, timeout=30)
    yield store
    await store.close()


def misspelt(body: object, name: str, instead: str) -> object:
    """The body with one field's name changed, wherever it is."""
    if isinstance(body, dict):
        return {instead if key == name else key: misspelt(value, name, instead) for key, value in body.items()}
    return [misspelt(each, name, instead) for each in body] if isinstance(body, list) else body


@pytest.mark.parametrize("name", ["size", "query", "knn", "vector", "k", "filter", "term"])
def test_a_misspelt_field_of_a_search_breaks_the_specification(name: str) -> None:
    assert specification().request("POST", "/profiles/_search", {}, SEARCH) == []
    wrong = misspelt(copy.deepcopy(SEARCH), name, name[:-1] + "_")
    assert specification().request("POST", "/profiles/_search", {}, wrong) != []


@pytest.mark.parametrize(
    "name", ["settings", "mappings", "aliases", "properties", "dynamic", "type", "enabled", "index"]
)
async def test_a_misspelt_field_of_the_index_breaks_the_specification(
    name: str, server: OpenSearchServer, profiles: OpenSearchProfiles
) -> None:
    await profiles.prepare(MODEL, 3)
    method, path, query, body = next(each for each in server.requests if each[0] == "PUT")
    assert server.specification.request(method, path, query, body) == []
    inside = misspelt(copy.deepcopy(body["mappings"]), name, f"{name}s_")
    outside = {**body, "mappings": inside} if inside != body["mappings"] else misspelt(body, name, f"{name}s_")
    assert outside != body
    assert server.specification.request(method, path, query, outside) != []


@pytest.mark.parametrize("name", ["dimension", "method", "engine", "space_type"])
async def test_a_misspelt_field_of_the_vectors_mapping_breaks_the_specification(
    name: str, server: OpenSearchServer, profiles: OpenSearchProfiles
) -> None:
    await profiles.prepare(MODEL, 3)
    method, path, query, body = server.requests[-1]
    assert path.endswith("/_mapping")
    assert server.specification.request(method, path, query, misspelt(body, name, f"{name}s")) != []


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("PUT", "/profiles/_doc/1", {"if_seqno": "1"}),
        ("PUT", "/profiles/_doc/1", {"if_seq_no": "one"}),
        ("DELETE", "/profiles/_doc/1", {"refresh": "yes"}),
        ("PUT", "/profiles/_dcos/1", {}),
        ("PATCH", "/profiles/_doc/1", {}),
    ],
)
def test_a_wrong_parameter_path_or_method_breaks_the_specification(
    method: str, path: str, query: dict[str, str]
) -> None:
    assert specification().request(method, path, query, None) != []


def test_a_wrong_answer_breaks_the_specification() -> None:
    right = {"_index": "i", "_id": "1", "found": True, "_seq_no": 1, "_primary_term": 1, "_version": 1, "_source": {}}
    assert specification().answer("GET", "/i/_doc/1", 200, right) == []
    for wrong in ({**right, "_seqno": 1}, {**right, "_seq_no": "one"}, {"_index": "i"}, {"error": "text"}):
        assert specification().answer("GET", "/i/_doc/1", 200, wrong) != []


async def test_the_simulated_server_refuses_what_the_specification_does_not_know(server: OpenSearchServer) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}p/_search", json={"sizes": 3}) as answer:
        assert answer.status == 400
    assert len(server.problems) == 1


async def test_the_first_write_makes_the_index_and_its_vector_field(
    server: OpenSearchServer, profiles: OpenSearchProfiles
) -> None:
    assert await profiles.get("t", "ann") is None
    assert server.indices == {}, "reading makes nothing"
    await profiles.put("t", "ann", Change({"tier": "gold"}))
    assert [name for name in server.indices["ratchet-profiles-000001"].mapping if name.startswith("mean")] == []
    await profiles.learn("t", "ann", EAST, 1.0, MODEL)
    assert server.indices["ratchet-profiles-000001"].mapping["mean_3"]["dimension"] == 3
    assert (await profiles.get("t", "ann")).attributes == {"tier": "gold"}


async def test_an_index_that_someone_deleted_is_made_again_with_its_vectors(
    server: OpenSearchServer, profiles: OpenSearchProfiles
) -> None:
    await profiles.learn("t", "ann", EAST, 1.0, MODEL)
    server.indices.clear()
    server.aliases.clear()
    assert await profiles.get("t", "ann") is None
    await profiles.learn("t", "ann", EAST, 1.0, MODEL)
    server.refresh()
    assert [each.user_id for each in await profiles.nearest("t", EAST, MODEL, 1)] == ["ann"]


async def test_preparing_at_once_from_many_processes_is_harmless(
    server: OpenSearchServer, profiles: OpenSearchProfiles
) -> None:
    await asyncio.gather(*(profiles.prepare(MODEL, dimension) for dimension in (3, 3, 3, 4)))
    assert list(server.indices) == ["ratchet-profiles-000001"]
    assert {"mean_3", "mean_4"} <= server.indices["ratchet-profiles-000001"].mapping.keys()
    assert server.problems == []


async def test_a_document_says_nothing_about_its_user_in_its_address(
    server: OpenSearchServer, profiles: OpenSearchProfiles
) -> None:
    await profiles.put("secret-tenant", "ann@example.com", Change({"a": "b"}))
    assert not [path for _, path, _, _ in server.requests if "ann" in path or "secret" in path]


async def test_the_user_password_and_prefix_of_the_url_are_used() -> None:
    async with OpenSearchServer(specification(), prefix="/search") as server:
        url = server.url.replace("http://", "http://m%E1%BA%ADy:p%40ss%3Aw%2Frd@")
        store = await opensearch.connect(url, timeout=30)
        await store.put("t", "ann", Change({"a": "b"}))
        await store.close()
        expected = base64.b64encode("mậy:p@ss:w/rd".encode()).decode()
        assert server.authorizations == {f"Basic {expected}"}
        assert server.problems == []


@pytest.mark.parametrize(
    "answer",
    [
        web.json_response({"error": {"type": "security_exception", "reason": "no"}, "status": 403}, status=403),
        web.json_response({"error": {"type": "x", "reason": "no"}, "status": 401}, status=401),
        web.json_response({"error": {"type": "x", "reason": "no"}, "status": 429}, status=429),
        web.json_response({"error": {"type": "x", "reason": "no"}, "status": 503}, status=503),
        web.Response(text="<html>a proxy</html>", content_type="text/html"),
        web.Response(text="{", content_type="application/json"),
        web.json_response([]),
        web.json_response({"found": True}),
        web.json_response({"found": True, "_seq_no": 1, "_primary_term": 1, "_source": {"weight": "x"}}),
    ],
    ids=["403", "401", "429", "503", "html", "torn", "list", "empty", "strange"],
)
async def test_whatever_goes_wrong_the_store_is_unavailable(
    answer: web.Response, server: OpenSearchServer, profiles: OpenSearchProfiles
) -> None:
    server.failures = [answer]
    with pytest.raises(StoreUnavailable):
        await profiles.get("t", "ann")


async def test_a_server_that_is_away_or_silent_makes_the_store_unavailable(server: OpenSearchServer) -> None:
    away = await opensearch.connect("http://127.0.0.1:9", timeout=5)
    for call in (
        away.get("t", "u"),
        away.delete("t", "u"),
        away.learn("t", "u", EAST, 1.0, MODEL),
        away.prepare("m", 3),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    await away.close()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the caller has had enough
        writer.close()
        left.set()

    left = asyncio.Event()
    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    store = await opensearch.connect(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}", timeout=0.2)
    with pytest.raises(StoreUnavailable):
        await store.get("t", "u")
    await store.close()
    await left.wait()
    silent.close()


async def test_a_lookup_that_is_given_up_leaves_the_store_usable(
    server: OpenSearchServer, profiles: OpenSearchProfiles
) -> None:
    await profiles.put("t", "ann", Change({"a": "b"}))
    for _ in range(5):
        lookup = asyncio.create_task(profiles.get("t", "ann"))
        await asyncio.sleep(0)
        lookup.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lookup
    assert (await profiles.get("t", "ann")).attributes == {"a": "b"}


async def test_a_profile_that_never_rests_is_given_up(
    server: OpenSearchServer, profiles: OpenSearchProfiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opensearch, "LONGEST_WAIT", 0.0)
    await profiles.put("t", "ann", Change({"a": "b"}))
    monkeypatch.setattr(server, "_write", lambda *_: (409, {"error": {"type": "x", "reason": "y"}, "status": 409}))
    with pytest.raises(StoreUnavailable, match="too often"):
        await profiles.put("t", "ann", Change({"a": "c"}))


@pytest.mark.parametrize(
    "url", ["ftp://h:1", "http://", "http://h:port", "http://h/?q=hunter2", "hunter2@h", "http://[::1"]
)
async def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await opensearch.connect(url)
    assert "hunter2" not in str(refused.value)
