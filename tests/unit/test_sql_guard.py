"""Which statements the SQL tool's guard lets through, and what becomes of them."""

from itertools import pairwise

import pytest
import sqlglot
from hypothesis import given, settings
from sqlglot import exp

from server.sql.catalog import load
from server.sql.guard import LONGEST, USER, check, is_statement, reads_as_sql
from server.tools.sql import SAMPLE_CATALOG
from server.tools.tool import ToolRefused
from tests.statements import FORBIDDEN, STATEMENTS

CATALOG = load(SAMPLE_CATALOG)
ROWS = 10


def written(text: str) -> str:
    return check(text, CATALOG, ROWS).sql


@pytest.mark.parametrize("statement", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_forbidden_statement_is_refused_with_a_reason(statement: str) -> None:
    with pytest.raises(ToolRefused) as refused:
        written(statement)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT order_id FROM orders -- WHERE user_id = 'x'",
        "SELECT order_id /* hidden */ FROM orders",
        "SELECT order_id FROM orders WHERE status = $$packed$$",
        "SELECT order_id FROM orders WHERE status = E'packed'",
        "SELECT order_id FROM orders WHERE status = U&'packed'",
        "SELECT order_id FROM orders WHERE status = N'packed'",
        r"SELECT order_id FROM orders WHERE status = 'a\' OR 1=1'",
        "SELECT order_id FROM orders WHERE status = $1",
        "SELECT order_id FROM orders WHERE status = :status",
        "SELECT order_id FROM orders WHERE status = ?",
        "SELECT order_id FROM оrders",  # a Cyrillic letter
        "SELECT order_id FROM ｏrders",  # a full-width one
        "SELECT \u212aey FROM orders",  # the Kelvin sign is a k in lower case
        'SELECT order_id FROM "Orders"',
        'SELECT order_id FROM U&"orders"',
        'SELECT "order_id\u200b" FROM orders',
        "SELECT\u202e order_id FROM orders",
        "SELECT order_id FROM orders\x00",
    ],
)
def test_comments_escapes_placeholders_and_lookalikes_are_refused(statement: str) -> None:
    with pytest.raises(ToolRefused):
        written(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM secrets",
        "SELECT * FROM public.orders",
        "SELECT * FROM ratchet.shop.orders",
        "SELECT user_id FROM orders",
        "SELECT o.email FROM orders o JOIN customers c USING (customer)",
        "SELECT email FROM orders",
        "WITH secrets AS (SELECT * FROM secrets) SELECT * FROM secrets",
        "WITH a AS (SELECT * FROM secrets), secrets AS (SELECT 1 AS n) SELECT * FROM a",
        "WITH orders AS (SELECT 1 AS n) SELECT n FROM orders",
        "SELECT * FROM orders WHERE EXISTS (WITH t AS (SELECT 1 AS n) SELECT n FROM t)",
        "SELECT 1 AS row_to_json, o.row_to_json FROM orders o",
        "SELECT lower FROM orders lower",
        "SELECT 1 AS n",
    ],
)
def test_a_name_means_what_the_catalog_declares_or_nothing(statement: str) -> None:
    with pytest.raises(ToolRefused):
        written(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM orders, customers",
        "SELECT * FROM orders CROSS JOIN customers",
        "SELECT * FROM orders NATURAL JOIN customers",
        "SELECT a.* FROM orders a JOIN orders b ON 1=1 JOIN orders c ON 1=1 JOIN orders d ON 1=1 JOIN orders ON 1=1",
        "SELECT order_id FROM orders UNION ALL SELECT order_id FROM orders",
        "SELECT order_id FROM orders LIMIT (SELECT count(*) FROM orders)",
        "SELECT order_id FROM orders FETCH FIRST 3 ROWS WITH TIES",
        "SELECT CAST(status AS CHAR(100000000)) FROM orders",
        "SELECT CAST(total AS NUMERIC(1000, 500)) FROM orders",
        "SELECT sum(total) OVER () FROM orders",
        "SELECT " + "(" * 200 + "1" + ")" * 200 + " FROM orders",
        "SELECT " + "NOT " * 300 + "true FROM orders",
        "SELECT " + "- " * 300 + "1 FROM orders",
        "SELECT " + "CASE WHEN true THEN " * 60 + "1" + " END" * 60 + " FROM orders",
        "SELECT " + "1+" * 900 + "1 FROM orders",
        "SELECT order_id FROM orders WHERE status IN (" + "'a'," * 600 + "'a')",
        "SELECT '" + "x" * LONGEST + "' FROM orders",
        "SELECT 9999999999999999999999 FROM orders",
        "(" * 100_000,
        "",
        " ; ",
    ],
    ids=lambda text: text[:40],
)
def test_what_could_cost_much_is_refused(statement: str) -> None:
    with pytest.raises(ToolRefused):
        written(statement)


def chain(use: str, levels: int = 5) -> str:
    """A statement with a WITH for each level, which takes its x from the one before."""
    parts = [f"w{n + 1} AS (SELECT {use} AS x FROM w{n})" for n in range(levels)]
    return f"WITH w0 AS (SELECT order_id AS x FROM orders), {', '.join(parts)} SELECT x FROM w{levels} LIMIT 1"


