"""User profiles in OpenSearch, one document a user, found by the k-NN of its vector.

Reads by id see every write at once; searches see it after the index's refresh (a second, by default). A change is
written only over the version that it was made from, and made again when another one came between.
"""

import asyncio
import base64
import hashlib
import importlib
import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from server.errors import ConfigurationError, StoreUnavailable
from server.storage.profiles import LONGEST_MEMORY, Attributes, Change, Neighbour, unit
from server.types import Profile

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

log = logging.getLogger(__name__)

ALIAS = "ratchet-profiles"
"""Under which the index is used; what it is called itself is the operator's to change, by reindexing."""
TRIES = 40
"""Attempts to write over a document that others write at the same time."""
LONGEST_WAIT = 0.1
_REFUSED, _NOT_FOUND, _CONFLICT = 400, 404, 409
_MEAN = "mean_"
_MAPPING = {
    "dynamic": "strict",  # a misspelt field is an error, not a new field
    "properties": {
        "tenant_id": {"type": "keyword"},
        "user_id": {"type": "keyword"},
        "attributes": {"type": "object", "enabled": False},  # callers name them: kept, not indexed
        "requests": {"type": "object", "enabled": False},
        "weight": {"type": "double", "index": False},
        "dimension": {"type": "integer", "index": False},
        "model": {"type": "keyword"},
        "updated_at": {"type": "date"},
    },
}

Document = dict[str, Any]


async def connect(url: str, *, timeout: float = 2.0) -> "OpenSearchProfiles":
    """The profiles in the OpenSearch at `url` (https://USER:PASSWORD@HOST:PORT/PREFIX), which is first asked when it is
    needed. `timeout` in seconds. Raises ConfigurationError for a URL that can't be used."""
    host, headers = _place(url)
    library = await asyncio.to_thread(importlib.import_module, "opensearchpy")  # it takes long to import
    # Its warnings would be about conflicts and missing documents, which are our daily bread; errors are raised.
    logging.getLogger("opensearch").setLevel(logging.ERROR)
    client = library.AsyncOpenSearch([host], headers=headers, timeout=timeout, max_retries=0, pool_maxsize=32)
    return OpenSearchProfiles(client)


