"""The SQL tool: rows of a database that the asking user may see.

A question becomes a statement in one of three ways: the policy writes one where it can; a declared question of the
catalog fits; or the text is a statement itself. Whoever wrote it, the guard decides whether it runs
(server/sql/guard.py), and the database whose rows it sees (server/sql/reader.py).
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from server.errors import ConfigurationError
from server.settings import STARTER
from server.sql import catalog as catalogs
from server.sql import sample
from server.sql.author import Author
from server.sql.catalog import Catalog
from server.sql.exclusion import excluded
from server.sql.guard import USER, Statement, check, is_statement, reads_as_sql
from server.sql.matching import Match, Matcher
from server.sql.reader import Place, Reader, Row
from server.sql.rows import RowTemplate, bounded, plain_line
from server.tools.tool import Question, Tool, ToolFailed, ToolRefused, ToolServices
from server.types import Evidence

SAMPLE_CATALOG = STARTER / "shop.toml"
_ATTEMPTS = 2
"""Statements that the policy may write for one question."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A declared question, ready to run."""

    statement: Statement
    row: RowTemplate


class SqlTool:
    """Asks one database. `author` is None where the policy writes no statements."""

    name = "sql"

    def __init__(
        self, catalog: Catalog, reader: Reader, threads: Executor, *, rows: int, author: Author | None = None
    ) -> None:
        """Raises ConfigurationError for a declared question that the guard refuses."""
        self.description = f"Looks up rows of a database for the user who asks. {catalog.description}"
        self._catalog, self._reader, self._threads, self._rows, self._author = catalog, reader, threads, rows, author
        self._declared = declare(catalog, rows)
        needed = {
            name: tuple(argument for argument in each.statement.arguments if argument != USER)
            for name, each in self._declared.items()
        }
        self._matcher = Matcher(catalog, needed)

    def relevance(self, question: Question) -> float:
        """How surely a declared question is asked; 1 for what looks like a statement, 0 for anything else."""
        if is_statement(question.query, self._catalog.tables):
            return 1.0
        match = self._match(question)
        return match.score if match else 0.0

    async def run(self, question: Question) -> tuple[Evidence, ...]:
        """The rows, a passage each; none when the user may see none."""
        user = question.user_id if question.tenant_id == self._catalog.tenant else ""
        if await self._is_statement(question.query):
            return await self._query(question.query, user)
        match = self._match(question)
        if self._author is None or not self._author.able:
            return await self._answer(match, user) if match else ()
        try:
            found = await self._ask_policy(self._author, question.query, user)
        except (ToolFailed, ToolRefused):
            if match is None:
                raise
            found = ()
        return found or (await self._answer(match, user) if match else ())

    async def close(self) -> None:
        """Closes the connections."""
        await self._reader.close()

    async def _is_statement(self, query: str) -> bool:
        """Not so for a sentence that only begins like one: `Select all my orders (from 2024)`."""
        if not is_statement(query, self._catalog.tables):
            return False
        return await asyncio.get_running_loop().run_in_executor(self._threads, reads_as_sql, query)

    def _match(self, question: Question) -> Match | None:
        return self._matcher.match(question.query, [each.query for each in question.exchanges])

    async def _answer(self, match: Match, user: str) -> tuple[Evidence, ...]:
        """The rows of a declared question."""
        declared, asked = self._declared[match.question.id], match.question
        rows = await self._read(declared.statement, user, match.values)
        lines, excludes = [declared.row.line(row) for row in rows], self._excluded(declared.statement, rows)
        return _evidence(asked.id, asked.title, lines, match.score, excludes)

    async def _ask_policy(self, author: Author, query: str, user: str) -> tuple[Evidence, ...]:
        """The rows of the policy's statement; it hears once why one may not run. Raises ToolRefused when none may."""
        refused: tuple[str, str] | None = None
        for _ in range(_ATTEMPTS):
            text = await author.write(query, refused)
            if not text:
                return ()
            try:
                return await self._query(text, user)
            except ToolRefused as error:
                refused = (text, str(error))
        assert refused is not None
        raise ToolRefused(refused[1])

    async def _query(self, text: str, user: str) -> tuple[Evidence, ...]:
        """The rows of a statement that somebody wrote."""
        if not self._catalog.statements:
            raise ToolRefused("Only the declared questions may be asked.")
        loop = asyncio.get_running_loop()
        statement = await loop.run_in_executor(self._threads, check, text, self._catalog, self._rows)
        rows = await self._read(statement, user, {})
        lines, excludes = [plain_line(row) for row in rows], self._excluded(statement, rows)
        return _evidence("query", ", ".join(sorted(statement.tables)), lines, 1.0, excludes)

    def _excluded(self, statement: Statement, rows: Sequence[Row]) -> tuple[str, ...]:
        return excluded(self._catalog, statement.tables, rows)

    async def _read(self, statement: Statement, user: str, values: Mapping[str, str]) -> Sequence[Row]:
        """Nobody has no rows: an anonymous caller is not even counted as having zero of them."""
        if not user and self._catalog.private(statement.tables):
            return ()
        return await self._reader.read(statement, user, values, self._rows)


def declare(catalog: Catalog, rows: int) -> dict[str, Declared]:
    """The catalog's questions by id. Raises ConfigurationError, naming the question that can't run."""
    declared = {}
    for each in catalog.questions:
        try:
            statement = check(each.sql, catalog, rows, frozenset(catalog.parameters))
            declared[each.id] = Declared(statement, RowTemplate(each.row, statement.columns))
        except (ToolRefused, ConfigurationError) as error:
            raise ConfigurationError(f"The catalog's question {each.id} can't be asked: {error}") from error
    return declared


async def open_sql(services: ToolServices) -> Tool | None:
    """The tool for RATCHET_SQL_URL, else for the sample data; None without either. Does not connect to it yet."""
    found = await _place(services)
    if found is None:
        return None
    (place, path), settings = found, services.settings
    loop = asyncio.get_running_loop()
    catalog = await loop.run_in_executor(services.threads, catalogs.load, path)
    beside = settings.sql_url is None  # the sample is in Ratchet's own Postgres
    reader = Reader(place, catalog, settings.sql_timeout, services.away if beside else lambda: False)
    author = None
    if catalog.statements:
        author = Author(services.policy, catalog, services.threads, settings.tool_budget)
    make = partial(SqlTool, catalog, reader, services.threads, rows=settings.sql_rows, author=author)
    tool = await loop.run_in_executor(services.threads, make)
    await reader.open()
    return tool


async def _place(services: ToolServices) -> tuple[Place, Path] | None:
    """The database and its catalog."""
    settings = services.settings
    if settings.sql_url is None:
        place = await sample.find(services.pool, services.database_url) if settings.samples else None
        return (place, settings.sql_catalog or SAMPLE_CATALOG) if place else None
    assert settings.sql_catalog is not None  # the settings see to it
    return Place(settings.sql_url), settings.sql_catalog


def _evidence(
    source: str, title: str, lines: Sequence[str], score: float, excludes: tuple[str, ...]
) -> tuple[Evidence, ...]:
    kept = bounded(lines)
    sources = [source] if len(kept) == 1 else [f"{source}#{number}" for number in range(1, len(kept) + 1)]
    return tuple(
        Evidence(tool="sql", source=name, title=title, text=line, score=score, excludes=excludes)
        for name, line in zip(sources, kept, strict=True)
    )