def nested(use: str, levels: int = 5) -> str:
    """The same with subqueries."""
    text = "SELECT order_id AS x FROM orders"
    for n in range(levels):
        text = f"SELECT {use} AS x FROM ({text}) s{n}"
    return text


TEN = "||".join("x" * 10)
QUOTED = '"coalesce"'
HEAVY = {
    "texts": chain(TEN),
    "numbers": chain("+".join("x" * 10)),
    "coalesce": chain(f"coalesce({','.join('x' * 10)})"),
    "case": chain("CASE" + " WHEN x = x THEN x" * 3 + " ELSE x END"),
    "case of a value": chain("CASE x" + " WHEN x THEN x" * 4 + " END"),
    "a function of few": chain("lower(x || upper(x)) || length(x) || round(x) || x", 6),
    "between": chain("(x BETWEEN x AND x) BETWEEN (x IS NULL) AND (x IS NULL)"),
    "in": chain("x IN (x, x, x, x, x)"),
    "nested subqueries": nested(TEN),
    "of a named subquery": nested("||".join(["s.x"] * 10)).replace(") s0", ") s").replace(") s1", ") s")
    .replace(") s2", ") s").replace(") s3", ") s").replace(") s4", ") s"),
    "in a filter": f"SELECT x FROM ({nested(TEN, 2)}) s WHERE {TEN} = 'x'",
    "in an order": f"SELECT x FROM ({nested(TEN, 2)}) s ORDER BY {TEN}",
    "in a group": f"SELECT count(*) FROM ({nested(TEN, 2)}) s GROUP BY {TEN}",
    "in a join": f"SELECT s.x FROM ({nested(TEN, 2)}) s JOIN orders ON order_id = {TEN}",
    "in a subquery's filter": f"SELECT x FROM ({nested(TEN, 2)}) s"
    f" WHERE EXISTS (SELECT status FROM orders WHERE {TEN} = city)",
    "a subquery as a value": nested("(SELECT max(x || x || x) FROM customers) || x || x || x || x", 4),
    "all columns": f"WITH a AS (SELECT *, {TEN.replace('x', 'city')} AS x FROM orders),"
    f" b AS (SELECT *, {TEN} AS y FROM a), c AS (SELECT *, {TEN.replace('x', 'y')} AS z FROM b) SELECT * FROM c",
    "a column without a name of its own": f"WITH a AS (SELECT coalesce({TEN.replace('x', 'city')}) FROM orders),"
    f" b AS (SELECT coalesce({TEN.replace('x', QUOTED)}) FROM a),"
    f" c AS (SELECT {TEN.replace('x', QUOTED)} AS x FROM b) SELECT x, 1 AS {QUOTED} FROM c",
    "a with used several times": "WITH a AS (SELECT city FROM orders)"
    + "".join(
        f", {new} AS (SELECT p.city FROM {old} p JOIN {old} q USING (city) JOIN {old} r USING (city))"
        for old, new in pairwise("abcdefg")
    )
    + " SELECT city FROM g",
}  # fmt: skip


@pytest.mark.parametrize("statement", HEAVY.values(), ids=HEAVY)
def test_a_short_text_that_becomes_a_huge_statement_is_refused(statement: str) -> None:
    """The planner would take all memory for it, whatever the timeout."""
    with pytest.raises(ToolRefused, match="too often"):
        written(statement)


@pytest.mark.parametrize(
    "statement",
    [
        chain(TEN, 2),
        chain("x", 20),
        nested("lower(x)", 4),
        f"SELECT order_id FROM orders WHERE order_id IN ({', '.join(['1'] * 180)})",
        "SELECT count(*), sum(total) FROM (SELECT DISTINCT * FROM orders WHERE total BETWEEN 1 AND 9) s",
        "WITH a AS (SELECT o.*, c.city AS home FROM orders o JOIN customers c USING (customer)) SELECT p.* FROM a p"
        " JOIN a q ON p.home = q.city WHERE p.total > (SELECT avg(total) FROM a) ORDER BY p.total DESC, q.day",
        "SELECT o.city AS home FROM orders o WHERE EXISTS (SELECT email FROM customers c WHERE c.city = o.city)"
        " ORDER BY home",
    ],
    ids=lambda text: text[:40],
)
def test_a_statement_of_usual_weight_passes(statement: str) -> None:
    assert written(statement)


def test_every_table_becomes_its_declared_columns_of_the_asking_users_rows() -> None:
    statement = check("SELECT o.city, c.city AS home FROM orders o JOIN customers AS c USING (customer)", CATALOG, ROWS)
    assert statement.sql.count('WHERE CAST("user_id" AS TEXT) = CAST($1 AS TEXT)) AS') == 2
    assert '(SELECT "customer", "email", "city" FROM "shop"."customers"' in statement.sql
    assert (statement.arguments, statement.tables) == ((USER,), {"orders", "customers"})
    assert statement.columns == {"city", "home"}


