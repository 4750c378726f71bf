"""Checks requests against the rules in the protos (buf.validate), and nothing else."""

from google.protobuf.message import Message
from protovalidate import Validator

from server.errors import InvalidRequest, Violation

_validator = Validator()

_CONTROL_CHARACTERS = "must not contain control characters other than tab, line feed and carriage return"
_WORDS = {"string.pattern": _CONTROL_CHARACTERS, "required": "is required", "enum.defined_only": "is not a known value"}
"""Rules whose own message would not tell a caller what to do."""


def require_valid(request: Message) -> None:
    """Raises InvalidRequest naming each field that breaks a rule."""
    found = _validator.collect_violations(request)
    if found:
        raise InvalidRequest([_violation(each) for each in found])


def _violation(found: object) -> Violation:
    proto = found.proto  # type: ignore[attr-defined]  # protovalidate's own message, typed by another runtime
    parts = []
    for element in proto.field.elements:
        index = element.subscript.value if element.subscript is not None else None
        parts.append(element.field_name + (f"[{index}]" if index is not None else ""))
    return Violation(".".join(parts), _WORDS.get(proto.rule_id, proto.message))
