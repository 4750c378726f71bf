"""A run's settings as people give them: a file, and single settings by name."""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainer.errors import TrainerError
from trainer.reward.config import RewardConfig

_DEMANDS: Final[Mapping[str, str]] = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    "string_type": "a text",
    "literal_error": "{expected}",
}
"""By pydantic's types of errors."""


def from_file(path: Path) -> Mapping[str, Any]:
    """The settings of a TOML file, in tables or by dotted names. Raises TrainerError."""
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TrainerError(f"{path} can't be read as TOML: {error}.") from None


def assignment(text: str) -> tuple[str, Any]:
    """`train.learning_rate=1e-4` as a name and a value. Raises TrainerError."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise TrainerError(f"{text!r} sets nothing: write NAME=VALUE, such as train.learning_rate=1e-4.")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value  # a word


def gathered(*asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for, in groups as `RewardConfig` has them; the last one wins.

    Names are dotted (`train.learning_rate`), in tables, or the last part alone (`learning_rate`). Raises TrainerError
    for unknown ones.
    """
    known = dict(_settings(RewardConfig))
    values: dict[str, Any] = {}
    for name, value in (each for mapping in asked for each in _flat(mapping)):
        *parts, last = _resolved(name, known).split(".")
        inner = values
        for part in parts:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return values


def configured(*asked: Mapping[str, Any]) -> RewardConfig:
    """The defaults with what is asked for (see `gathered`). Raises TrainerError also for values that can't be used."""
    try:
        return RewardConfig.model_validate(gathered(*asked))
    except ValidationError as error:
        raise TrainerError(_refusal(error.errors()[0])) from None


def _refusal(error: ErrorDetails) -> str:
    """What is wrong with a value, in a sentence."""
    where, bounds = ".".join(map(str, error["loc"])), error.get("ctx", {})
    demand = _DEMANDS.get(error["type"], "").format(**bounds)
    if not demand:
        return f"The setting {where} can't be used: {error['msg'][:1].lower()}{error['msg'][1:]}."
    return f"The setting {where} can't be used: it must be {demand}, not {error['input']!r}."


def _resolved(name: str, known: Mapping[str, str]) -> str:
    if name in known:
        return name
    if name in known.values():
        return next(full for full, last in known.items() if last == name)
    close = difflib.get_close_matches(name, [*known, *known.values()], n=1)
    raise TrainerError(f"{name} is no setting of a run{f': did you mean {close[0]}?' if close else '.'}")


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, last part) of each setting."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _settings(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", name


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
