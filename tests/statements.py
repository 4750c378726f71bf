"""Statements for tests of the SQL tool: what must not run, and a generator of statements near the allowed ones."""

import re

from hypothesis import strategies as st

FORBIDDEN = {
    "delete": "DELETE FROM orders",
    "update": "UPDATE orders SET total = 0",
    "insert": "INSERT INTO orders (order_id) VALUES ('TT-1')",
    "merge": "MERGE INTO orders USING customers ON true WHEN MATCHED THEN DELETE",
    "truncate": "TRUNCATE orders",
    "drop": "DROP TABLE orders",
    "create": "CREATE TABLE copy AS SELECT * FROM orders",
    "create temporary": "CREATE TEMP TABLE copy (a int)",
    "into": "SELECT * INTO copy FROM orders",
    "for update": "SELECT order_id FROM orders FOR UPDATE",
    "stacked": "SELECT order_id FROM orders; DELETE FROM orders",
    "stacked set": "SET ratchet.user_id = 'hoa.le'; SELECT order_id FROM orders",
    "pg_sleep": "SELECT pg_sleep(10) FROM orders",
    "pg_sleep of a schema": "SELECT pg_catalog.pg_sleep(10) FROM orders",
    "pg_sleep in a filter": "SELECT order_id FROM orders WHERE pg_sleep(10) IS NULL",
    "pg_read_file": "SELECT pg_read_file('/etc/passwd') FROM orders",
    "pg_ls_dir": "SELECT * FROM pg_ls_dir('/')",
    "lo_import": "SELECT lo_import('/etc/passwd') FROM orders",
    "dblink": "SELECT * FROM dblink('dbname=ratchet', 'SELECT 1') AS t(a int)",
    "query_to_xml": "SELECT query_to_xml('SELECT * FROM shop.orders', true, true, '') FROM orders",
    "table_to_xml": "SELECT table_to_xml('shop.orders', true, true, '') FROM orders",
    "database_to_xml": "SELECT database_to_xml(true, true, '')",
    "set_config": "SELECT set_config('ratchet.user_id', 'hoa.le', true) FROM orders",
    "set_config before": "WITH a AS (SELECT set_config('ratchet.user_id', 'hoa.le', true)) SELECT * FROM a, orders",
    "current_setting": "SELECT current_setting('ratchet.user_id') FROM orders",
    "advisory lock": "SELECT pg_advisory_lock(1) FROM orders",
    "backend": "SELECT pg_terminate_backend(1) FROM orders",
    "notify": "SELECT pg_notify('a', 'b') FROM orders",
    "writing cte": "WITH gone AS (DELETE FROM orders RETURNING order_id) SELECT order_id FROM gone",
    "recursive cte": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t, orders",
    "generate_series": "SELECT generate_series(1, 1000000000) FROM orders",
    "series as a table": "SELECT * FROM generate_series(1, 1000000000) AS t",
    "repeat": "SELECT repeat(status, 1000000000) FROM orders",
    "regular expression": "SELECT order_id FROM orders WHERE status ~ '(a+)+$'",
    "copy out": "COPY orders TO STDOUT",
    "copy to a file": "COPY orders TO '/tmp/orders'",
    "copy to a program": "COPY orders TO PROGRAM 'cat'",
    "explain analyze": "EXPLAIN ANALYZE SELECT order_id FROM orders",
    "do": "DO $$ BEGIN PERFORM 1; END $$",
    "call": "CALL something(1)",
    "set": "SET ratchet.user_id = 'hoa.le'",
    "set role": "SET ROLE ratchet",
    "alter role": "ALTER ROLE CURRENT_USER SET ratchet.user_id = 'hoa.le'",
    "information_schema": "SELECT * FROM information_schema.tables",
    "pg_class": "SELECT relname FROM pg_catalog.pg_class",
    "pg_class without a schema": "SELECT relname FROM pg_class",
    "pg_authid": "SELECT rolpassword FROM pg_authid",
    "pg_roles": "SELECT rolname FROM pg_roles",
    "pg_stat_activity": "SELECT query FROM pg_stat_activity",
    "system column": "SELECT ctid FROM orders",
    "system column of a name": "SELECT o.xmin FROM orders o",
    "whole row": "SELECT orders FROM orders",
    "row as a function's argument": "SELECT orders.row_to_json FROM orders",
    "json of a row": "SELECT row_to_json(o) FROM orders o",
    "lateral": "SELECT * FROM orders o, LATERAL (SELECT pg_sleep(1)) AS x",
    "regclass": "SELECT 'pg_authid'::regclass FROM orders",
    "version": "SELECT version() FROM orders",
}
"""By what is forbidden. Each is refused by the guard; and, where it is more than a slip, by the database alone."""

