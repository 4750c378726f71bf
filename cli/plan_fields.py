"""The fields of a rollout's plan as people write them: their names, and what each takes."""

from collections.abc import Mapping
from typing import Any

import click
from google.protobuf.descriptor import Descriptor, FieldDescriptor

STRATEGIES = ("gradual", "at_once", "return")
_WAITING = "waiting"
_TAKES = {FieldDescriptor.CPPTYPE_DOUBLE: "a number", FieldDescriptor.CPPTYPE_STRING: "text"}
_WHOLE = "a whole number of 0 or more"


def check(values: Mapping[str, Any], plan: Descriptor) -> None:
    """Raises UsageError for the first field that a plan does not have, or that takes another kind of value."""
    _object(values, plan, "")


def _object(values: Mapping[str, Any], message: Descriptor | None, path: str) -> None:
    fields = _fields(message)
    if _WAITING in fields:  # times are written beside the rest; the message has them in one of their own
        fields |= _fields(fields[_WAITING].message_type)
    for name, value in values.items():
        place = f"{path}.{name}" if path else name
        if name not in fields:
            known = ", ".join(each for each in fields if each not in (_WAITING, "no_shadow"))
            raise click.UsageError(f"{place} is no field of a plan: {path or 'a plan'} has {known}.")
        _field(value, fields[name], place)


def _fields(message: Descriptor | None) -> dict[str, FieldDescriptor]:
    return {field.name: field for field in message.fields} if message else {}


def _field(value: Any, field: FieldDescriptor, place: str) -> None:
    if field.is_repeated:
        if not isinstance(value, list):
            raise _wrong(place, "a list", value)
        for number, each in enumerate(value):
            _message(each, field, f"{place}.{number}")
    elif field.message_type is not None:
        if field.name != "shadow" or not (value is None or isinstance(value, bool)):
            _message(value, field, place)
    elif field.enum_type is not None:
        if str(value).lower().replace("-", "_") not in STRATEGIES:
            raise _wrong(place, "gradual or at_once", value)
    elif not _fits(value, field):
        raise _wrong(place, _takes(field), value)


def _message(value: Any, field: FieldDescriptor, place: str) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(place, "fields of its own", value)
    _object(value, field.message_type, place)


def _fits(value: Any, field: FieldDescriptor) -> bool:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return isinstance(value, str)
        case FieldDescriptor.CPPTYPE_BOOL:
            return isinstance(value, bool)
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _takes(field: FieldDescriptor) -> str:
    return "true or false" if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else _TAKES.get(field.cpp_type, _WHOLE)


def _wrong(place: str, takes: str, value: Any) -> click.UsageError:
    return click.UsageError(f"{place} takes {takes}, not {value!r}.")