def test_the_text_can_only_lower_the_limit() -> None:
    assert written("SELECT order_id FROM orders LIMIT 1000000").endswith(" LIMIT 10")
    assert written("SELECT order_id FROM orders LIMIT 3").endswith(" LIMIT 3")
    assert written("SELECT order_id FROM orders;").endswith(" LIMIT 10")


def test_a_value_is_bound_never_written_into_the_statement() -> None:
    names = frozenset({"order_id", "unused"})
    statement = check("SELECT total FROM orders WHERE order_id = :order_id", CATALOG, ROWS, names)
    assert '"order_id" = CAST($1 AS TEXT)' in statement.sql
    assert statement.arguments == ("order_id", USER)


def test_texts_keep_their_quotes_and_their_vietnamese() -> None:
    assert "'it''s; đã giao'" not in written("SELECT order_id FROM orders WHERE status = 'it''s đã giao'")
    assert "'it''s đã giao'" in written("SELECT order_id FROM orders WHERE status = 'it''s đã giao'")


def test_only_functions_that_the_catalog_allows_may_be_called() -> None:
    bare = CATALOG.model_copy(update={"functions": ()})
    with pytest.raises(ToolRefused, match="count"):
        check("SELECT count(*) FROM orders", bare, ROWS)
    assert "COUNT(*)" in check("SELECT count(*) FROM orders", CATALOG, ROWS).sql


def test_a_table_of_everybody_is_read_whole() -> None:
    table = CATALOG.tables["orders"].model_copy(update={"owner": ""})
    open_to_all = CATALOG.model_copy(update={"tables": {"orders": table}})
    statement = check("SELECT order_id FROM orders", open_to_all, ROWS)
    assert "WHERE" not in statement.sql
    assert statement.arguments == ()


def test_what_the_guard_lets_through_is_one_select_over_the_allowed_tables() -> None:
    passed: list[str] = []

    @settings(max_examples=80)
    @given(STATEMENTS)
    def holds(text: str) -> None:
        try:
            statement = check(text, CATALOG, ROWS)
        except ToolRefused:
            return
        passed.append(text)
        _require_harmless(statement.sql)

    holds()
    assert len(passed) > 10


def _require_harmless(sql: str) -> None:
    [tree] = sqlglot.parse(sql, dialect="postgres")
    assert type(tree) is exp.Select
    named = {each.alias for each in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if table.db:
            assert (table.db, table.catalog) == ("shop", "")
            assert table.name in CATALOG.tables
            select = table.find_ancestor(exp.Select)
            assert select is not None
            assert select.args["where"].sql() == 'WHERE CAST("user_id" AS TEXT) = CAST(@1 AS TEXT)'
            assert {column.name for column in select.expressions} == CATALOG.tables[table.name].columns.keys()
        else:
            assert table.name in named
    assert not list(tree.find_all(exp.Anonymous, exp.Into, exp.Lock, exp.Command, exp.Lateral, exp.Union))
    limit = tree.args["limit"]
    assert int(limit.expression.name) <= ROWS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DELETE FROM orders", True),
        ("select pg_sleep(10)", True),
        ("  WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x", True),
        ("SELECT set_config('a', 'b', true)", True),
        ("Explain analyze select 1", True),
        ("COPY orders TO STDOUT", True),
        ("select status from orders", True),
        ("SELECT status FROM shop.orders", True),
        ("Delete my account please", False),
        ("Delete from my account the address", False),
        ("Delete from my account", False),
        ("Select a size for me", False),
        ("select size: large", False),
        ("select all orders (from 2024)", False),
        ("Select tents from sale", False),
        ("Update my address to Hue", False),
        ("Update my set of tents", False),
        ("Set language = vi", False),
        ("Insert into my cart a tent", False),
        ("With which carrier do you ship?", False),
        ("Copy of my invoice to me, please", False),
        ("Copy that to stdout", False),
        ("Explain (please) the warranty", False),
        ("Values (our company)", False),
        ("Call me (please)", False),
        ("Do $10 vouchers exist?", False),
        ("Where is my order TT-12345?", False),
        ("x" * 65_536, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_statement_is_told_from_a_sentence(text: str, expected: bool) -> None:
    assert is_statement(text, CATALOG.tables) is expected


@pytest.mark.parametrize("statement", [*FORBIDDEN.values(), "(" * 1_000, "SELECT " + "1," * 5_000])
def test_what_a_parser_takes_for_sql_or_cannot_tell_stays_sql(statement: str) -> None:
    assert reads_as_sql(statement)


@pytest.mark.parametrize(
    "text",
    [
        "Select all orders (from 2024)",
        "Select the orders from last week; where are they?",
        "Select a gift for my mom's birthday from your tents",
        "Select my order from orders and tell me where it is",
        "With love as (always) I ask where my order is",
        "Create table for two",
    ],
)
def test_a_sentence_that_looks_like_sql_does_not_read_as_sql(text: str) -> None:
    assert not reads_as_sql(text)
