"""Searching passages in Postgres: by words (GIN) and by vectors (HNSW), fused in one statement."""

import asyncio
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import asyncpg

from server.documents import words
from server.documents.vocabulary import LIKENESS, Vocabulary
from server.documents.words import Term
from server.errors import StoreUnavailable
from server.storage.database import Connection, bounded
from server.storage.documents import answering

POOL = 40
"""Passages that each of the two lists holds, before they are fused."""
FUSION = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): rank r counts 1 / (FUSION + r)."""
IN_TITLE = 0.5
"""What a word that stands in a passage's title counts more there, in the order by words."""
MOST_MATCHES = 2_000
"""Passages that are looked at for their words, about: of longer lists the rarest words decide."""
SEARCHING, COUNTING, LOOKING = 10.0, 30.0, 1.0
"""Seconds after which a connection is cut off that a search, a vocabulary, the versions wait for in vain: a tool whose
time is over cuts it off sooner."""
_SAMPLE = 128
_MOST_FORMS = 1 << 17
_LOCK = 0x444F4353
COMPARED = 2_000
"""Up to so many passages of a tenant, each vector is compared: exact, and as fast as the index."""
INDEXABLE = 2_000
"""Dimensions that pgvector can index; beyond them every vector is compared."""

SEARCH = f"""
WITH hits AS MATERIALIZED (
    SELECT p.document_id, p.number, sum(form.covers) AS coverage, sum(form.ranks) AS weight
    FROM unnest($2::text[], $3::float8[], $4::float8[]) AS form (query, covers, ranks)
    CROSS JOIN LATERAL (
        SELECT tenant_id, document_id, number FROM passages WHERE words @@ form.query::tsquery OFFSET 0
    ) AS p
    WHERE p.tenant_id = $1
    GROUP BY p.document_id, p.number
), by_words AS MATERIALIZED (
    SELECT document_id, number, row_number() OVER (ORDER BY weight DESC, document_id, number) AS place
    FROM hits ORDER BY place LIMIT {POOL}
), by_vectors AS MATERIALIZED (
    %(nearest)s
), fused AS MATERIALIZED (
    SELECT document_id, number, coverage,
        coalesce(1.0::float8 / ({FUSION} + w.place), 0) + coalesce(1.0::float8 / ({FUSION} + v.place), 0) AS fused
    FROM by_words AS w FULL JOIN by_vectors AS v USING (document_id, number) LEFT JOIN hits USING (document_id, number)
    ORDER BY fused DESC, coverage DESC NULLS LAST, document_id, number LIMIT {POOL}
)
SELECT document_id, number, p.title, p.text, d.uri, fused.fused, coalesce(coverage, 0) AS coverage,
    CASE WHEN p.embedding_model = $5 AND cardinality($6::real[]) > 0
        THEN 1 - (p.embedding <=> $6::real[]::vector) END AS cosine,
    CASE WHEN p.embedding_model = $5 AND cardinality($7::real[]) > 0
        THEN 1 - (p.embedding <=> $7::real[]::vector) END AS preference
FROM fused
JOIN passages AS p USING (document_id, number)
JOIN documents AS d USING (document_id)
WHERE p.tenant_id = $1 AND d.tenant_id = $1
ORDER BY fused.fused DESC, coverage DESC, document_id, number
"""
"""$1 tenant, $2 to $4 what each form of a word is looked for by, adds to the coverage and to the rank, $5 model,
$6 the query's vector, $7 a preference; empty vectors stand for none. One form a scan of the index: it needs no look at
the passages' own words, which are long enough to be stored apart. OFFSET 0 and MATERIALIZED keep the planner, which
knows little of either index, from going through all passages of a tenant instead."""

_NEAREST = "SELECT document_id, number, row_number() OVER (ORDER BY distance, document_id, number) AS place FROM"
_EACH = f"""{_NEAREST} (
        SELECT document_id, number, embedding <=> $6::real[]::vector AS distance FROM passages
        WHERE tenant_id = $1 AND embedding_model = $5 ORDER BY distance, document_id, number LIMIT {POOL}
    ) AS nearest"""
