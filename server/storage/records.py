"""A row of the log as a value that can wait on disk: its columns by name, so that another version can still read it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from server.storage import rows
from server.storage.rows import COLUMNS, LogEntry
from server.types import Degradation, DegradationReason

_VERSION = 1
_READ: Mapping[str, Callable[[Any], Any]] = {"uuid": UUID, "timestamptz": datetime.fromisoformat}
_WRITTEN: Mapping[str, Callable[[Any], Any]] = {"uuid": str, "timestamptz": datetime.isoformat}
"""Of the columns' types, those that JSON does not know."""
_SPOOLED = Degradation(
    DegradationReason.LOG_SPOOLED,
    "Postgres is away: the log row waits on disk, and whether the request id was used before is not certain.",
)


class UnreadableRecord(ValueError):
    """The record is none of ours, or a newer Ratchet wrote it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `conversation_logs`, by column, and the fingerprint of its request."""

    columns: Mapping[str, Any]
    fingerprint: bytes

    @classmethod
    def of(cls, entry: LogEntry) -> "Row":
        """The entry's row."""
        return cls(dict(zip(COLUMNS, rows.values(entry), strict=True)), entry.turn.fingerprint)

    @property
    def response_id(self) -> UUID:
        """What identifies the row."""
        found: UUID = self.columns["response_id"]
        return found

    @property
    def request(self) -> tuple[str, str]:
        """Tenant and request id; the latter may be empty."""
        return self.columns["tenant_id"], self.columns["request_id"]


def spooled(entry: LogEntry) -> LogEntry:
    """The entry with its reply marked as one whose row waits on disk."""
    return replace(entry, reply=replace(entry.reply, degradations=(*entry.reply.degradations, _SPOOLED)))


def encode(row: Row) -> bytes:
    """The row as UTF-8 JSON, marked as spooled."""
    columns = {name: _apply(_WRITTEN, name, value) for name, value in row.columns.items()} | {"spooled": True}
    record = {"version": _VERSION, "fingerprint": row.fingerprint.hex(), "columns": columns}
    # A model's text may hold half a surrogate pair: Postgres will refuse it, the disk need not.
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def decode(payload: bytes) -> Row:
    """The row that `encode` was given. Raises UnreadableRecord."""
    try:
        record = json.loads(payload.decode("utf-8", "surrogatepass"))
        if record["version"] != _VERSION or not record["columns"].keys() <= COLUMNS.keys():
            raise UnreadableRecord("A newer Ratchet wrote this record.")
        columns = {name: _apply(_READ, name, value) for name, value in record["columns"].items()}
        row = Row(columns, bytes.fromhex(record["fingerprint"]))
        _ = row.response_id, row.request
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableRecord(str(error)) from error
    return row


def _apply(conversions: Mapping[str, Callable[[Any], Any]], name: str, value: Any) -> Any:
    convert = conversions.get(COLUMNS.get(name, ""))
    return value if convert is None or value is None else convert(value)
