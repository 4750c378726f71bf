"""Models for a replay: those in service are used as they are, others are loaded beside them and unloaded afterwards.

A release that some server has loaded is never installed over, and never unloaded. While a replay holds one that it
loaded itself, other replays of the same Triton keep away from it: a lock in the database says so.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from server import models
from server.embedded import Endpoints
from server.errors import BackendError, ConfigurationError
from server.settings import Settings
from server.storage import leases
from server.storage.database import Connection
from triton_models.config import Options
from triton_models.contract import Kind
from triton_models.manifest import MANIFEST, Release, ReleaseError, read, verify

log = logging.getLogger(__name__)

UNLOAD_SECONDS = 10.0


class Releases:
    """The releases that replays use. `connection` holds the locks; without one, as with the fake, nobody else is there.

    `repository` is Triton's, None where it is not known: then nothing can be installed.
    """

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints,
        backend: models.Backend,
        connection: Connection | None,
        on_event: Callable[[str], None],
    ) -> None:
        self.repository = settings.model_repository or endpoints.model_repository
        self._settings, self._triton, self._backend = settings, endpoints.triton_url, backend
        self._connection, self._on_event = connection, on_event
        self._held: dict[str, Path] = {}
        self._loaded: list[str] = []

    async def named(self, kind: Kind, release_id: str) -> Path:
        """The directory of a release that answered before. Raises ConfigurationError when it is gone."""
        configured = Path(self._settings.policy if kind == "policy" else self._settings.reward)
        places = [self.repository / release_id] if self.repository else []
        for place in (*places, configured):
            if await asyncio.to_thread(_is, place, kind, release_id):
                return place
        where = f"the model repository {self.repository}" if self.repository else "RATCHET_MODEL_REPOSITORY, not set"
        raise ConfigurationError(
            f"{release_id}, which answered then, is not in {where}: name another {kind} with --{kind}."
        )

    async def hold(self, kind: Kind, directory: Path) -> Path:
        """The release in `directory`, ready in Triton until `close`; its directory in the repository if it has one.

        Raises ConfigurationError: damaged, of another kind, Triton refuses it, or another replay holds it.
        """
        release = await asyncio.to_thread(_verified, directory, kind)
        known = self._held.get(release.id)
        if known is not None:
            return known
        if await self._backend.ready(release.id):
            place = await self._in_service(release.id, directory)
        else:
            place = await self._load(release.id, kind, directory)
        self._held[release.id] = place
        return place

    async def close(self) -> None:
        """Unloads what was loaded here, and returns when Triton has let go of it."""
        for model in reversed(self._loaded):
            try:
                await self._backend.unload(model, UNLOAD_SECONDS)
                async with asyncio.timeout(UNLOAD_SECONDS):
                    while await self._backend.ready(model):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
            except (BackendError, TimeoutError) as error:
                log.warning("%s stays loaded in Triton: %s", model, error or "it did not let go in time")
        self._loaded.clear()

    async def _in_service(self, model: str, directory: Path) -> Path:
        if self._connection is not None and not await leases.share(self._connection, self._lease(model)):
            raise _held_elsewhere(model)
        if not await self._backend.ready(model):  # it went between the first look and the lock
            raise _held_elsewhere(model)
        place = self.repository / model if self.repository else directory
        if not (place / MANIFEST).is_file():
            return directory
        await asyncio.to_thread(_require_same, place, directory)
        return place

    async def _load(self, model: str, kind: Kind, directory: Path) -> Path:
        if self._connection is not None and not await leases.own(self._connection, self._lease(model)):
            raise _held_elsewhere(model)
        if self.repository is None:
            raise ConfigurationError(
                f"Triton has not loaded {model}; to load it, set RATCHET_MODEL_REPOSITORY to that Triton's repository."
            )
        place = self.repository / model
        if directory != place or not (place / "config.pbtxt").is_file():  # what is installed keeps its layout
            place = await models.deploy(models.Source(kind, directory, self._options(kind)), self.repository)
        self._on_event(f"loading {model} beside what is in service")
        self._loaded.append(model)  # also when loading fails or is cancelled: Triton may be about to
        await models.load([model], self._backend)
        return place

    def _options(self, kind: Kind) -> Options:
        layouts: Mapping[str, Options] = {
            "policy": Options(layout=self._settings.policy_layout),
            "reward": Options(layout=self._settings.reward_layout),
        }
        return layouts.get(kind, Options())

    def _lease(self, model: str) -> str:
        return leases.of_model(self._triton, model)


def _is(place: Path, kind: Kind, release_id: str) -> bool:
    try:
        release = read(place)
    except ReleaseError:
        return False
    return (release.kind, release.id) == (kind, release_id)


def _verified(directory: Path, kind: Kind) -> Release:
    try:
        release = verify(directory)
    except (ReleaseError, OSError) as error:
        raise ConfigurationError(str(error)) from error
    if release.kind != kind:
        raise ConfigurationError(f"{directory} is a release of the kind {release.kind} and can't serve as the {kind}.")
    return release


def _require_same(place: Path, directory: Path) -> None:
    if read(place) != read(directory):
        raise ConfigurationError(
            f"Triton serves another release of the id {place.name} than {directory}: give the new one another id."
        )


def _held_elsewhere(model: str) -> ConfigurationError:
    return ConfigurationError(f"Another replay has {model} loaded for itself: start this one when that has ended.")
