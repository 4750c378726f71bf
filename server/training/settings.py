"""Which settings a run may name, so that a misspelt one is refused at once and not by the trainer, hours later.

The trainer's own types are the truth. `reward_settings.json` is made of them (`python -m trainer.reward.schema`) and a
test finds when it is not: a JSON Schema without defaults, of the few keywords that are known here.
"""

import difflib
import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from server.errors import InvalidRequest, Violation

LONGEST_TEXT = 1024
"""Characters of a setting that is a text, such as a path."""
GREATEST_WHOLE = 2**53
"""Beyond it JSON's numbers are not exact."""
_SCHEMA = Path(__file__).with_name("reward_settings.json")
_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "object": (dict, "must be a group of settings"),
    "string": (str, "must be a text"),
    "boolean": (bool, "must be true or false"),
    "number": ((int, float), "must be a number"),
    "integer": ((int, float), "must be a whole number"),
}

_BOUNDS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "minimum": ("at least", operator.ge),
    "exclusiveMinimum": ("more than", operator.gt),
    "maximum": ("at most", operator.le),
    "exclusiveMaximum": ("less than", operator.lt),
}


def checked(given: Mapping[str, Any], field: str = "config") -> dict[str, Any]:
    """The settings, with whole numbers as such. Raises InvalidRequest naming each that is unknown or out of range."""
    violations: list[Violation] = []
    found: dict[str, Any] = _value(dict(given), _schema(), field, violations)
    if violations:
        raise InvalidRequest(violations)
    return found


@cache
def _schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_SCHEMA.read_text())
    return loaded


def _value(given: Any, schema: Mapping[str, Any], field: str, violations: list[Violation]) -> Any:
    if name := schema.get("$ref"):
        schema = _schema()["$defs"][name.rpartition("/")[2]]
    wrong = _wrong(given, schema)
    if wrong:
        violations.append(Violation(field, wrong))
        return None
    if schema["type"] == "object":
        return dict(_members(given, schema["properties"], field, violations))
    return int(given) if schema["type"] == "integer" else given


def _members(
    given: Mapping[str, Any], known: Mapping[str, Any], field: str, violations: list[Violation]
) -> Iterator[tuple[str, Any]]:
    for name, each in given.items():
        if name in known:
            yield name, _value(each, known[name], f"{field}.{name}", violations)
        else:
            violations.append(Violation(f"{field}.{name[:64]}" if name.isprintable() else field, _unknown(name, known)))


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name[:64], known, n=1)
    if near:
        return f"is no setting here; did you mean {near[0]}?"
    groups = [group for group in known if name in _properties(known[group])]
    return f"is a setting of the group {groups[0]}" if groups else f"is no setting here: there are {', '.join(known)}"


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _schema()["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    properties: Mapping[str, Any] = found.get("properties", {})
    return properties


def _wrong(given: Any, schema: Mapping[str, Any]) -> str:
    """What is wrong with a value by itself; "" for nothing."""
    kind = schema["type"]
    types, demand = _TYPES[kind]
    if not isinstance(given, types) or (isinstance(given, bool) and kind != "boolean"):
        return demand
    if isinstance(given, str):
        return _wrong_text(given, schema)
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return _wrong_number(given, schema)
    return ""


def _wrong_text(given: str, schema: Mapping[str, Any]) -> str:
    if "enum" in schema and given not in schema["enum"]:
        return f"must be one of {', '.join(schema['enum'])}"
    if len(given) > LONGEST_TEXT:
        return f"must have {LONGEST_TEXT:,} characters at most"
    return "" if given.isprintable() else "must be one line without control characters"


def _wrong_number(given: float, schema: Mapping[str, Any]) -> str:
    if not math.isfinite(given):
        return "must be a finite number"
    if schema["type"] == "integer" and (given != int(given) or abs(given) > GREATEST_WHOLE):
        return "must be a whole number"
    for keyword, (words, holds) in _BOUNDS.items():
        if keyword in schema and not holds(given, schema[keyword]):
            return f"must be {words} {schema[keyword]:g}"
    return ""
