"""Exports on disk: directories of JSON Lines or Parquet files that appear whole or not at all, and can be rewritten.

export.json      last written: what it is, its filters, columns, files with rows and SHA-256
README.md        the columns for people, and declared for Hugging Face `datasets`: load_dataset(DIRECTORY)
logs-00000.jsonl … files of bounded size, newest rows first
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli import export_columns as columns
from cli.export_files import ENDINGS, Row, Writer, reader, writer
from cli.output import CommandFailed

MANIFEST, CARD = "export.json", "README.md"
FILE_BYTES = 128 << 20
"""A file that has grown so large is the last of its rows; the next ones go to another."""
_VERSION = 1
_PARTIAL = ".partial"
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class File:
    """A file of an export."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export is: of which `kind` (logs or feedback), in which `format` (jsonl or parquet), by which filters."""

    kind: str
    format: str
    created_at: str
    filters: Mapping[str, Any]
    rows: int
    files: tuple[File, ...]
    revision: int = 0
    """How often it was rewritten."""


class Export:
    """An export that is being written; see `exporting`."""

    def __init__(self, directory: Path, kind: str, ending: str, file_bytes: int) -> None:
        self._directory, self._kind, self._ending, self._file_bytes = directory, kind, ending, file_bytes
        self._writer: Writer | None = None
        self.files: list[File] = []

    def add(self, row: Row) -> None:
        """Writes one row; begins another file where this one is full."""
        if self._writer is None:
            name = f"{self._kind}-{len(self.files):05d}.{self._ending}"
            self._writer = writer(self._directory / name, columns.KINDS[self._kind])
        self._writer.add(row)
        if self._writer.size >= self._file_bytes:
            self.close()

    def close(self) -> None:
        """Ends the file that is being written."""
        if self._writer is not None:
            rows = self._writer.close()
            self.files.append(_file(self._writer.path, rows))
            self._writer = None

    def finish(self, filters: Mapping[str, Any]) -> Manifest:
        """Ends the export: an empty one has one file without rows. The manifest is the last file that appears."""
        self.close()
        if not self.files:
            empty = writer(self._directory / f"{self._kind}-00000.{self._ending}", columns.KINDS[self._kind])
            self.files.append(_file(empty.path, empty.close()))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = sum(each.rows for each in self.files)
        manifest = Manifest(self._kind, self._ending, now, filters, rows, tuple(self.files))
        _write(self._directory / CARD, _card(manifest))
        _write(self._directory / MANIFEST, _dump(manifest))
        return manifest