_BY_COMPARING = SEARCH % {"nearest": _EACH}
_BY_WORDS = SEARCH % {"nearest": f"{_NEAREST} (SELECT document_id, number, 0 AS distance FROM hits LIMIT 0) AS none"}

FORMS = f"""
SELECT string_agg(ndoc || ' ' || word, E'\\n') FROM (
    SELECT word, ndoc FROM ts_stat(format('SELECT words FROM passages WHERE tenant_id = %L', $1::text))
    WHERE left(word, 1) NOT IN ('@', '!') ORDER BY ndoc DESC LIMIT {_MOST_FORMS}
) AS form
"""
"""In how many passages each form occurs: one text, as that many rows would keep the event loop busy."""

BACKGROUND = f"""
WITH sample AS (
    SELECT row_number() OVER () AS id, embedding FROM passages
    WHERE tenant_id = $1 AND embedding_model = $2 ORDER BY md5(document_id::text || number) LIMIT {_SAMPLE}
)
SELECT coalesce(avg(1 - (a.embedding <=> b.embedding)), 0), coalesce(stddev_pop(1 - (a.embedding <=> b.embedding)), 0)
FROM sample AS a JOIN sample AS b ON a.id < b.id
"""


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for. `terms` and `vector` may be empty; vectors are of the model in use."""

    tenant: str
    terms: tuple[Term, ...]
    vector: Sequence[float] = ()
    preference: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A passage. `fused` is its sum of reciprocal ranks, `score` (0 to 1) its relevance, `preference` (-1 to 1) its
    cosine with the preference that was given, 0 without one."""

    document_id: uuid.UUID
    number: int
    title: str
    text: str
    uri: str
    fused: float
    score: float
    preference: float


class Passages(Protocol):
    """Finds passages. Raises StoreUnavailable when the store is away."""

    async def search(self, search: Search, vocabulary: Vocabulary) -> list[Found]:
        """At most POOL passages, in the order of both lists fused."""

    async def vocabulary(self, tenant: str) -> Vocabulary:
        """The tenant's words, as of now."""

    async def versions(self, tenants: Sequence[str]) -> dict[str, int]:
        """Counts the changes to the documents of these tenants; those without any change are left out."""


class PostgresPassages:
    """`Passages` on Postgres with pgvector, for the vectors of one embedding model."""

    def __init__(
        self, pool: asyncpg.Pool, model: str, dimension: int, away: Callable[[], bool] = lambda: False
    ) -> None:
        """`away` tells whether Postgres is known not to answer: searching then does not wait for it."""
        self._pool, self._model, self._dimension, self._away = pool, model, dimension, away
        indexed = f"{_function(dimension)}($1, $5, $6::real[]::vector, {POOL})"
        self._by_index = SEARCH % {"nearest": f"{_NEAREST} {indexed}"}

    async def prepare(self) -> None:
        """Makes the index and the function for the model's dimension, where they are missing."""
        if self._dimension > INDEXABLE:
            return
        with answering():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                known = f"SELECT to_regproc('{_function(self._dimension)}') IS NOT NULL"
                if not await connection.fetchval(known):
                    for statement in _indexing(self._dimension):
                        await connection.execute(statement, timeout=None)

    async def search(self, search: Search, vocabulary: Vocabulary) -> list[Found]:
        """See `Passages.search`."""
        if self._away():
            raise StoreUnavailable("The documents can't be searched while Postgres is away.")
        forms = _forms(search, vocabulary)
        if not forms and not search.vector:
            return []
        columns = [list(column) for column in zip(*forms, strict=True)] or [[], [], []]
        values = (search.tenant, *columns, self._model, list(search.vector), list(search.preference))
        with answering():
            statement = self._statement(search, vocabulary)
            rows = await bounded(self._pool, SEARCHING, lambda c: c.fetch(statement, *values))
        total = vocabulary.total(search.terms)
        return [_found(row, total, vocabulary) for row in rows]

    def _statement(self, search: Search, vocabulary: Vocabulary) -> str:
        if not search.vector:
            return _BY_WORDS
        indexed = vocabulary.passages > COMPARED and self._dimension <= INDEXABLE
        return self._by_index if indexed else _BY_COMPARING

    async def vocabulary(self, tenant: str) -> Vocabulary:
        """See `Passages.vocabulary`."""

        async def count(connection: Connection) -> tuple[int | None, int, str | None, asyncpg.Record]:
            async with connection.transaction(isolation="repeatable_read"):
                version = await connection.fetchval(_VERSION, tenant)
                passages = await connection.fetchval("SELECT count(*) FROM passages WHERE tenant_id = $1", tenant)
                forms = await connection.fetchval(FORMS, tenant)
                usual = await connection.fetchrow(BACKGROUND, tenant, self._model)
            assert usual is not None
            return version, passages, forms, usual

        with answering():
            version, passages, forms, usual = await bounded(self._pool, COUNTING, count)
        counts = await asyncio.to_thread(_counts, forms or "")
        return Vocabulary(version or 0, passages, counts, *usual)

    async def versions(self, tenants: Sequence[str]) -> dict[str, int]:
        """See `Passages.versions`."""
        with answering():
            rows = await bounded(self._pool, LOOKING, lambda c: c.fetch(_VERSIONS, tenants))
        return {row["tenant_id"]: row["version"] for row in rows}


