"""Checks requests against the rules in the protos (buf.validate), and nothing else."""

import re
from collections.abc import Iterator

from google.protobuf.message import Message
from protovalidate import Validator

from server.errors import InvalidRequest, Violation

_validator = Validator()

_WORDS = {"required": "is required", "enum.defined_only": "is not a known value"}
"""Rules whose own message would not tell a caller what to do."""
_CLEAN = r"^[^\x00-\x08\x0B\x0C\x0E-\x1F\x7F]*$"
_PATTERNS = {
    r"^[^\x00-\x1F\x7F]*$": "must be one line without control characters",
    _CLEAN: ("must not contain control characters other than tab, line feed and carriage return"),
    r"^[A-Za-z0-9._-]*$": "must be letters, digits, dots, hyphens and underscores",
    r"^([a-z][a-z0-9_]*)?$": "must be small letters, digits and underscores, a letter first, or empty",
    r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$": "must be a UUID in small letters, or empty",
    r"^[a-z][a-z0-9_]*$": "must be small letters, digits and underscores, a letter first",
}
"""The patterns of the protos, in words."""


def require_valid(request: Message) -> None:
    """Raises InvalidRequest naming each field that breaks a rule."""
    found = _validator.collect_violations(request)
    if found:
        raise InvalidRequest([_violation(each) for each in found])


def require_clean(request: Message) -> None:
    """As `require_valid`; besides, no text of the request may have control characters beyond tabs and line ends, which
    Postgres does not keep and no terminal should be sent."""
    require_valid(request)
    if found := list(_unclean(request, "")):
        raise InvalidRequest([Violation(field, _PATTERNS[_CLEAN]) for field in found])


def _unclean(message: Message, path: str) -> Iterator[str]:
    """The paths of the texts that are not clean."""
    for field, value in message.ListFields():
        many = value if field.is_repeated else [value]
        for index, each in enumerate(many):
            place = f"{path}{field.name}" + (f"[{index}]" if field.is_repeated else "")
            if isinstance(each, Message):
                yield from _unclean(each, f"{place}.")
            elif isinstance(each, str) and not re.match(_CLEAN, each):
                yield place


def _violation(found: object) -> Violation:
    proto = found.proto  # type: ignore[attr-defined]  # protovalidate's own message, typed by another runtime
    parts = []
    for element in proto.field.elements if proto.field else ():  # a rule of the whole message names no field
        index = element.subscript.value if element.subscript is not None else None
        parts.append(element.field_name + (f"[{index}]" if index is not None else ""))
    words = _PATTERNS if proto.rule_id == "string.pattern" else _WORDS
    rule = found.rule_value if proto.rule_id == "string.pattern" else proto.rule_id  # type: ignore[attr-defined]
    return Violation(".".join(parts), words.get(rule, proto.message))