_PLAIN = {
    "n": ("total", "o.total", "orders.quantity", "quantity", "1", "1.5", "NULL"),
    "t": ("status", "o.order_id", "orders.customer", "customer", "'TT-12345'", "'đã giao'", "'it''s'", "NULL"),
    "b": ("true", "false", "NULL"),
}
_HOSTILE = (
    "pg_sleep(0)", "set_config('ratchet.user_id', 'hoa.le', true)", "current_setting('ratchet.user_id')",
    "current_user", "row_to_json(o)", "o.row_to_json", "orders", "o", "(o).total", "user_id", "ctid", "o.tableoid",
    "secret", "lower", "generate_series(1, 3)", "repeat('a', 9)", "'pg_authid'::regclass", "ARRAY[1]", "E'a'",
    "U&'a'", "$$a$$", "$1", ":n", "DATE '2024-01-01'", "INTERVAL '1 day'", "current_date", "sum(total) OVER ()",
    "count(*) FILTER (WHERE true)", "*", "status COLLATE \"C\"", "x.y.z", "shop.orders.total", '"Total"', "tоtal",
    "1; DELETE FROM orders", "1 -- ", "/* */ 1", "(SELECT 1 FROM secrets)",
    "(SELECT relname FROM pg_class LIMIT 1)", "asking_user()", "shop.asking_user()", ")", "(",
)  # fmt: skip
_FORMS = {
    "n": (
        "({n} + {n})", "({n} - {n})", "({n} * {n})", "({n} / 7)", "({n} % 7)", "-({n})", "length({t})", "round({n})",
        "coalesce({n}, {n})", "({n})::int", "CAST({n} AS bigint)", "CASE WHEN {b} THEN {n} ELSE {n} END", "({n})",
        "(SELECT max({n}) FROM orders o)", "(SELECT count(DISTINCT {t}) FROM orders JOIN orders o USING (customer))",
    ),
    "t": (
        "({t} || {t})", "lower({t})", "upper({t})", "coalesce({t}, {t})", "({n})::text", "CASE WHEN {b} THEN {t} END",
        "({b})::text", "(SELECT min({t}) FROM shop.orders o)", "({t})",
    ),
    "b": (
        "({n} = {n})", "({t} <> {t})", "({n} < {n})", "({t} IS NOT NULL)", "({t} LIKE {t})", "({t} ILIKE '%a%')",
        "({n} IN ({n}, 1))", "({n} BETWEEN {n} AND 9)", "NOT ({b})", "({b} AND {b})", "({b} OR {b})", "({b} IS TRUE)",
        "EXISTS (SELECT {n} FROM orders o WHERE {b})", "({t} IN (SELECT {t} FROM orders o))", "({t} NOT IN ({t}, {t}))",
    ),
}  # fmt: skip
"""Expressions by kind: number, text, truth value."""
_FRAMES = (
    "SELECT {n}, {t} AS a FROM orders JOIN shop.orders o USING (order_id) WHERE {b}",
    "SELECT o.* FROM orders o JOIN orders ON {b} WHERE {b} ORDER BY {n} DESC NULLS LAST LIMIT 1000",
    "SELECT o.status, count(*) FROM orders o LEFT JOIN customers c USING (customer) GROUP BY o.status HAVING {b}",
    "SELECT DISTINCT {t} FROM orders o WHERE {b}",
    "WITH t AS (SELECT {t} AS a, {n} AS b FROM orders o) SELECT a, max(b) FROM t WHERE {b} GROUP BY a",
    "SELECT s.a FROM (SELECT {t} AS a, {n} AS b FROM orders o) s WHERE s.a LIKE '%a%' OR s.b > 1",
    "SELECT * FROM customers",
)
_HOSTILE_FRAMES = (
    "SELECT {n} FROM secrets WHERE {b} AND {b}",
    "SELECT {n} FROM pg_catalog.pg_class WHERE {b} AND {b}",
    "SELECT {n} FROM orders o, customers c WHERE {b} AND {b}",
    "SELECT {n} FROM orders o, LATERAL (SELECT {b}) l WHERE {b}",
    "SELECT {n} FROM ONLY orders o TABLESAMPLE SYSTEM (1) WHERE {b} AND {b} FOR UPDATE",
    "SELECT {n} INTO copy FROM orders o WHERE {b} AND {b}",
    "SELECT {n} FROM orders o WHERE {b} UNION SELECT {b} FROM customers c",
    "WITH RECURSIVE t AS (SELECT {n} AS a FROM t) SELECT {b} FROM t WHERE {b}",
    "WITH t AS (DELETE FROM orders o WHERE {n} RETURNING {b}) SELECT {b} FROM t",
    "SELECT {n} FROM generate_series(1, 3) o WHERE {b} AND {b}",
    "SELECT {n} FROM orders o GROUP BY ROLLUP ({b}, {b})",
    "DELETE FROM orders o WHERE {n} AND {b} AND {b}",
)


@st.composite
def _values(draw: st.DrawFn, kind: str, depth: int = 2) -> str:
    """An expression; one in thirty leaves is none that may run."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(_HOSTILE if draw(st.integers(0, 29)) == 29 else _PLAIN[kind]))
    return _filled(draw, draw(st.sampled_from(_FORMS[kind])), depth - 1)


@st.composite
def _statements(draw: st.DrawFn) -> str:
    frames = _HOSTILE_FRAMES if draw(st.integers(0, 7)) == 7 else _FRAMES
    return _filled(draw, draw(st.sampled_from(frames)), 2)


def _filled(draw: st.DrawFn, form: str, depth: int) -> str:
    return re.sub(r"\{(\w)\}", lambda slot: draw(_values(slot[1], depth)), form)


STATEMENTS = st.one_of(_statements(), _statements(), st.text(max_size=80).map(lambda text: "SELECT " + text))
"""Texts of which a good part may run and the others nearly may."""
