"""What the names in a statement stand for. A table's name means the catalog's table or an earlier WITH, nothing else; a
column's must be one of those: Postgres would also take `orders.row_to_json` for a call of the function."""

from sqlglot import exp

from server.sql.catalog import Catalog
from server.tools.tool import ToolRefused


class Names:
    """Resolves the names of one statement. `tables` are its places that mean a table of the catalog."""

    def __init__(self, tree: exp.Select, catalog: Catalog) -> None:
        """Raises ToolRefused for a table that is not declared."""
        self.tables: list[exp.Table] = []
        self._tree, self._catalog = tree, catalog
        self._named: dict[str, frozenset[str]] = {}
        """WITH's name -> its columns, as far as they were read: one sees only those before it."""
        self._relations: dict[str, frozenset[str]] = {}
        """What stands before a dot -> its columns."""
        self._outputs: dict[int, frozenset[str]] = {}
        clause = tree.args.get("with_")
        for part in clause.expressions if clause else ():
            self._add_named(part)
        self._read_all(tree)

    def columns(self, select: exp.Select) -> frozenset[str]:
        """The names in its result; what has no name of its own is left out."""
        return self._outputs[id(select)]

    def require_known_columns(self) -> None:
        """Raises ToolRefused for a column that no table or subquery of the statement has."""
        aliases = frozenset(alias.alias for alias in self._tree.find_all(exp.Alias))
        known = aliases.union(*self._relations.values())
        for column in self._tree.find_all(exp.Column):
            found = self._relations.get(column.table, frozenset()) if column.table else known - self._relations.keys()
            if not isinstance(column.this, exp.Star) and column.name not in found:
                raise ToolRefused(f"There is no column {column.name!r} to read.")
            if column.table and column.table not in self._relations:
                raise ToolRefused(f"There is no table {column.table!r} to read.")
        for join in self._tree.find_all(exp.Join):
            for shared in join.args.get("using") or ():
                if shared.name not in known:
                    raise ToolRefused(f"There is no column {shared.name!r} to join by.")

    def _add_named(self, part: exp.CTE) -> None:
        name = part.alias
        if name in self._catalog.tables or name in self._named:
            raise ToolRefused(f"WITH needs another name than {name!r}.")
        self._read_all(part.this)
        self._named[name] = self._outputs[id(part.this)]

    def _read_all(self, root: exp.Select) -> None:
        for select in root.find_all(exp.Select):
            self._read(select)

    def _read(self, select: exp.Select) -> frozenset[str]:
        """Its result's columns; its tables are looked up once."""
        if id(select) not in self._outputs:
            sources = [select.args["from_"].this] if select.args.get("from_") else []
            sources += [join.this for join in select.args.get("joins") or ()]
            here = {source.alias_or_name: self._add(source) for source in sources}
            everything = frozenset[str]().union(*here.values())
            self._outputs[id(select)] = frozenset[str]().union(
                *(_output(each, here, everything) for each in select.expressions)
            )
        return self._outputs[id(select)]

    def _add(self, source: exp.Expr) -> frozenset[str]:
        """A table or subquery of FROM, under its name. One name has one meaning throughout the statement."""
        columns = self._read(source.this) if isinstance(source, exp.Subquery) else self._look_up(source)
        name = source.alias_or_name
        if self._relations.setdefault(name, columns) != columns:
            raise ToolRefused(f"The name {name!r} stands for two things.")
        return columns

    def _look_up(self, source: exp.Expr) -> frozenset[str]:
        name, schema = source.name, source.text("db")
        if not schema and name in self._named:
            return self._named[name]
        if name not in self._catalog.tables or schema not in ("", self._catalog.schema_name):
            raise ToolRefused(f"There is no table {'.'.join(filter(None, (schema, name)))!r} to read.")
        assert isinstance(source, exp.Table)
        self.tables.append(source)
        return frozenset(self._catalog.tables[name].columns)


def _output(each: exp.Expr, here: dict[str, frozenset[str]], everything: frozenset[str]) -> frozenset[str]:
    if isinstance(each, exp.Star):
        return everything
    if isinstance(each, exp.Column) and isinstance(each.this, exp.Star):
        return here.get(each.table, frozenset())
    return frozenset({each.alias_or_name}) if isinstance(each, exp.Alias | exp.Column) else frozenset()
