"""What can't be true when rows are: the other values of their columns, where the catalog declares all there are."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from server.sql.catalog import Catalog, Phrases
from server.sql.rows import told

_WORD = re.compile(r"[^\W_]+")


def excluded(catalog: Catalog, tables: Collection[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Phrases (lower case, NFC) for the values that no row has, of the columns of `tables` that are in the rows.

    Nothing of a column in which a row has none of the declared values; no phrase that stands as whole words in a row,
    or in another phrase for what a row has.
    """
    right: list[Phrases] = []
    wrong: list[Phrases] = []
    for table in sorted(tables):
        for column, values in catalog.tables[table].values.items():
            had = {_plain(row[column]) for row in rows if column in row}
            if had <= {value[0] for value in values}:
                right += [value for value in values if value[0] in had]
                wrong += [value for value in values if had and value[0] not in had]
    texts = {_plain(value) for row in rows for value in row.values()}.union(*right)
    held = "|".join(map(_words, texts))
    phrases = dict.fromkeys(phrase for value in wrong for phrase in value)
    return tuple(phrase for phrase in phrases if _words(phrase) not in held)


def _plain(value: object) -> str:
    """As the catalog has its phrases."""
    return " ".join(unicodedata.normalize("NFC", told(value)).lower().split())


def _words(text: str) -> str:
    """Between spaces, so that one text holds another only by whole words."""
    return f" {' '.join(_WORD.findall(text))} "