@contextmanager
def exporting(directory: Path, kind: str, ending: str, file_bytes: int = FILE_BYTES) -> Iterator[Export]:
    """An export into a directory beside `directory`, which takes that name once the export is finished.

    Nothing is left of one that fails; what a killed one left is removed here, or by `sweep`. Raises CommandFailed when
    `directory` holds something already.
    """
    _require_room(directory)
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sweep(directory.parent)
    partial = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}{_PARTIAL}")
    partial.mkdir(mode=0o700)
    lock = os.open(partial / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Export(partial, kind, ending, file_bytes)
        try:
            yield made
        finally:
            made.close()
        (partial / _LOCK).unlink()
        _sync(partial)
        _require_room(directory)
        partial.rename(directory)
        _sync(directory.parent)
    finally:
        os.close(lock)
        shutil.rmtree(partial, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes what exports left in the folder that were killed."""
    for partial in folder.glob(f".*{_PARTIAL}"):
        with suppress(FileNotFoundError), (partial / _LOCK).open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # that one is being written
                continue
            shutil.rmtree(partial, ignore_errors=True)


def found_in(folder: Path) -> list[Path]:
    """The exports in a folder and below it, and the folder itself where it is one; by path."""
    return sorted(each.parent for each in folder.rglob(MANIFEST) if not each.parent.name.endswith(_PARTIAL))


def manifest_of(directory: Path) -> Manifest:
    """What the export in the directory is. Raises CommandFailed when it is none that this version can read."""
    try:
        found = json.loads((directory / MANIFEST).read_text("utf-8"))
        if found.pop("version") != _VERSION:
            raise CommandFailed(f"A newer Ratchet wrote the export {directory}: use that one.")
        del found["columns"]
        files = tuple(File(**each) for each in found.pop("files"))
        return Manifest(**found, files=files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandFailed(f"{directory} is no export that can be read: {error}.") from error


def rows_of(directory: Path) -> Iterator[Row]:
    """The rows of an export, file by file: plain values by column, times as RFC 3339 texts."""
    manifest = manifest_of(directory)
    for each in manifest.files:
        yield from reader(directory / each.name, columns.KINDS[manifest.kind])


def rewrite(directory: Path, change: Callable[[Row], Row | None]) -> int:
    """Puts what `change` makes of each row in its place, and drops rows of which it makes None; gives how many differ.

    Files without such rows stay as they are. New files are whole before the manifest names them, and the old ones go
    after that: whoever is stopped in between does it again and finds the rest. Whatever the manifest does not name goes
    too. Raises CommandFailed for a directory that is no export.
    """
    manifest = manifest_of(directory)
    _remove_unnamed(directory, manifest.files)  # of a rewriting that was stopped
    kept: list[File] = []
    changed = 0
    for number, each in enumerate(manifest.files):
        made, files = _rewritten(directory, manifest, number, each, change)
        changed += made
        kept += files
    if changed:
        rows = sum(each.rows for each in kept)
        renewed = Manifest(
            **{
                **{name: getattr(manifest, name) for name in ("kind", "format", "created_at", "filters")},
                "rows": rows,
                "files": tuple(kept),
                "revision": manifest.revision + 1,
            }
        )
        _write(directory / CARD, _card(renewed))
        _write(directory / MANIFEST, _dump(renewed))
    _remove_unnamed(directory, kept)
    return changed


def _rewritten(
    directory: Path, manifest: Manifest, number: int, file: File, change: Callable[[Row], Row | None]
) -> tuple[int, list[File]]:
    """How many rows of a file differ, and what stands in its place."""
    kind = columns.KINDS[manifest.kind]
    path = directory / file.name
    changed = sum(change(deepcopy(row)) != row for row in reader(path, kind))
    if not changed:
        return 0, [file]
    name = f"{manifest.kind}-{number:05d}-r{manifest.revision + 1}.{manifest.format}"
    made = writer(directory / name, kind)
    for row in reader(path, kind):
        after = change(row)
        if after is not None:
            made.add(after)
    return changed, [_file(made.path, made.close())]


def _remove_unnamed(directory: Path, kept: Sequence[File]) -> None:
    names = {each.name for each in kept}
    for path in directory.iterdir():
        if path.suffix.lstrip(".") in ENDINGS and path.name not in names:
            path.unlink()
    _sync(directory)


def _require_room(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CommandFailed(f"{directory} is there already: name another place with --to.")


def _file(path: Path, rows: int) -> File:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return File(path.name, rows, path.stat().st_size, digest.hexdigest())


def _dump(manifest: Manifest) -> str:
    kind = columns.KINDS[manifest.kind]
    told = [{"name": each.name, "type": each.described, "meaning": each.meaning} for each in kind]
    return json.dumps({"version": _VERSION, **asdict(manifest), "columns": told}, ensure_ascii=False, indent=1) + "\n"


def _card(manifest: Manifest) -> str:
    """The dataset card: YAML for `datasets` (JSON is YAML), and a table for people."""
    kind = columns.KINDS[manifest.kind]
    files = {"split": "train", "path": f"*.{manifest.format}"}
    declared = {
        "configs": [{"config_name": "default", "data_files": [files]}],
        "dataset_info": {"features": columns.features(kind)},
    }
    head = "\n".join(f"{name}: {json.dumps(value)}" for name, value in declared.items())
    table = "\n".join(f"| {each.name} | {each.described} | {each.meaning} |" for each in kind)
    what = "One row a reply" if manifest.kind == "logs" else "One row a feedback, as it is now"
    return (
        f"---\n{head}\n---\n# Ratchet export: {manifest.kind}\n\n{what}, newest first; {manifest.rows} rows."
        f" Personal data: `ratchet user erase USER --exports DIR` takes a user out.\n\n"
        f"| column | type | meaning |\n|---|---|---|\n{table}\n"
    )


def _write(path: Path, text: str) -> None:
    """The file, whole or as it was."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with made.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    made.replace(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    place = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
