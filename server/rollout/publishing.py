"""Publishes releases: checked, put into Triton's repository whole or not at all, and registered.

Nobody is served by one before a rollout.
"""

import asyncio
import errno
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from server.errors import ReleaseExists, ReleaseInvalid, ReleaseNotFound, StoreUnavailable
from server.rollout.registry import Published
from server.rollout.store import Rollouts
from server.rollout.types import Kind
from triton_models.config import Options
from triton_models.manifest import MANIFEST, Release, ReleaseError, read, verify
from triton_models.release import add_code, install
from triton_models.removal import digest_of

ATTEMPTS = 3
"""Of installing a retired release while a leader removes it."""
_NO_PLACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


async def publish(
    directory: Path,
    repository: Path,
    rollouts: Rollouts,
    options: Options | None = None,
    *,
    by: str,
    training_id: UUID | None = None,
) -> tuple[Published, bool]:
    """Publishes the release in `directory` for Triton's `repository`, laid out by `options`.

    Gives it as it is registered, and whether it was before: publishing the same again takes its retirement back, mends
    what was interrupted, and changes nothing else.

    Raises ReleaseInvalid (missing, torn, altered, or of a kind that is not rolled out), ReleaseExists (another one has
    its id), Unavailable (no Postgres, or no room in the repository).
    """
    for _ in range(ATTEMPTS):
        await _require_known(directory, repository, rollouts)
        installed = await asyncio.to_thread(_install, directory, repository, options)
        if await readmit(installed, rollouts):
            return await register(installed, rollouts, by=by, training_id=training_id)
    raise StoreUnavailable(f"{installed.name} is being removed from the model repository: publish it again.")


async def readmit(installed: Path, rollouts: Rollouts) -> bool:
    """Takes the retirement of a release back that is in the repository, if it was retired.

    False: it is being removed, so install it again. Raises Unavailable.
    """
    digest = await asyncio.to_thread(digest_of, installed)
    if digest is None:
        return False
    return await rollouts.readmit(installed.name, digest, lambda: digest_of(installed) == digest)


async def register(
    installed: Path, rollouts: Rollouts, *, by: str, training_id: UUID | None = None
) -> tuple[Published, bool]:
    """Registers a release that is in the repository already; gives it, and whether it was registered before.

    Raises ReleaseExists, Unavailable.
    """
    content = await asyncio.to_thread((installed / MANIFEST).read_bytes)
    manifest = json.loads(content)
    return await rollouts.publish(
        Published(
            release=installed.name,
            kind=Kind(manifest["kind"]),
            manifest=manifest,
            digest=hashlib.sha256(content).digest(),
            published_at=datetime.now(UTC),
            published_by=by,
            training_id=training_id,
        )
    )


async def _require_known(directory: Path, repository: Path, rollouts: Rollouts) -> None:
    """Refuses another release of an id whose files were removed: once its own are there, the first never comes back.

    Raises ReleaseExists, Unavailable.
    """
    digest = await asyncio.to_thread(digest_of, directory)
    name = await asyncio.to_thread(_new_id, directory, repository)
    if digest is None or name is None:
        return  # installing it tells
    try:
        known = await rollouts.release(name)
    except ReleaseNotFound:
        return
    if known.digest != digest:
        raise ReleaseExists(f"Another release is published as {name}: give the new one another id.")


def _new_id(directory: Path, repository: Path) -> str | None:
    """The id of a release that is not in the repository; None of one that is, or can't be read."""
    try:
        name = read(directory).id
        return None if (repository / name).exists() else name
    except (ReleaseError, OSError):
        return None


def refresh(release: str, repository: Path, options: Options | None = None) -> None:
    """Brings what Triton runs for an installed release (`config.pbtxt`, our code) up to this version of Ratchet.

    For releases that no setting names: those are installed anew at each start. Raises ReleaseInvalid, also for one
    that is torn or altered. Blocks.
    """
    try:
        add_code(repository / release, verify(repository / release), options)
    except (ReleaseError, OSError) as error:
        raise ReleaseInvalid(_sentence(error)) from error


def _install(directory: Path, repository: Path, options: Options | None) -> Path:
    try:
        release = read(directory)
        _require_kind(release)
        _require_free(release, repository)
        return install(directory, repository, options)
    except OSError as error:
        if error.errno in _NO_PLACE:
            raise StoreUnavailable(f"The model repository {repository} can't take it: {error.strerror}.") from error
        raise ReleaseInvalid(_sentence(error)) from error
    except ReleaseError as error:
        raise ReleaseInvalid(str(error)) from error


def _require_kind(release: Release) -> None:
    if release.kind not in set(Kind):
        raise ReleaseInvalid(
            f"{release.id} is of the kind {release.kind}, which is not rolled out: only rewards and policies are."
        )


def _require_free(release: Release, repository: Path) -> None:
    """Refuses another release of an id that is taken. One that is damaged there is `install`'s to tell."""
    place = repository / release.id
    if place.exists() and read(place) != release:
        raise ReleaseExists(f"Another release is published as {release.id}: give the new one another id.")


def _sentence(error: ReleaseError | OSError) -> str:
    if isinstance(error, ReleaseError):
        return str(error)
    return f"{error.filename or 'The release'} can't be read: {error.strerror or error}."
