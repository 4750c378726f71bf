"""Which statements may run: one SELECT over the catalog's tables. Pure.

The text is never passed on. It is parsed, every node is held against an allow-list, and the statement that runs is
written anew from the checked tree: each table becomes a subquery of its declared columns and the asking user's rows,
each name is quoted, each value that comes with a question is bound. The database's role holds by itself what this
refuses.
"""

import logging
import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import ErrorLevel

from server.sql import grammar
from server.sql.catalog import Catalog
from server.sql.names import Names
from server.sql.weight import require_light
from server.tools.tool import ToolRefused

LONGEST = 2_000
"""Characters of a statement."""
MOST_TOKENS: Final = 400
DEEPEST: Final = 8
"""Parentheses and CASEs within each other; sqlglot's time grows fast with them."""
MOST_TABLES: Final = 4
USER: Final = "@user"
"""Names the asking user among a statement's arguments."""

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it would warn of texts, which are a user's

_MARKS = re.compile(r"--|/\*|\*/|[;$\\]")
_STATEMENT = re.compile(
    r"""\s*(?:
    with\s+(?:recursive\s+)?\w+\s*(?:\([^)]*\)\s*)?as\s*(?:not\s+)?(?:materialized\s*)?\(
    | insert\s+into\s+[\w."]+\s*(?:\(|(?:values|select|default|as|with)\b)
    | update\s+(?:only\s+)?[\w."]+\s+(?:(?:as\s+)?\w+\s+)?set\s*(?:\(|[\w."]+\s*=)
    | delete\s+from\s+(?:only\s+)?[\w."]+(?:\s*(?:;|$)|\s+(?:(?:as\s+)?\w+\s+)?(?:where|using|returning)\b)
    | merge\s+into\s+[\w."]+\s+(?:(?:as\s+)?\w+\s+)?using\b
    | (?:drop|alter|create|truncate)\s+(?:table|role|user|database|schema|view|function|extension|or\s+replace)\b
    | copy\s+(?:\(|[\w."]+\s+(?:to|from)\s+(?:program\b|')) | do\s+\$\w*\$ | call\s+[\w.]+\(
    | set\s+(?:(?:local|session)\s+)?[^\W_]+[._][\w.]+\s*(?:=|to\b)
    | explain\s+(?:\(\s*(?:analy[sz]e|verbose|costs|format)\b|analy[sz]e\b|select\b)
    | (?:grant|revoke)\s+(?:all|select|insert|update|delete|usage|execute|create|connect)\s+on\b | values\s*\(\s*[\d'(]
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_QUERY = re.compile(r"""[\w"]\(|\*|'|"|;|::|\w[._]\w|\bfrom\s+\(""", re.IGNORECASE)
"""What no sentence has that begins with SELECT."""
_SELECT = re.compile(r"\s*select\b", re.IGNORECASE)
_NAMED = re.compile(
    r"""(?:^\s*select\b.*?\bfrom|^\s*copy(?=\s+\S+\s+(?:to|from)\s+std(?:in|out)\b))\s+(?:\w+\.)?"?(\w+)""",
    re.IGNORECASE | re.DOTALL,
)
"""The name after the word that makes SQL of a text, where nothing else does."""
_NUMBER = re.compile(r"\d{1,15}(\.\d{1,15})?")
_DIALECT: Final = "postgres"
_VALUES_OF_TEXT: Final = {TokenType.STRING, TokenType.NUMBER, TokenType.IDENTIFIER, TokenType.PARAMETER}


@dataclass(frozen=True, slots=True)
class Statement:
    """A SELECT that may run. `arguments` name the values of $1, $2 and so on, all texts; `tables` are those it reads,
    `columns` the names in its result."""

    sql: str
    arguments: tuple[str, ...]
    tables: frozenset[str]
    columns: frozenset[str]


def is_statement(text: str, tables: Collection[str]) -> bool:
    """Whether the text looks like SQL, of whatever kind, and not like a sentence that begins with such a word; fast.

    A plain SELECT or COPY does when it names one of `tables`.
    """
    text = text[:LONGEST]
    if _STATEMENT.match(text) or (_SELECT.match(text) and _QUERY.search(text)):
        return True
    named = _NAMED.match(text)
    return named is not None and named[1].lower() in tables


def reads_as_sql(text: str) -> bool:
    """Whether a parser takes the text for SQL. Takes milliseconds: for a thread. True where it is too deep to tell."""
    try:
        tokens = sqlglot.tokenize(text[: LONGEST + 1], read=_DIALECT)
        if len(text) > LONGEST or len(tokens) > MOST_TOKENS or _depth(tokens) > DEEPEST:
            return True
        return bool(sqlglot.parse(text, dialect=_DIALECT, error_level=ErrorLevel.IMMEDIATE))
    except Exception:  # whatever the parser stumbles over
        return False


def check(text: str, catalog: Catalog, rows: int, parameters: frozenset[str] = frozenset()) -> Statement:
    """The statement to run for `text`, at most `rows` rows. Raises ToolRefused with the reason.

    Takes milliseconds: for a thread. `parameters` may stand in the text as `:name`.
    """
    try:
        tree = _parse(_plain(text))
        _require_allowed(tree, catalog, parameters)
        names = Names(tree, catalog)
        names.require_known_columns()
        require_light(tree, catalog)
        return _write(tree, catalog, names, rows)
    except ToolRefused:
        raise
    except Exception as error:  # whatever the parser or the writer stumbles over
        raise ToolRefused("It is no statement that can be understood.") from error


def _plain(text: str) -> str:
    """The text without its closing semicolon. Refused: comments, stacked statements, escapes, invisible characters."""
    text = text.strip().removesuffix(";").rstrip()
    if len(text) > LONGEST:
        raise ToolRefused(f"A statement may have {LONGEST} characters.")
    found = _MARKS.search(text)
    if found:
        what = "Only one statement" if found[0] == ";" else "No comment, escape or dollar quote"
        raise ToolRefused(f"{what} may be there: it holds {found[0]!r}.")
    if any(unicodedata.category(mark)[0] == "C" and mark not in "\n\t\r" for mark in text):
        raise ToolRefused("A statement may hold no invisible characters.")
    return text


def _parse(text: str) -> exp.Select:
    tokens = sqlglot.tokenize(text, read=_DIALECT)
    if not tokens or tokens[0].token_type not in (TokenType.SELECT, TokenType.WITH):
        raise ToolRefused("Only a SELECT may run.")
    if len(tokens) > MOST_TOKENS or _depth(tokens) > DEEPEST:
        raise ToolRefused("The statement is too long or too deep.")
    trees = sqlglot.parse(text, dialect=_DIALECT, error_level=ErrorLevel.IMMEDIATE)
    if len(trees) != 1 or type(trees[0]) is not exp.Select:
        raise ToolRefused("Only one plain SELECT may run.")
    return trees[0]


def _depth(tokens: list[Token]) -> int:
    """How deep the tokens nest at most; what repeats before an operand (NOT NOT …) counts too."""
    deepest = depth = run = 0
    for token in tokens:
        run = run + 1 if token.token_type in (TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE) else 0
        depth += token.token_type in (TokenType.L_PAREN, TokenType.CASE, TokenType.L_BRACKET)
        depth -= token.token_type in (TokenType.R_PAREN, TokenType.END, TokenType.R_BRACKET)
        deepest = max(deepest, depth + run)
    return deepest


def _require_allowed(tree: exp.Select, catalog: Catalog, parameters: frozenset[str]) -> None:
    functions = dict(grammar.FUNCTIONS[name] for name in catalog.functions)
    for node in tree.walk():
        kind = type(node)
        allowed = grammar.CLAUSES.get(kind) or grammar.VALUES.get(kind)
        if allowed is None:
            allowed = functions.get(kind, frozenset() if kind in grammar.VALUES else None)
        if allowed is None:
            raise ToolRefused(f"{_called(node)} may not be used.")
        extra = [name for name, value in node.args.items() if value not in (None, False, []) and name not in allowed]
        if extra:
            raise ToolRefused(f"{_called(node)} may not be used with {extra[0].strip('_')}.")
        _RULES.get(kind, _anything)(node)
        if isinstance(node, exp.Placeholder) and node.name not in parameters:
            raise ToolRefused(f"The statement has no parameter {node.name[:64]!r}.")


def _called(node: exp.Expr) -> str:
    """What people call the node's kind."""
    if isinstance(node, exp.Anonymous):
        return f"The function {node.name[:64]}"
    if isinstance(node, exp.Func):
        return f"The function {node.sql_name().lower()}"
    return f"A {node.key}"


def _anything(node: exp.Expr) -> None:
    """Being listed is enough."""


def _identifier(node: exp.Expr) -> None:
    name = node.name if node.args.get("quoted") else node.name.lower()
    if not node.name.isascii() or not grammar.NAME.fullmatch(name):
        raise ToolRefused(f"The name {node.name[:64]!r} may not be used.")
    node.set("this", name)


def _literal(node: exp.Expr) -> None:
    if not node.args.get("is_string") and not _NUMBER.fullmatch(node.name):
        raise ToolRefused("Numbers must be plain, of at most 15 digits.")


def _count_of_rows(node: exp.Expr) -> None:
    value = node.args.get("expression")
    if not isinstance(value, exp.Literal) or not value.name.isdigit():
        raise ToolRefused(f"{node.key.upper()} must be a plain number.")


def _join(node: exp.Expr) -> None:
    if not (node.args.get("on") or node.args.get("using")):
        raise ToolRefused("A join must say ON what or USING which columns.")
    if {node.text("kind").upper(), node.text("side").upper()} - grammar.JOINS:
        raise ToolRefused("Only inner, left, right and full joins may be used.")


def _select(node: exp.Expr) -> None:
    if node.parent is not None and type(node.parent) not in (exp.Subquery, exp.CTE, exp.Exists):
        raise ToolRefused("A SELECT may not stand there.")
    if node.parent is not None and node.args.get("with_"):
        raise ToolRefused("WITH may only begin the statement.")


def _subquery(node: exp.Expr) -> None:
    source = isinstance(node.parent, exp.From | exp.Join)
    if type(node.this) is not exp.Select or source != bool(node.args.get("alias")):
        raise ToolRefused("A subquery among the tables must be a SELECT with a name, elsewhere one without.")


def _table(node: exp.Expr) -> None:
    if not isinstance(node.this, exp.Identifier) or not isinstance(node.parent, exp.From | exp.Join):
        raise ToolRefused("Only tables may be read.")


def _star(node: exp.Expr) -> None:
    place = node.parent.parent if isinstance(node.parent, exp.Column) else node.parent
    if not isinstance(place, exp.Select) and not isinstance(node.parent, exp.Count):
        raise ToolRefused("A * may only stand for all columns, or be counted.")


def _type(node: exp.Expr) -> None:
    if node.this not in grammar.TYPES or not isinstance(node.parent, exp.Cast):
        raise ToolRefused("A value may only be cast to a plain number, text, date or truth value.")


_RULES: Final[dict[type[exp.Expr], Callable[[exp.Expr], None]]] = {
    exp.Identifier: _identifier,
    exp.Literal: _literal,
    exp.Limit: _count_of_rows,
    exp.Offset: _count_of_rows,
    exp.Join: _join,
    exp.Select: _select,
    exp.Subquery: _subquery,
    exp.Star: _star,
    exp.Table: _table,
    exp.DataType: _type,
}


@dataclass(slots=True)
class _Arguments:
    """Numbers the values that are bound."""

    names: list[str] = field(default_factory=list)

    def bind(self, name: str) -> exp.Expr:
        if name not in self.names:
            self.names.append(name)
        number = exp.Literal.number(self.names.index(name) + 1)
        return exp.Cast(this=exp.Parameter(this=number), to=_text_type())


def _write(tree: exp.Select, catalog: Catalog, names: Names, rows: int) -> Statement:
    """The statement of a checked tree, which is changed."""
    tables = frozenset(table.name for table in names.tables)
    if not tables or len(names.tables) > MOST_TABLES:
        raise ToolRefused(f"A statement must read one to {MOST_TABLES} tables.")
    columns, arguments = names.columns(tree), _Arguments()
    for placeholder in list(tree.find_all(exp.Placeholder)):
        placeholder.replace(arguments.bind(placeholder.name))
    for table in names.tables:
        table.replace(_own_rows(table, catalog, arguments))
    limit = tree.args.get("limit")
    most = min(rows, int(limit.expression.name)) if limit else rows
    tree.set("limit", exp.Limit(expression=exp.Literal.number(most)))
    sql = _text(tree)
    _require_as_meant(sql, catalog)
    return Statement(sql, tuple(arguments.names), tables, columns)


def _own_rows(table: exp.Table, catalog: Catalog, arguments: _Arguments) -> exp.Subquery:
    """`table` with nothing but its declared columns and, where rows have owners, the asking user's rows."""
    declared = catalog.tables[table.name]
    source = exp.Table(this=exp.to_identifier(table.name), db=exp.to_identifier(catalog.schema_name))
    rows = exp.Select(expressions=[exp.column(name) for name in declared.columns], from_=exp.From(this=source))
    if declared.owner:
        owner = exp.Cast(this=exp.column(declared.owner), to=_text_type())
        rows.set("where", exp.Where(this=exp.EQ(this=owner, expression=arguments.bind(USER))))
    alias = exp.TableAlias(this=exp.to_identifier(table.alias_or_name))
    return exp.Subquery(this=rows, alias=alias)


def _text_type() -> exp.DataType:
    return exp.DataType(this=exp.DataType.Type.TEXT, nested=False)


def _text(tree: exp.Expr) -> str:
    return tree.sql(dialect=_DIALECT, identify=True, comments=False, unsupported_level=ErrorLevel.RAISE)


def _require_as_meant(sql: str, catalog: Catalog) -> None:
    """Holds the final text itself against the allow-list: no word outside of quotes that is none of SQL's few or an
    allowed function's, and it reads as what it was written from."""
    words = grammar.WORDS | {name.upper() for name in catalog.functions}
    for token in sqlglot.tokenize(sql, read=_DIALECT):
        spelled = token.text.upper().split() if token.token_type not in _VALUES_OF_TEXT else []
        if any(word[0].isalpha() and word not in words for word in spelled):
            raise ToolRefused(f"{token.text[:64]} may not be used.")
    if _text(sqlglot.parse_one(sql, dialect=_DIALECT)) != sql:
        raise ToolRefused("The statement can be read in two ways.")