class OpenSearchProfiles:
    """`server.storage.profiles.Profiles` in OpenSearch 2.4 or newer, with its k-NN plugin. Closes the client."""

    def __init__(self, client: "AsyncOpenSearch", alias: str = ALIAS) -> None:
        self._client, self._alias = client, alias

    async def prepare(self, model: str, dimension: int) -> None:  # noqa: ARG002  # its field serves every model
        """See `Profiles.prepare`: the index, and its field for vectors of this dimension."""
        await self._make_index()
        vector = {
            "type": "knn_vector",
            "dimension": dimension,
            "method": {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"},
        }
        with _as_unavailable():
            body = {"properties": {_field(dimension): vector}}
            await self._client.indices.put_mapping(index=self._alias, body=body)

    async def get(self, tenant: str, user: str) -> Profile | None:
        """See `Profiles.get`."""
        document, _ = await self._read(tenant, user)
        with _as_unavailable():
            return _profile(tenant, user, document) if document is not None else None

    async def put(self, tenant: str, user: str, change: Change) -> Profile:
        """See `Profiles.put`."""

        def changed(document: Document) -> Document:
            before = _attributes(document)
            after = before.after(change)
            if after == before and document:
                return document
            requests = {"newest": [list(each) for each in after.requests]}
            return document | {"attributes": dict(after.values), "requests": requests}

        return _profile(tenant, user, await self._rewrite(tenant, user, changed))

    async def learn(self, tenant: str, user: str, embedding: Sequence[float], weight: float, model: str) -> None:
        """See `Profiles.learn`."""
        if weight:
            await self._rewrite(tenant, user, lambda document: _moved(document, embedding, weight, model))

    async def delete(self, tenant: str, user: str) -> bool:
        """See `Profiles.delete`. Returns once searches don't find the user any more, either."""
        with _as_unavailable():
            done = await self._client.delete(
                index=self._alias, id=_id(tenant, user), params={"refresh": "true", "ignore": _NOT_FOUND}
            )
        return bool(_of(done, "result") == "deleted")

    async def nearest(self, tenant: str, embedding: Sequence[float], model: str, limit: int) -> list[Neighbour]:
        """See `Profiles.nearest`."""
        mine = {"bool": {"filter": [{"term": {"tenant_id": tenant}}, {"term": {"model": model}}]}}
        like = {"vector": list(embedding), "k": limit, "filter": mine}
        body = {"size": limit, "_source": ["user_id"], "query": {"knn": {_field(len(embedding)): like}}}
        with _as_unavailable():
            found = await self._client.search(index=self._alias, body=body, params={"ignore": _NOT_FOUND})
            if _of(found, "status") == _NOT_FOUND:  # no index yet
                return []
            # The score of cosinesimil is (1 + cosine) / 2.
            return [Neighbour(hit["_source"]["user_id"], 2 * hit["_score"] - 1) for hit in found["hits"]["hits"]]

    async def close(self) -> None:
        """See `Profiles.close`."""
        await self._client.close()

    async def _make_index(self) -> None:
        body = {"settings": {"index": {"knn": True}}, "mappings": _MAPPING, "aliases": {self._alias: {}}}
        with _as_unavailable():
            if await self._client.indices.exists_alias(name=self._alias):
                return
            done = await self._client.indices.create(
                index=f"{self._alias}-000001", body=body, params={"ignore": _REFUSED}
            )
            if "resource_already_exists_exception" not in str(_of(done, "error")):  # another process was quicker
                _require(done)

    async def _read(self, tenant: str, user: str) -> tuple[Document | None, dict[str, str]]:
        """The document, and the parameters of a request that writes over this version of it only."""
        params: dict[str, Any] = {"ignore": _NOT_FOUND}
        with _as_unavailable():
            found = await self._client.get(index=self._alias, id=_id(tenant, user), params=params)
            if not _of(found, "found"):  # neither the document, or not even the index
                return None, {"op_type": "create"}
            version = {"if_seq_no": str(found["_seq_no"]), "if_primary_term": str(found["_primary_term"])}
            return found["_source"], version

    async def _rewrite(self, tenant: str, user: str, change: Callable[[Document], Document]) -> Document:
        """Writes what `change` makes of the document ({} when there is none), over that version only."""
        for attempt in range(TRIES):
            before, version = await self._read(tenant, user)
            after = change(before or {})
            if after == before:
                return after
            named = {"tenant_id": tenant, "user_id": user, "updated_at": datetime.now(UTC).isoformat()}
            if await self._write(tenant, user, after | named, version):
                return after | named
            await asyncio.sleep(random.uniform(0, min(0.002 * 2**attempt, LONGEST_WAIT)))  # noqa: S311
        raise StoreUnavailable("The profile is being changed too often to be changed once more.")

    async def _write(self, tenant: str, user: str, document: Document, version: Mapping[str, str]) -> bool:
        """Whether this version was still there. Makes the index or its field first where one is missing."""
        done = await self._index(tenant, user, document, version)
        if _of(done, "status") in (_NOT_FOUND, _REFUSED):
            dimension = next((len(value) for name, value in document.items() if name.startswith(_MEAN)), 0)
            await (self.prepare(document["model"], dimension) if dimension else self._make_index())
            done = await self._index(tenant, user, document, version)
        if _of(done, "status") == _CONFLICT:
            return False
        _require(done)
        return True

    async def _index(self, tenant: str, user: str, document: Document, version: Mapping[str, str]) -> Any:
        # With require_alias, OpenSearch never makes an index by itself: it would have no k-NN.
        params = {**version, "require_alias": "true", "ignore": (_REFUSED, _NOT_FOUND, _CONFLICT)}
        with _as_unavailable():
            return await self._client.index(index=self._alias, id=_id(tenant, user), body=document, params=params)


def _moved(document: Document, embedding: Sequence[float], weight: float, model: str) -> Document:
    """The document with its mean moved by an embedding, in the field of its dimension."""
    known, field = float(document.get("weight", 0.0)), _field(len(embedding))
    if document.get("model") != model or document.get("dimension") != len(embedding):
        known = 0.0
    added = min(abs(weight), LONGEST_MEMORY)
    before = document.get(field) or [0.0] * len(embedding)
    share = math.copysign(added / (known + added), weight)
    mean = [old * known / (known + added) + share * new for old, new in zip(before, embedding, strict=True)]
    kept = {name: value for name, value in document.items() if not name.startswith(_MEAN)}
    if unit(mean) is not None:  # there is no cosine with nothing
        kept[field] = mean
    return kept | {"weight": min(known + added, LONGEST_MEMORY), "model": model, "dimension": len(embedding)}


def _profile(tenant: str, user: str, document: Document) -> Profile:
    return Profile(
        tenant_id=tenant,
        user_id=user,
        attributes=dict(sorted(_attributes(document).values.items())),
        preference=unit(document.get(_field(document.get("dimension", 0)))),
        weight=float(document.get("weight", 0.0)),
        model=str(document.get("model", "")),
        updated_at=datetime.fromisoformat(document["updated_at"]),
    )


def _attributes(document: Document) -> Attributes:
    newest = document.get("requests", {}).get("newest", [])
    return Attributes(document.get("attributes", {}), tuple((request_id, digest) for request_id, digest in newest))


def _field(dimension: int) -> str:
    """Vectors of each dimension have a field of their own, as the k-NN plugin wants it."""
    return f"{_MEAN}{dimension}"


def _id(tenant: str, user: str) -> str:
    """Names the document of a user: no other tenant and user have it, and it says nothing about them."""
    return hashlib.sha256(f"{len(tenant)}.{tenant}:{user}".encode()).hexdigest()


def _of(answer: Any, name: str) -> Any:
    """A field of an answer, None when it isn't there."""
    if not isinstance(answer, dict):
        raise StoreUnavailable("OpenSearch answered with something that is no JSON object.")
    return answer.get(name)


def _require(answer: Any) -> None:
    error = _of(answer, "error")
    if error:
        kind = error.get("type", "an error") if isinstance(error, dict) else str(error)
        raise StoreUnavailable(f"OpenSearch refused a profile: {kind}.")


@contextmanager
def _as_unavailable() -> Iterator[None]:
    from opensearchpy.exceptions import OpenSearchException, TransportError

    try:
        yield
    except TransportError as error:
        kind = f"{type(error).__name__}, {error.status_code}"
        raise StoreUnavailable(f"OpenSearch did not answer as it should: {kind}.") from error
    except (OpenSearchException, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreUnavailable("OpenSearch's answer can't be read.") from error


def _place(url: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The host as opensearch-py wants it, and the headers that say who we are (RFC 7617, in UTF-8, which the client
    itself doesn't do). The errors never quote the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            "OPENSEARCH_URL can't be read: write https://USER:PASSWORD@HOST:PORT, "
            "special characters of the password percent-encoded."
        )
    host: dict[str, Any] = {"host": parts.hostname, "port": port, "use_ssl": parts.scheme == "https"}
    if parts.path.strip("/"):
        host["url_prefix"] = parts.path
    if parts.username is None:
        return host, {}
    account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return host, {"authorization": f"Basic {base64.b64encode(account.encode()).decode()}"}
