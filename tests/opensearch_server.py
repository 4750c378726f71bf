"""As much of OpenSearch as the profile store uses, behind real HTTP, every request and answer held to the published
specification: indices with strict mappings, documents with versions, searches that lag behind, k-NN by cosine."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.opensearch_api import Specification

Answer = tuple[int, dict[str, Any]]


@dataclass
class Stored:
    """A document, deleted (None) or not. Sequence numbers grow by one with each write of the index."""

    source: dict[str, Any] | None
    seq_no: int
    version: int


@dataclass
class Index:
    """One index; `visible` is what searches see."""

    mapping: dict[str, Any]
    documents: dict[str, Stored] = field(default_factory=dict)
    visible: dict[str, dict[str, Any]] = field(default_factory=dict)
    writes: int = 0

    def refresh(self) -> None:
        self.visible = {name: each.source for name, each in self.documents.items() if each.source is not None}


class OpenSearchServer:
    """Use as a context manager. `problems` are breaches of the specification, by either side; `failures` are answered
    instead of the next requests, in order."""

    def __init__(self, specification: Specification, prefix: str = "") -> None:
        self.specification, self.prefix = specification, prefix
        self.problems: list[str] = []
        self.requests: list[tuple[str, str, Mapping[str, str], Any]] = []
        self.authorizations: set[str | None] = set()
        self.failures: list[web.Response] = []
        self.indices: dict[str, Index] = {}
        self.aliases: dict[str, str] = {}
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._server = TestServer(application)

    @property
    def url(self) -> str:
        return str(self._server.make_url(self.prefix or "/"))

    async def __aenter__(self) -> "OpenSearchServer":
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    def refresh(self) -> None:
        """What a real one does every second."""
        for index in self.indices.values():
            index.refresh()

    async def _serve(self, request: web.Request) -> web.Response:
        assert request.path.startswith(self.prefix)
        path, text = request.path.removeprefix(self.prefix), await request.text()
        body = json.loads(text) if text else None
        self.requests.append((request.method, path, dict(request.query), body))
        self.authorizations.add(request.headers.get("Authorization"))
        if self.failures:
            return self.failures.pop(0)
        wrong = self.specification.request(request.method, path, request.query, body)
        self.problems += wrong
        status, answer = _error(400, "parsing_exception", wrong[0]) if wrong else self._answer(request, path, body)
        if not wrong:
            self.problems += self.specification.answer(request.method, path, status, answer)
        return web.json_response(None if request.method == "HEAD" else answer, status=status)

    def _answer(self, request: web.Request, path: str, body: Any) -> Answer:
        query = request.query
        match request.method, path.strip("/").split("/"):
            case "HEAD", ["_alias", name]:
                return (200 if name in self.aliases else 404), {}
            case "PUT", [name]:
                return self._create_index(name, body)
            case "PUT", [name, "_mapping"]:
                return self._put_mapping(name, body)
            case "GET", [name, "_doc", document]:
                return self._get(name, document)
            case "PUT", [name, "_doc", document]:
                return self._put(name, document, body, query)
            case "DELETE", [name, "_doc", document]:
                return self._delete(name, document, query)
            case "POST", [name, "_search"]:
                return self._search(name, body)
        raise AssertionError(f"{request.method} {path} is not simulated")

    def _index(self, name: str) -> Index | None:
        return self.indices.get(self.aliases.get(name, name))

    def _create_index(self, name: str, body: Any) -> Answer:
        if name in self.indices:
            return _error(400, "resource_already_exists_exception", f"index [{name}] already exists")
        assert body["settings"]["index"]["knn"] is True
        self.indices[name] = Index(dict(body["mappings"]["properties"]))
        assert body["mappings"]["dynamic"] == "strict"
        self.aliases |= dict.fromkeys(body["aliases"], name)
        return 200, {"acknowledged": True, "shards_acknowledged": True, "index": name}

    def _put_mapping(self, name: str, body: Any) -> Answer:
        index = self._index(name)
        if index is None:
            return _missing(name)
        for each, mapping in body["properties"].items():
            if index.mapping.setdefault(each, mapping) != mapping:
                return _error(400, "illegal_argument_exception", f"mapper for [{each}] cannot be changed")
        return 200, {"acknowledged": True}

    def _get(self, name: str, document: str) -> Answer:
        index = self._index(name)
        if index is None:
            return _missing(name)
        found = index.documents.get(document)
        place = {"_index": self.aliases[name], "_id": document}
        if found is None or found.source is None:
            return 404, {**place, "found": False}
        versions = {"_version": found.version, "_seq_no": found.seq_no, "_primary_term": 1}
        return 200, {**place, **versions, "found": True, "_source": found.source}

    def _put(self, name: str, document: str, body: Any, query: Mapping[str, str]) -> Answer:
        if query.get("require_alias") == "true" and name not in self.aliases:
            return _missing(name)
        index = self._index(name)
        assert index is not None, "OpenSearch would make an index without k-NN here"
        if problem := _breach(index.mapping, body):
            return problem
        return self._write(index, name, document, body, query)

    def _delete(self, name: str, document: str, query: Mapping[str, str]) -> Answer:
        index = self._index(name)
        if index is None:
            return _missing(name)
        return self._write(index, name, document, None, query)

    def _write(self, index: Index, name: str, document: str, body: Any, query: Mapping[str, str]) -> Answer:
        known = index.documents.get(document)
        exists = known is not None and known.source is not None
        if query.get("op_type") == "create" and exists:
            return _conflict(document)
        if "if_seq_no" in query:
            expected = int(query["if_seq_no"]), int(query["if_primary_term"])
            if known is None or not exists or expected != (known.seq_no, 1):
                return _conflict(document)
        stored = Stored(body, index.writes, known.version + 1 if known else 1)
        index.writes += 1
        index.documents[document] = stored
        if query.get("refresh") in {"true", "wait_for"}:
            index.refresh()
        status, result = (200, "updated") if exists else (201, "created")
        if body is None:
            status, result = (200, "deleted") if exists else (404, "not_found")
        return status, {
            "_index": self.aliases[name],
            "_id": document,
            "_version": stored.version,
            "_seq_no": stored.seq_no,
            "_primary_term": 1,
            "_shards": {"total": 2, "successful": 1, "failed": 0},
            "result": result,
        }

    def _search(self, name: str, body: Any) -> Answer:
        index = self._index(name)
        if index is None:
            return _missing(name)
        ((vector_field, like),) = body["query"]["knn"].items()
        if index.mapping.get(vector_field, {}).get("type") != "knn_vector":
            return _error(400, "query_shard_exception", f"field [{vector_field}] is not knn_vector")
        terms = [next(iter(each["term"].items())) for each in like["filter"]["bool"]["filter"]]
        fits = [
            ((1 + _cosine(source[vector_field], like["vector"])) / 2, document, source)
            for document, source in index.visible.items()
            if vector_field in source and all(source.get(key) == value for key, value in terms)
        ]
        hits = [
            {
                "_index": self.aliases[name],
                "_id": document,
                "_score": score,
                "_source": {key: source[key] for key in body["_source"]},
            }
            for score, document, source in sorted(fits, key=lambda fit: -fit[0])[: min(like["k"], body["size"])]
        ]
        return 200, {
            "took": 1,
            "timed_out": False,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": {
                "total": {"value": len(hits), "relation": "eq"},
                "max_score": hits[0]["_score"] if hits else None,
                "hits": hits,
            },
        }


def _breach(mapping: Mapping[str, Any], document: Mapping[str, Any]) -> Answer | None:
    """What a strict mapping refuses, and the k-NN plugin."""
    for name, value in document.items():
        if name not in mapping:
            text = f"mapping set to strict, dynamic introduction of [{name}] within [_doc] is not allowed"
            return _error(400, "strict_dynamic_mapping_exception", text)
        if mapping[name]["type"] == "knn_vector":
            if len(value) != mapping[name]["dimension"] or not any(value):
                return _error(400, "mapper_parsing_exception", f"failed to parse field [{name}] of type [knn_vector]")
        elif mapping[name]["type"] in {"keyword", "date"}:
            assert isinstance(value, str)
    return None


def _cosine(one: list[float], other: list[float]) -> float:
    assert len(one) == len(other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def _conflict(document: str) -> Answer:
    return _error(409, "version_conflict_engine_exception", f"[{document}]: version conflict")


def _missing(name: str) -> Answer:
    return _error(404, "index_not_found_exception", f"no such index [{name}]")


def _error(status: int, kind: str, reason: str) -> Answer:
    cause = {"type": kind, "reason": reason}
    return status, {"error": {**cause, "root_cause": [cause]}, "status": status}
