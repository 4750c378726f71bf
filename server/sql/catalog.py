"""What of a database may be asked: its tables, functions and declared questions, read from a TOML file.

What the file does not name can't be reached: a table, column or function is allowed by being here. docs/tools-sql.md
describes the format.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from server.errors import ConfigurationError
from server.sql.grammar import FUNCTIONS, NAME


def _plain_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no plain name: lower-case letters, digits and _, and not beginning with pg_")
    return name


Name = Annotated[str, AfterValidator(_plain_name)]
"""A name as Postgres keeps it without quotes. Others can't be declared; a view can rename them."""


def _phrase(text: str) -> str:
    text = " ".join(unicodedata.normalize("NFC", text).lower().split())
    if not text:
        raise ValueError("a phrase is empty")
    return text


Phrases = Annotated[tuple[Annotated[str, AfterValidator(_phrase)], ...], Field(min_length=1)]
"""One value, and the words for it: lower case, composed letters (NFC), single spaces."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Table(_Part):
    """A table or view. `owner` is the column that holds the user whose row it is; "" when the rows are everybody's."""

    description: str = ""
    owner: Annotated[str, AfterValidator(lambda name: _plain_name(name) if name else name)]
    columns: Mapping[Name, str] = Field(min_length=1)
    """What each column holds, for the policy that writes statements."""
    values: Mapping[Name, tuple[Phrases, ...]] = Field(default_factory=dict)
    """All values of a column that has few: each as it stands in the rows, and what else people call it, in whatever
    language. An answer that says another one than the rows do contradicts them."""

    @model_validator(mode="after")
    def _distinct(self) -> "Table":
        for column, values in self.values.items():
            if column not in self.columns:
                raise ValueError(f"values has {column!r}, which is no column")
            _require_unique((phrase for value in values for phrase in set(value)), f"for {column}, the phrase")
        return self


class Parameter(_Part):
    """What a question must name, such as an order number: the first place of the text where `pattern` matches, whatever
    its case. `value` is built from the match as by `re.Match.expand`, in capitals with `upper`."""

    pattern: str
    value: str = r"\g<0>"
    upper: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"it is no regular expression: {error}") from error
        return pattern


class DeclaredQuestion(_Part):
    """A question with its statement. Parameters stand in `sql` as `:name`, in `examples` as `{name}`.

    `row` is a row of the result as a line of evidence, `title` the evidence's title.
    """

    id: Name
    title: str
    examples: tuple[str, ...] = Field(min_length=1)
    sql: str
    row: str


class Catalog(_Part):
    """One database's. Users of other tenants than `tenant` are nobody to it. With `statements`, SELECTs beyond the
    declared questions may run too: written by the policy, or by whoever asks."""

    description: str
    schema_name: Name = Field("public", alias="schema")
    tenant: str = "default"
    statements: bool = True
    functions: tuple[str, ...] = ()
    tables: Mapping[Name, Table] = Field(min_length=1)
    parameters: Mapping[Name, Parameter] = Field(default_factory=dict)
    questions: tuple[DeclaredQuestion, ...] = ()

    @field_validator("functions")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in FUNCTIONS:
                raise ValueError(f"{name} can't be allowed; these can: {', '.join(sorted(FUNCTIONS))}")
        return names

    @model_validator(mode="after")
    def _unique(self) -> "Catalog":
        _require_unique((question.id for question in self.questions), "the question")
        return self

    def private(self, tables: Iterable[str]) -> bool:
        """Whether one of `tables` holds rows of users."""
        return any(self.tables[name].owner for name in tables)


def load(path: Path) -> Catalog:
    """The catalog in a file. Raises ConfigurationError, one sentence that names the place."""
    try:
        return Catalog(**tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"The catalog {path} can't be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The catalog {path} is no TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"The catalog {path} is wrong at {place or 'its top'}: {first['msg']}.") from error


def _require_unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name} is declared twice")
        seen.add(name)
