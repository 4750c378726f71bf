"""Installs a release into a Triton model repository, whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from triton_models import contract
from triton_models.config import Options, render, render_vllm_engine
from triton_models.manifest import (
    MANIFEST,
    Release,
    ReleaseError,
    fsync_directory,
    read,
    sha256,
    verify,
    write_whole,
)

_HERE: Final = Path(__file__).resolve().parent


def install(source: Path, repository: Path, options: Options | None = None) -> Path:
    """Copies the release `source` into `repository` as the Triton model `<repository>/<id>`, and gives that
    path.

    It is verified, staged beside the repository (Triton reads any directory inside as a model or a version),
    given `config.pbtxt` and `1/*.py`, synced to disk and renamed into place. Installing the same release
    again only brings those files up to date. Raises ReleaseError for a release that fails verification
    and for another release of the same id.
    """
    release = verify(source)
    target = repository / release.id
    repository.mkdir(parents=True, exist_ok=True)
    if target.exists():
        _require_same(release, target)
        add_code(target, release, options)
        return target
    with _staging(repository) as staging:
        staged = staging / release.id
        _copy(source, staged, release)
        add_code(staged, release, options)
        verify(staged)
        try:
            staged.rename(target)
        except OSError:  # another process was first: a directory is only renamed onto an empty one
            _require_same(release, target)
    fsync_directory(repository)
    return target


def add_code(directory: Path, release: Release, options: Options | None = None) -> None:
    """Puts `config.pbtxt` and what the layout runs (`1/*.py`, `1/model.json`) into a release's directory.

    Files that already hold the right content are not touched: Triton compares their times.
    """
    chosen = options or Options()
    _write_changed(directory / "config.pbtxt", render(release, chosen).encode())
    version = directory / contract.VERSION
    version.mkdir(exist_ok=True)
    if chosen.layout == "python":
        for name in contract.CODE[release.kind]:
            _write_changed(version / name, (_HERE / release.kind / name).read_bytes())
    if chosen.layout == "vllm":
        _write_changed(version / "model.json", render_vllm_engine(release, chosen).encode())


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
    home = repository.with_name(f"{repository.name}.staging")
    home.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=home))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _copy(source: Path, staged: Path, release: Release) -> None:
    """Copies exactly what the manifest names, syncs it, and copies the manifest last."""
    for name in release.files:
        _copy_file(source / name, staged / name)
        if sha256(staged / name) != release.files[name]:
            raise ReleaseError(f"{source / name} changed while it was copied: install the release again.")
    write_whole(staged / MANIFEST, (source / MANIFEST).read_bytes())
    for directory in [path for path in staged.rglob("*") if path.is_dir()]:
        fsync_directory(directory)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, source.read_bytes())
