"""The part of SQL that a statement may be made of: everything that is not here is refused. Pure data.

By sqlglot's classes and their arguments, so that a clause nobody thought of (FOR UPDATE, INTO, LATERAL, TABLESAMPLE,
WITH RECURSIVE, a hint) is refused for not being listed, and by the words of the statement's final text.
"""

import re
from collections.abc import Mapping
from typing import Final

from sqlglot import exp

NAME: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
"""Any name in a statement or a catalog, lower case; none of Postgres's own tables has such a one."""

_ONE = frozenset({"this"})
_TWO = frozenset({"this", "expression"})
_MANY = frozenset({"this", "expressions"})

CLAUSES: Final[Mapping[type[exp.Expr], frozenset[str]]] = {
    exp.Select: frozenset(
        {"distinct", "expressions", "from_", "group", "having", "joins", "limit", "offset", "order", "where", "with_"}
    ),
    exp.With: frozenset({"expressions"}),
    exp.CTE: frozenset({"alias", "this"}),
    exp.From: _ONE,
    exp.Join: frozenset({"kind", "on", "side", "this", "using"}),
    exp.Subquery: frozenset({"alias", "this"}),
    exp.Table: frozenset({"alias", "db", "this"}),
    exp.TableAlias: _ONE,
    exp.Where: _ONE,
    exp.Having: _ONE,
    exp.Group: frozenset({"expressions"}),
    exp.Order: frozenset({"expressions"}),
    exp.Ordered: frozenset({"desc", "nulls_first", "this"}),
    exp.Distinct: frozenset({"expressions"}),
    exp.Limit: frozenset({"expression"}),
    exp.Offset: frozenset({"expression"}),
}
"""Clause -> the arguments that it may have."""

VALUES: Final[Mapping[type[exp.Expr], frozenset[str]]] = {
    exp.Alias: frozenset({"alias", "this"}),
    exp.Column: frozenset({"table", "this"}),
    exp.Identifier: frozenset({"quoted", "this"}),
    exp.Star: frozenset(),
    exp.Literal: frozenset({"is_string", "this"}),
    exp.Boolean: _ONE,
    exp.Null: frozenset(),
    exp.Paren: _ONE,
    exp.Placeholder: _ONE,
    exp.Case: frozenset({"default", "ifs", "this"}),
    exp.If: frozenset({"this", "true"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.DataType: _ONE,
    exp.Exists: _ONE,
    exp.In: frozenset({"expressions", "query", "this"}),
    exp.Between: frozenset({"high", "low", "this"}),
    exp.Is: frozenset({"expression", "negate", "this"}),
    exp.Not: _ONE,
    exp.Neg: _ONE,
    exp.DPipe: frozenset({"expression", "safe", "this"}),
    exp.Div: frozenset({"expression", "safe", "this", "typed"}),
    **dict.fromkeys((exp.And, exp.Or, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE), _TWO),
    **dict.fromkeys((exp.Like, exp.ILike, exp.Add, exp.Sub, exp.Mul, exp.Mod), _TWO),
}
"""Expression -> the arguments that it may have."""

FUNCTIONS: Final[Mapping[str, tuple[type[exp.Expr], frozenset[str]]]] = {
    "abs": (exp.Abs, _ONE),
    "avg": (exp.Avg, _ONE),
    "ceil": (exp.Ceil, _ONE),
    "coalesce": (exp.Coalesce, _MANY),
    "count": (exp.Count, frozenset({"big_int", "this"})),
    "floor": (exp.Floor, _ONE),
    "length": (exp.Length, _ONE),
    "lower": (exp.Lower, _ONE),
    "max": (exp.Max, _ONE),
    "min": (exp.Min, _ONE),
    "nullif": (exp.Nullif, _TWO),
    "round": (exp.Round, frozenset({"decimals", "this"})),
    "sum": (exp.Sum, _ONE),
    "trim": (exp.Trim, _ONE),
    "upper": (exp.Upper, _ONE),
}
"""The functions that a catalog may allow: without side effects, and none makes much out of little."""

TYPES: Final = frozenset(
    {
        exp.DataType.Type.INT,
        exp.DataType.Type.BIGINT,
        exp.DataType.Type.DECIMAL,
        exp.DataType.Type.DOUBLE,
        exp.DataType.Type.TEXT,
        exp.DataType.Type.BOOLEAN,
        exp.DataType.Type.DATE,
        exp.DataType.Type.TIMESTAMP,
        exp.DataType.Type.TIMESTAMPTZ,
    }
)
"""What may be cast to; none with a length, which could pad a value to a gigabyte."""

JOINS: Final = frozenset({"", "INNER", "OUTER", "LEFT", "RIGHT", "FULL"})

WORDS: Final = frozenset(
    """SELECT DISTINCT FROM WHERE GROUP BY HAVING ORDER ASC DESC NULLS FIRST LAST LIMIT OFFSET WITH AS
    JOIN INNER OUTER LEFT RIGHT FULL ON USING AND OR NOT IN IS NULL TRUE FALSE BETWEEN LIKE ILIKE EXISTS CASE WHEN THEN
    ELSE END CAST INT BIGINT DECIMAL DOUBLE PRECISION TEXT BOOLEAN DATE TIMESTAMP TIMESTAMPTZ""".split()  # noqa: SIM905
)
"""The words, apart from functions, that the final text may hold outside of quotes."""
