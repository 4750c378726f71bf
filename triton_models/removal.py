"""Takes a release out of a Triton model repository, whole: what Triton reads there is a model, or not there at all.

It is renamed out of the repository first, into the staging folder beside it, and deleted there. Who dies in between
leaves nothing inside, and what lies outside is deleted by the next `clear`.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Final

from triton_models.manifest import MANIFEST, fsync_directory
from triton_models.release import staging_of

_TAKEN: Final = "retired-"
"""How folders in the staging folder begin that hold what was taken out."""


def digest_of(directory: Path) -> bytes | None:
    """SHA-256 of the manifest of the release in `directory`; None where there is none that can be read."""
    try:
        return hashlib.sha256((directory / MANIFEST).read_bytes()).digest()
    except OSError:
        return None


def take_out(directory: Path) -> None:
    """Renames a release's directory out of its repository. One that is gone already is left so. Raises OSError."""
    staging = staging_of(directory.parent)
    staging.mkdir(exist_ok=True)
    outside = Path(tempfile.mkdtemp(prefix=_TAKEN, dir=staging))
    try:
        directory.rename(outside / directory.name)
    except FileNotFoundError:  # another process was first, or cleared `outside` away: then the next look finds it
        shutil.rmtree(outside, ignore_errors=True)
        return
    fsync_directory(outside)
    fsync_directory(directory.parent)


def clear(repository: Path) -> int:
    """Deletes what was taken out of `repository`, by whomever; gives how many there were."""
    found = list(staging_of(repository).glob(f"{_TAKEN}*"))
    for outside in found:
        shutil.rmtree(outside, ignore_errors=True)  # another process may be at it
    return len(found)
