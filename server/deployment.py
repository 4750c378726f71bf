"""What is done once, however many processes serve: the database is migrated, the releases are installed in Triton's
repository and registered, the starter's sample data is loaded.

The settings' policy and reward are the champions until a rollout makes another one: then that one answers, whatever the
settings name.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import asyncpg

from server import models
from server.embedded import Endpoints
from server.errors import ConfigurationError, RatchetError, ReleaseExists, Unavailable, told
from server.rollout import publishing
from server.rollout.types import Kind as Rolled
from server.settings import STARTER, Settings, variable
from server.sql import sample as orders
from server.storage import database, partitions
from server.storage.rollouts import PostgresRollouts
from triton_models.config import Options
from triton_models.contract import Kind
from triton_models.manifest import MANIFEST, ReleaseError, read

log = logging.getLogger(__name__)

SETTINGS = "settings"
"""Who published what the settings name."""
_PARTITIONS_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """Directories of the releases in service, inside Triton's repository; None for those that the settings lack."""

    policy: Path
    reward: Path
    reward_fallback: Path | None = None
    embedding: Path | None = None
    toxicity: Path | None = None
    entailment: Path | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Their names as Triton models, the policy's first."""
        places = (getattr(self, field.name) for field in fields(self))
        return tuple(dict.fromkeys(place.name for place in places if place is not None))

    @property
    def repository(self) -> Path:
        """Triton's, seen from here."""
        return self.policy.parent

    @property
    def unrolled(self) -> tuple[str, ...]:
        """Those that no rollout changes: all but policy and reward."""
        places = (self.reward_fallback, self.embedding, self.toxicity, self.entailment)
        return tuple(place.name for place in places if place is not None)

    def to_json(self) -> dict[str, str | None]:
        """For another process."""
        return {name: str(place) if place else None for name, place in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        places: dict[str, Any] = {name: Path(place) if place else None for name, place in value.items()}
        return cls(**places)


async def deploy(settings: Settings, endpoints: Endpoints) -> Deployment:
    """Everything that must be there before a process can serve. Raises ConfigurationError."""
    async with await database.connect(endpoints.database_url, size=1, patience=None) as pool:
        applied = await database.migrate(pool)
        await _first_partitions(pool)
    log.info("migrations applied: %s", ", ".join(applied) or "none")
    if settings.samples:
        own = settings.database_url is None
        await orders.ensure(endpoints.database_url, STARTER / "orders.json", own_cluster=own)
    repository = settings.model_repository or endpoints.model_repository
    if repository is None:
        raise ConfigurationError(
            "With TRITON_URL set, RATCHET_MODEL_REPOSITORY must name that Triton's model repository."
        )
    sources = _sources(settings)
    async with await database.connect(endpoints.database_url, size=1) as pool:
        store = PostgresRollouts(pool)
        installed = {name: await _installed(source, repository, store) for name, source in sources.items()}
        for kind in Rolled:
            options = sources[kind.value].options
            installed[kind.value] = await _champion(kind, installed[kind.value], options, store)
    return Deployment(**installed)


async def renewed(deployment: Deployment, endpoints: Endpoints) -> Deployment:
    """The deployment for a process that begins later: a policy or reward that was retired and removed since is the
    champion of now. Raises ConfigurationError."""
    places = {Rolled.POLICY: deployment.policy, Rolled.REWARD: deployment.reward}
    gone = [kind for kind, place in places.items() if not await asyncio.to_thread((place / MANIFEST).is_file)]
    if not gone:
        return deployment
    async with await database.connect(endpoints.database_url, size=1) as pool:
        try:
            champions = await PostgresRollouts(pool).champions()
        except Unavailable as error:
            raise _unusable(error) from error
    found = {kind.value: deployment.repository / champions[kind].release for kind in gone if kind in champions}
    return replace(deployment, **found)


def named(settings: Settings) -> dict[str, str]:
    """The releases that the settings name, and by which setting: RATCHET_REWARD and the like. Reads their manifests."""
    found = dict[str, str]()
    for part, source in _sources(settings).items():
        with suppress(ReleaseError, OSError):  # who started with it has read it
            found.setdefault(read(source.directory).id, variable(part))
    return found


async def _installed(source: models.Source, repository: Path, store: PostgresRollouts) -> Path:
    """The release in the repository; who names it in the settings takes its retirement back. Raises
    ConfigurationError."""
    try:
        for _ in range(publishing.ATTEMPTS):
            place = await models.deploy(source, repository)
            if await publishing.readmit(place, store):
                return place
    except Unavailable as error:
        raise _unusable(error) from error
    raise ConfigurationError(f"{place.name} was retired and is being removed from {repository}: start again.")


async def _champion(kind: Rolled, named: Path, options: Options, store: PostgresRollouts) -> Path:
    """The directory of who answers: the champion that a rollout made, else what the settings name.

    Raises ConfigurationError.
    """
    try:
        await publishing.register(named, store, by=SETTINGS)
        champion = await store.crown_configured(kind, named.name)
    except ReleaseExists as error:
        raise ConfigurationError(f"{named.name} was published with other files before: {told(error)}.") from error
    except RatchetError as error:
        raise _unusable(error) from error
    if champion.release == named.name:
        return named
    place = named.parent / champion.release
    try:
        await asyncio.to_thread(publishing.refresh, champion.release, named.parent, options)
    except RatchetError as error:
        log.warning("%s answers, as the settings say: the champion, %s, can't: %s", named.name, place.name, told(error))
        return named
    log.warning(
        "%s answers, the champion since %s, not %s, which the settings name: that one is published, so roll it out",
        *(place.name, champion.since.isoformat(timespec="seconds"), named.name),
    )
    return place


def _unusable(error: RatchetError) -> ConfigurationError:
    return ConfigurationError(f"The registry of releases can't be used: {told(error)}.")


async def _first_partitions(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(_PARTITIONS_SECONDS):
            await partitions.ensure(pool, datetime.now(UTC))
    except asyncpg.InsufficientPrivilegeError as error:
        raise database.may_not(error) from error
    except (*database.GONE, asyncpg.PostgresError) as error:
        log.warning("the log's partitions can't be made yet, rows go to the default one: %s", error or "out of time")


def _sources(settings: Settings) -> dict[str, models.Source]:
    """The releases that the settings name, by their part in a Deployment."""
    reward_options = Options(layout=settings.reward_layout)
    found: dict[str, tuple[Kind, str | None, Options]] = {
        "policy": ("policy", settings.policy, Options(layout=settings.policy_layout)),
        "reward": ("reward", settings.reward, reward_options),
        "reward_fallback": ("reward", settings.reward_fallback, reward_options),
        "embedding": ("embedding", settings.embedding, Options()),
        "toxicity": ("classifier", settings.toxicity, Options()),
        "entailment": ("classifier", settings.entailment, Options()),
    }
    return {part: models.Source(kind, Path(place), options) for part, (kind, place, options) in found.items() if place}
