"""Function calls in what a policy wrote, in the formats of the common chat templates. Pure.

- Hermes, Qwen: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, once a call
- Llama 3.1: `{"name": ..., "parameters": {...}}`, several parted by `;`, behind `<|python_tag|>` or nothing
- Mistral: `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`, later ones `[TOOL_CALLS]name[ARGS]{...}`

Special tokens may be missing: not every backend writes them.
"""

import json
import re
from collections.abc import Collection
from typing import Any, Final

_MARKS: Final = re.compile(r"</?tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>|```(?:json)?")
_NAMED: Final = re.compile(r"([\w.-]{1,64})\s*(?:\[CALL_ID\][^\[]{0,64})?\[ARGS\]\s*(?=\{)")
_DECODER: Final = json.JSONDecoder()
_BETWEEN: Final = " \t\r\n;,"


class Malformed(ValueError):
    """The text began a function call that can't be read, or calls what there is not."""


def called(text: str, known: Collection[str]) -> frozenset[str]:
    """The names that `text` calls; empty when it calls nothing. Raises Malformed."""
    marked = _MARKS.search(text) is not None
    found: set[str] = set()
    for part in _MARKS.split(text):
        found.update(_calls(part.strip(_BETWEEN)))
    if unknown := found - set(known):
        raise Malformed(f"the policy calls {min(unknown)!r}, which is no tool")
    if not found and (marked or '"name"' in text):
        raise Malformed("the policy begins a function call and makes none")
    return frozenset(found)


def _calls(part: str) -> set[str]:
    """Names of the calls that `part` consists of; prose has none. Raises Malformed for a call that breaks off."""
    names: set[str] = set()
    while True:
        if part.startswith(("{", "[{")):
            value, end = _json(part, 0)
            names.update(_name(each) for each in (value if isinstance(value, list) else [value]))
        elif named := _NAMED.match(part):
            names.add(named[1])
            _, end = _json(part, named.end())
        else:
            return names
        part = part[end:].lstrip(_BETWEEN)


def _json(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start`, and where it ends."""
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise Malformed("the policy writes a function call that is no JSON") from error


def _name(value: Any) -> str:
    inner = value.get("function", value) if isinstance(value, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else inner if isinstance(inner, str) else None
    if not isinstance(name, str):
        raise Malformed("the policy writes a function call without a name")
    return name