_VERSION = "SELECT version FROM document_libraries WHERE tenant_id = $1"
_VERSIONS = "SELECT tenant_id, version FROM document_libraries WHERE tenant_id = ANY($1)"


def _counts(forms: str) -> dict[str, int]:
    return {form: int(count) for count, _, form in (line.partition(" ") for line in forms.split("\n")) if form}


def _found(row: asyncpg.Record, total: float, vocabulary: Vocabulary) -> Found:
    coverage = min(row["coverage"] / total, 1.0)
    cosine = row["cosine"] if row["cosine"] is not None and not math.isnan(row["cosine"]) else -1.0
    return Found(
        document_id=row["document_id"],
        number=row["number"],
        title=row["title"],
        text=row["text"],
        uri=row["uri"],
        fused=row["fused"],
        score=max(coverage, vocabulary.likeness(cosine)),
        preference=row["preference"] or 0.0,
    )


def _forms(search: Search, vocabulary: Vocabulary) -> list[tuple[str, float, float]]:
    """For each form to look for: the tsquery, what it adds to the coverage, and what to the rank."""
    found = []
    for term in vocabulary.rarest(search.terms, MOST_MATCHES):
        weight = vocabulary.weight(term)
        for form, share in ((term.plain, LIKENESS), (term.spelt, 1 - LIKENESS)) if term.spelt else ((term.plain, 1.0),):
            found.append((words.query(search.tenant, form), weight * share, weight * share))
            found.append((words.query(search.tenant, words.in_title(form)), 0.0, weight * share * IN_TITLE))
    return found


def _function(dimension: int) -> str:
    return f"nearest_passages_{int(dimension)}"


def _indexing(dimension: int) -> list[str]:
    """The index of one dimension, and the function that uses it.

    The function exists for its settings: with them the index is used, and goes on until enough rows of the tenant and
    the model are found (pgvector's iterative scans), which a filter after the index would not.
    """
    size = int(dimension)
    function = f"""
        CREATE FUNCTION {_function(size)}(tenant text, model text, query vector, most bigint)
        RETURNS TABLE (document_id uuid, number integer, distance float8) LANGUAGE sql STABLE ROWS {POOL}
        SET hnsw.iterative_scan = 'strict_order' SET hnsw.ef_search = {2 * POOL} SET enable_sort = off AS $$
            SELECT p.document_id, p.number, p.embedding::vector({size}) <=> query FROM passages AS p
            WHERE p.tenant_id = tenant AND p.embedding_model = model AND p.dimension = {size}
            ORDER BY p.embedding::vector({size}) <=> query::vector({size}) LIMIT most
        $$"""
    index = (
        f"CREATE INDEX IF NOT EXISTS passages_by_vector_{size} ON passages"
        f" USING hnsw ((embedding::vector({size})) vector_cosine_ops) WHERE dimension = {size}"
    )
    # The library must be loaded before a function can name its settings.
    return ["SELECT '[1]'::vector", index, function]
