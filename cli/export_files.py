"""The files of exports: rows written and read as JSON Lines or Parquet. Both give the same rows."""

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cli.export_columns import Column, arrow_schema, times
from cli.output import CommandFailed

ENDINGS = ("jsonl", "parquet")
_GROUP = 1000
"""Rows of a Parquet row group at most."""
_GROUP_BYTES = 32 << 20
"""Characters of a row group's rows, about."""

Row = dict[str, Any]


class Writer(Protocol):
    """A file that is being written."""

    path: Path

    @property
    def size(self) -> int:
        """Bytes so far, about."""

    def add(self, row: Row) -> None:
        """Writes a row: plain values by column, times as RFC 3339 texts."""

    def close(self) -> int:
        """Makes the file durable; gives how many rows it has."""


def writer(path: Path, columns: Sequence[Column]) -> Writer:
    """A writer of the format that the name ends with. Raises CommandFailed where pyarrow is missing."""
    return JsonLines(path, columns) if path.suffix == ".jsonl" else Parquet(path, columns)


def reader(path: Path, columns: Sequence[Column]) -> Iterator[Row]:
    """The rows of a file that a writer wrote."""
    return _json_lines(path) if path.suffix == ".jsonl" else _parquet(path, columns)


def require_parquet() -> None:
    """Raises CommandFailed where pyarrow is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise CommandFailed(
            "Parquet needs pyarrow, which is not installed: `pip install pyarrow` into this environment, or use jsonl."
        ) from error


class JsonLines:
    """One JSON object a line, UTF-8, in the order of the columns."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self.path, self._names = path, [each.name for each in columns]
        self._file = path.open("xb")
        self._rows = self._size = 0

    @property
    def size(self) -> int:
        """See `Writer`."""
        return self._size

    def add(self, row: Row) -> None:
        """See `Writer`."""
        ordered = {name: row[name] for name in self._names}
        line = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._file.write(line)
        self._rows, self._size = self._rows + 1, self._size + len(line)

    def close(self) -> int:
        """See `Writer`."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._rows


class Parquet:
    """Parquet with a fixed schema and zstd, in row groups of bounded size."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        require_parquet()
        import pyarrow.parquet as pq

        self.path, self._columns, self._schema = path, columns, arrow_schema(columns)
        self._times = list(times(columns))
        self._file = path.open("xb")
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._pending: list[Row] = []
        self._weight = self._rows = 0

    @property
    def size(self) -> int:
        """See `Writer`."""
        return self._file.tell()

    def add(self, row: Row) -> None:
        """See `Writer`."""
        self._pending.append(row)
        self._rows += 1
        self._weight += len(str(row))
        if len(self._pending) >= _GROUP or self._weight >= _GROUP_BYTES:
            self._flush()

    def close(self) -> int:
        """See `Writer`."""
        with self._file:
            self._flush()
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._rows

    def _flush(self) -> None:
        import pyarrow as pa

        if self._pending:
            rows = [_mapped(row, self._times, datetime.fromisoformat) for row in self._pending]
            self._writer.write_table(pa.Table.from_pylist(rows, self._schema))
        self._pending, self._weight = [], 0


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as stream:
        for line in stream:
            yield json.loads(line)


def _parquet(path: Path, columns: Sequence[Column]) -> Iterator[Row]:
    require_parquet()
    import pyarrow.parquet as pq

    paths = list(times(columns))
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                yield _mapped(row, paths, _rfc3339)


def _mapped(row: Row, paths: Sequence[tuple[str, ...]], convert: Any) -> Row:
    """The row with the values at `paths` converted; other values are shared with it."""
    found = dict(row)
    for first in dict.fromkeys(path[0] for path in paths):
        below = [path[1:] for path in paths if path[0] == first]
        value = found[first]
        if value is None:
            continue
        if below == [()]:
            found[first] = convert(value)
        elif isinstance(value, list):
            found[first] = [_mapped(each, below, convert) for each in value]
        else:
            found[first] = _mapped(value, below, convert)
    return found


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
