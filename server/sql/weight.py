"""How much a statement becomes once Postgres has put the columns of subqueries and WITHs in place of their names: five
of them, each with a few dozen uses of the one before, are a short text and a tree that no memory holds, and the
planner heeds no timeout meanwhile. The same bounds a value's length, whoever doubles it."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlglot import exp

from server.sql.catalog import Catalog
from server.tools.tool import ToolRefused

HEAVIEST: Final = 1_000
"""Columns of tables and constants, every use counted."""
_UNNAMED: Final = ""
"""Stands for all columns without a name that the catalog's rules know; Postgres may still find them by one."""
_CLAUSES: Final = ("distinct", "where", "group", "having", "order")
_Weights = Mapping[str, int]


def require_light(tree: exp.Select, catalog: Catalog) -> None:
    """Raises ToolRefused for a statement heavier than HEAVIEST; its names must be known ones."""
    if _Scales(tree, catalog).whole(tree) > HEAVIEST:
        raise ToolRefused("The statement uses its columns too often.")


class _Scales:
    """Weighs the parts of one statement, each SELECT once."""

    def __init__(self, tree: exp.Select, catalog: Catalog) -> None:
        self._catalog = catalog
        clause = tree.args.get("with_")
        self._named: dict[str, exp.Select] = {part.alias: part.this for part in (clause.expressions if clause else ())}
        self._wholes: dict[int, int] = {}
        self._outputs: dict[int, _Weights] = {}

    def whole(self, select: exp.Select) -> int:
        """All its clauses, and all that it reads, as often as it reads it."""
        if id(select) not in self._wholes:
            joins = select.args.get("joins") or ()
            parts = [*select.expressions, *(select.args.get(name) for name in _CLAUSES)]
            parts = [part for part in (*parts, *(join.args.get("on") for join in joins)) if part]
            weight = sum(self._of(part, select) for part in parts)
            weight += sum(self._named_in(each.name, select) for join in joins for each in join.args.get("using") or ())
            weight += sum(self._source_whole(source) for source in _sources(select))
            self._wholes[id(select)] = weight
        return self._wholes[id(select)]

    def _source_whole(self, source: exp.Expr) -> int:
        read = self._select_of(source)
        return self.whole(read) if read else 1

    def _select_of(self, source: exp.Expr) -> exp.Select | None:
        """What a source of rows stands for; None for a table of the catalog."""
        if isinstance(source, exp.Subquery):
            assert isinstance(source.this, exp.Select)
            return source.this
        return None if source.text("db") else self._named.get(source.name)

    def _columns(self, source: exp.Expr) -> _Weights:
        read = self._select_of(source)
        return self._output(read) if read else dict.fromkeys(self._catalog.tables[source.name].columns, 1)

    def _output(self, select: exp.Select) -> _Weights:
        """The weights of its result's columns; of one name, all together."""
        if id(select) not in self._outputs:
            self._outputs[id(select)] = _added([self._given(each, select) for each in select.expressions])
        return self._outputs[id(select)]

    def _given(self, each: exp.Expr, select: exp.Select) -> _Weights:
        """The columns that one part of a SELECT's list gives."""
        if isinstance(each, exp.Star) or (isinstance(each, exp.Column) and isinstance(each.this, exp.Star)):
            of = each.text("table")
            return _added([self._columns(one) for one in _sources(select) if of in ("", one.alias_or_name)])
        name = each.alias_or_name if isinstance(each, exp.Alias | exp.Column) else _UNNAMED
        return {name: self._of(each, select)}

    def _of(self, node: exp.Expr, select: exp.Select) -> int:
        """The weight of an expression of `select`."""
        if isinstance(node, exp.Select):
            return self.whole(node)
        if isinstance(node, exp.Star | exp.Column):
            return self._of_column(node, select)
        if isinstance(node, exp.Identifier | exp.DataType):
            return 0
        parts = list(node.iter_expressions())
        weight = sum(self._of(part, select) for part in parts) if parts else 1
        copies = _copies(node)
        return weight + copies * self._of(node.this, select) if copies else weight

    def _of_column(self, node: exp.Expr, select: exp.Select) -> int:
        if isinstance(node, exp.Star) or isinstance(node.this, exp.Star):
            return sum(self._given(node, select).values()) if isinstance(node.parent, exp.Select) else 1
        return self._named_in(node.name, select, node.text("table"))

    def _named_in(self, name: str, select: exp.Select, table: str = "") -> int:
        """The weight of what a name means in `select`: in the nearest scope that has it."""
        heaviest = 1
        scope: exp.Select | None = select
        while scope is not None:
            here = _added([self._columns(one) for one in _sources(scope) if table in ("", one.alias_or_name)])
            heaviest = max(heaviest, here.get(_UNNAMED, 1), here.get(name, 1))
            if name in here:
                break
            scope = _around(scope)
        return heaviest


def _sources(select: exp.Select) -> list[exp.Expr]:
    """What stands in FROM and JOIN."""
    first = select.args.get("from_")
    return [*([first.this] if first else []), *(join.this for join in select.args.get("joins") or ())]


def _around(select: exp.Select) -> exp.Select | None:
    """The SELECT whose rows this one may name too: the next one around, but not that which it is itself a source of."""
    holder = select.parent
    if isinstance(holder, exp.CTE):
        return None
    around = select.find_ancestor(exp.Select)
    is_source = holder is not None and isinstance(holder.parent, exp.From | exp.Join) and holder.arg_key == "this"
    return _around(around) if is_source and around else around


def _copies(node: exp.Expr) -> int:
    """How often Postgres writes the operand once more: for both ends of a BETWEEN, and each IN that is no constant."""
    if isinstance(node, exp.In):
        return sum(each.find(exp.Column) is not None for each in node.expressions)
    return int(isinstance(node, exp.Between))


def _added(columns: Sequence[_Weights]) -> _Weights:
    """Of columns with one name the sum: after a FULL JOIN USING the name means them all."""
    found: dict[str, int] = {}
    for each in columns:
        for name, weight in each.items():
            found[name] = found.get(name, 0) + weight
    return found
