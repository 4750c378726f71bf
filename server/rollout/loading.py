"""Loads one release on one replica and makes sure of it: checked on disk, room for it, loaded, warmed up, and right on
its golden inputs.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from server.errors import BackendBusy, BackendError, BackendTimeout, BackendUnavailable, told
from server.rollout import memory, probing
from server.rollout.guards import span
from server.rollout.replicas import Replica
from triton_models.config import layout_of
from triton_models.manifest import Release, ReleaseError, verify


@dataclass(frozen=True, slots=True)
class Wish:
    """That a release be loaded, within so many `seconds`. An `essential` one is what users have now: it is loaded
    whether there seems to be room or not."""

    seconds: float
    essential: bool


class Refused(Exception):
    """The replica won't have the release; a sentence. `loaded`: it has it, but the answers are not right."""

    def __init__(self, sentence: str, *, loaded: bool = False) -> None:
        super().__init__(sentence)
        self.loaded = loaded


class NotYet(Exception):
    """Nothing is wrong with the release, but it can't be had now; a sentence."""


class Loader:
    """Of one replica. `repository` is where its models are, seen from here."""

    def __init__(self, replica: Replica, repository: Path) -> None:
        self._replica, self._repository = replica, repository
        self._claims: dict[str, int] = {}
        self._claiming = asyncio.Lock()

    async def load(self, name: str, wish: Wish, *, loaded: bool, freeing: bool) -> None:
        """Returns once the release answers as it should. Raises Refused, NotYet.

        `loaded`: Triton has it already, so that it is only asked. `freeing`: memory is about to come free, so that a
        lack of it is no refusal.
        """
        directory = self._repository / name
        try:
            release = await asyncio.to_thread(_verified, directory, loaded)
            if not loaded:
                await self._load(release, directory, wish, freeing=freeing)
            said = await self._complaints(release, directory)
        except ReleaseError as error:
            raise Refused(str(error)) from error
        except OSError as error:
            raise Refused(f"{error.filename or directory} can't be read: {error.strerror or error}.") from error
        except (BackendBusy, BackendUnavailable) as error:
            raise NotYet(f"{told(error)}.") from error
        except BackendTimeout as error:
            raise Refused(f"{name} is loaded, and does not answer its golden inputs in time.", loaded=True) from error
        except BackendError as error:
            raise Refused(f"{name} is loaded, and refuses its golden inputs: {told(error)}.", loaded=True) from error
        if said:
            raise Refused(f"{name} is loaded, and answers its golden inputs wrongly: {' '.join(said)}", loaded=True)

    async def _complaints(self, release: Release, directory: Path) -> tuple[str, ...]:
        if not self._replica.computes:
            return ()
        return await probing.complaints(release, directory, self._replica.backend)

    async def _load(self, release: Release, directory: Path, wish: Wish, *, freeing: bool) -> None:
        name = release.id
        try:
            await self._claim(name, directory, essential=wish.essential, freeing=freeing)
            await self._replica.backend.load(name, wish.seconds)
        except BackendTimeout as error:
            raise Refused(slow(name, wish)) from error
        except (BackendBusy, BackendUnavailable):
            raise
        except BackendError as error:
            raise Refused(f"Triton does not load {name}: {told(error)}.") from error
        finally:
            self._claims.pop(name, None)

    async def _claim(self, name: str, directory: Path, *, essential: bool, freeing: bool) -> None:
        """Takes memory for the model while it loads, so that the next one does not count on it."""
        if self._replica.available is None:
            return
        async with self._claiming:
            needed = await asyncio.to_thread(_needed, directory)
            free = await asyncio.to_thread(self._replica.available) - sum(self._claims.values())
            if needed <= free or essential:
                self._claims[name] = needed
                return
        about = f"it takes about {needed >> 20} MB, and {max(0, free) >> 20} MB are free"
        if self._claims or freeing:
            raise NotYet(f"There is no room for {name} yet: {about}.")
        raise Refused(f"There is no room for {name}: {about}.")


def slow(name: str, wish: Wish) -> str:
    """Why a release counts as refused that loads for ever."""
    return f"{name} was not loaded within {span(wish.seconds)}."


def _verified(directory: Path, loaded: bool) -> Release:
    """The manifest of a release that is as that says: of one that Triton has read, as far as we read it again."""
    release = verify(directory, folder="tokenizer" if loaded else "")
    if release.id != directory.name:
        raise ReleaseError(f"{directory} holds the release {release.id}: install it again.")
    return release


def _needed(directory: Path) -> int:
    """Bytes of this machine's memory; other layouts take a GPU's, of which Triton tells."""
    return memory.needed(directory) if layout_of((directory / "config.pbtxt").read_text()) == "python" else 0
