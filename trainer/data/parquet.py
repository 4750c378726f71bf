"""A snapshot's directory: a Parquet file for each table, and `manifest.json`, written last.

The directory appears under its name once all of it is on the disk; before, it has a hidden name that ends in .partial.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from trainer.data.tables import COLUMNS, Row, Rows, fingerprint
from trainer.errors import DataError

MANIFEST: Final = "manifest.json"
PARTIAL: Final = ".partial"
FORMAT: Final = 1


def write(rows: Rows, name: str, folder: Path) -> Path:
    """Writes `folder/name`, the name being the rows' hash, and gives that path; one that is there, and whole, stays."""
    path = folder / name
    with kept(folder):
        if not (path.exists() and _whole(path)):
            _write(rows, name, folder)
    return path


def _write(rows: Rows, name: str, folder: Path) -> None:
    partial = folder / f".{name}-{secrets.token_hex(4)}{PARTIAL}"
    partial.mkdir(mode=0o700)
    try:
        _fill(partial, rows, name)
        remove(folder / name)
        partial.rename(folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _sync(folder)


def read(path: Path) -> Rows:
    """The tables of a snapshot's directory. Raises DataError when something is missing, or not as it was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        sums = {name: manifest["tables"][name]["sha256"] for name in COLUMNS}
        rows = {name: _table(path / f"{name}.parquet", name, sums[name]) for name in COLUMNS}
    except FileNotFoundError as error:
        raise DataError(f"The snapshot {path} is not there, or not whole: {error.filename} is missing.") from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"The snapshot {path} can't be read: {error}.") from error
    if manifest["snapshot"] != fingerprint(rows):
        raise DataError(f"The snapshot {path} holds other rows than its name says.")
    return rows


def empty(path: Path) -> None:
    """Deletes a snapshot's files, its manifest first: half of one is none. Its directory stays."""
    with suppress(FileNotFoundError):  # another process deletes it, too
        (path / MANIFEST).unlink(missing_ok=True)
        _sync(path)
        for file in path.glob("*.parquet"):
            file.unlink(missing_ok=True)
        _sync(path)


def remove(path: Path) -> None:
    """Deletes a snapshot's directory. Nothing where there is none."""
    empty(path)
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
        _sync(path.parent)


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """While snapshots are recorded and written in a folder, which is made: nothing is pruned there. Waits for who
    prunes."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def pruning(folder: Path) -> Iterator[None]:
    """While snapshots are deleted that may be taken again. Raises BlockingIOError where one is being written."""
    with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


def tidied(folder: Path) -> list[str]:
    """Deletes what a killed process had not finished, unless somebody writes here; gives the names of the snapshots
    that are here."""
    with suppress(OSError), pruning(folder):
        for partial in folder.glob(f".*{PARTIAL}"):
            shutil.rmtree(partial)
    return sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    """The kernel's lock on a directory, which ends with the process."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _whole(path: Path) -> bool:
    try:
        read(path)
    except DataError:
        return False
    return True


def _fill(directory: Path, rows: Rows, name: str) -> None:
    import pyarrow
    import pyarrow.parquet

    tables = {}
    for table, columns in COLUMNS.items():
        path = directory / f"{table}.parquet"
        pyarrow.parquet.write_table(_arrow(rows[table], columns, pyarrow), path, compression="zstd")
        _sync(path)
        tables[table] = {"rows": len(rows[table]), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest = directory / MANIFEST
    manifest.write_text(json.dumps({"format": FORMAT, "snapshot": name, "tables": tables}, indent=2) + "\n", "utf-8")
    _sync(manifest)
    _sync(directory)


def _arrow(rows: Any, columns: Any, pyarrow: Any) -> Any:
    kinds = {
        "text": pyarrow.string(),
        "number": pyarrow.float64(),
        "integer": pyarrow.int64(),
        "boolean": pyarrow.bool_(),
        "time": pyarrow.timestamp("us", tz="UTC"),
    }
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    arrays = [pyarrow.array(column, type=field.type) for column, field in zip(values, schema, strict=True)]
    return pyarrow.table(arrays, schema=schema)


def _table(path: Path, name: str, sha256: str) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"The file {path} is not as it was written.")
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    if table.column_names != list(COLUMNS[name]):
        raise DataError(f"The file {path} has other columns than it should.")
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _sync(path: Path) -> None:
    """Makes a file, or what a directory lists, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
