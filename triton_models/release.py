"""Installs a release into a Triton model repository, whole or not at all."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from triton_models import contract
from triton_models.config import Options, render, render_vllm_engine
from triton_models.manifest import (
    MANIFEST,
    Release,
    ReleaseError,
    altered,
    fsync_directory,
    inspect,
    read,
    verify,
    write_whole,
)

ABANDONED_SECONDS: Final = 24 * 3600.0
"""More than copying any release takes."""
_HERE: Final = Path(__file__).resolve().parent
_CHUNK: Final = 8 << 20


def install(source: Path, repository: Path, options: Options | None = None) -> Path:
    """Copies the release `source` into `repository` as the Triton model `<repository>/<id>`, and gives that
    path.

    It is staged beside the repository (Triton reads any directory inside as a model or a version), hashed as it is
    copied, given `config.pbtxt` and `1/*.py`, synced to disk and renamed into place. Installing the same release again
    reads what is in the repository, and only brings those files up to date. Raises ReleaseError for a release that is
    not as its manifest says, there or here, and for another release of the same id.
    """
    release = read(source)
    target = repository / release.id
    if not _is_there(release, target, options):
        inspect(source)
        with _staging(repository) as staging:
            staged = staging / release.id
            _copy(source, staged, release)
            add_code(staged, release, options, target)
            repository.mkdir(parents=True, exist_ok=True)
            try:
                staged.rename(target)
            except OSError:  # another process was first: a directory is only renamed onto an empty one
                if not _is_there(release, target, options):
                    raise
    fsync_directory(repository)
    return target


def _is_there(release: Release, target: Path, options: Options | None) -> bool:
    """Whether the release is installed, and up to date by now. One that is taken out of the repository meanwhile is
    not; raises ReleaseError and OSError for what is wrong with one that stays."""
    while (place := _inode(target)) is not None:
        try:
            _require_same(release, target)
            add_code(target, release, options)
        except (ReleaseError, OSError):
            if _inode(target) == place:
                raise
        else:
            return True
    return False


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def staging_of(repository: Path) -> Path:
    """The folder beside a repository, on the same file system, in which nothing is a model."""
    return repository.with_name(f"{repository.name}.staging")


def add_code(directory: Path, release: Release, options: Options | None = None, place: Path | None = None) -> None:
    """Puts `config.pbtxt` and what the layout runs (`1/*.py`, `1/model.json`) into a release's directory, which is to
    be `place`, if that is another one.

    Files that already hold the right content are not touched: Triton compares their times.
    """
    chosen = options or Options()
    _write_changed(directory / "config.pbtxt", render(release, chosen).encode())
    version = directory / contract.VERSION
    version.mkdir(exist_ok=True)
    if chosen.layout == "python":
        home = contract.CODE_HOME[release.kind]
        for name in contract.CODE[home]:
            _write_changed(version / name, (_HERE / home / name).read_bytes())
    if chosen.layout == "vllm":
        _write_changed(
            version / "model.json", render_vllm_engine(release, chosen, (place or directory).absolute()).encode()
        )


def _write_changed(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


def _require_same(release: Release, target: Path) -> None:
    """Refuses to replace an installed release by another one; a damaged one counts as another."""
    if (installed := read(target)) != release:
        raise ReleaseError(
            f"{target} already holds another release of the id {installed.id}: give the new one another id."
        )
    verify(target)


@contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    home = staging_of(repository)
    home.mkdir(parents=True, exist_ok=True)
    _forget_abandoned(home)
    directory = Path(tempfile.mkdtemp(dir=home))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _forget_abandoned(home: Path) -> None:
    """What installations left that were killed: nobody else would."""
    for left in home.iterdir():
        with suppress(OSError):  # another process was first
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _copy(source: Path, staged: Path, release: Release) -> None:
    """Copies exactly what the manifest names, syncs it, and copies the manifest last. Raises ReleaseError."""
    for name, expected in release.files.items():
        if _copy_file(source / name, staged / name) != expected:
            raise ReleaseError(altered(source / name))
    write_whole(staged / MANIFEST, (source / MANIFEST).read_bytes())
    if read(staged) != release:
        raise ReleaseError(f"{source / MANIFEST} changed while it was copied: install the release again.")
    for directory in [path for path in staged.rglob("*") if path.is_dir()]:
        fsync_directory(directory)


def _copy_file(source: Path, target: Path) -> str:
    """The SHA-256 of what was written. Large ones don't fit in memory; nobody reads what is staged until all is."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read_from, target.open("wb") as file:
        while chunk := read_from.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
