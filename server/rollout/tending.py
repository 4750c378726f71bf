"""Brings one Triton replica to have what it should, and knows how that stands. Nothing here waits for a model to load:
that goes on in tasks of its own, one a model.

What is loaded is never loaded again, for Triton would answer with neither meanwhile: only what it has lost, and what
was refused and may have been mended.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from server.backends.inference import ModelState
from server.errors import BackendError, told
from server.rollout.loading import Loader, NotYet, Refused, Wish, slow
from server.rollout.registry import ReplicaModel, ReplicaState
from server.rollout.replicas import Replica

log = logging.getLogger(__name__)

INDEX_SECONDS = 2.0
"""What a replica gets to say which models it has."""
AWAY_SECONDS = 5.0
"""How long it must be silent before its models count as away: one that restarts, or is busy, comes back before."""
UNLOAD_SECONDS = 10.0
LONGEST_RETRY = 60.0
SOON_SECONDS = 60.0
"""What is lost so soon after it was loaded, twice in a row, may be unloaded by somebody each time: it has to wait."""
LONGEST_WAIT = 5.0
"""Between two tries of what nobody refused."""

Owned = Callable[[str], Awaitable[bool]]
"""Whether a model that is not wanted is one of ours, which may be unloaded."""


@dataclass(slots=True)
class _Model:
    """One release here. `answers`: it is loaded, although it was refused. `again_at`: when it may be tried next,
    `began`: since when it stands so, both in the seconds of `time.monotonic`. `losses`: how often in a row it was lost
    soon after it was loaded."""

    state: ReplicaState
    since: datetime
    refusal: str = ""
    answers: bool = False
    failures: int = 0
    losses: int = 0
    again_at: float = 0.0
    began: float = 0.0
    task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()


class Tending:
    """One replica. `now` gives the time that states are dated with; `repository` is where its models are, seen from
    here."""

    def __init__(self, replica: Replica, repository: Path, now: Callable[[], datetime]) -> None:
        self.replica = replica
        self._loader, self._now = Loader(replica, repository), now
        self._models: dict[str, _Model] = {}
        self._index: Mapping[str, ModelState] = {}
        self._asked = False
        self._settled: set[str] = set()  # nothing went on with them when the index was asked for, so that it knows them
        self._silent_since: float | None = None
        self._found: dict[str, ReplicaModel] = {}

    @property
    def known(self) -> bool:
        """Whether it has said what it has, or surely can't be asked."""
        return self._asked or self.away

    @property
    def away(self) -> bool:
        """Whether it has not answered for AWAY_SECONDS."""
        return self._silent_since is not None and time.monotonic() - self._silent_since >= AWAY_SECONDS

    def serves(self, release: str) -> bool:
        """Whether the model answers here, right or not."""
        model = self._models.get(release)
        return model is not None and (model.state is ReplicaState.READY or model.answers)

    def since(self, release: str) -> datetime | None:
        """Since when the model answers here as it should; None: it does not."""
        model = self._models.get(release)
        return model.since if model is not None and model.state is ReplicaState.READY else None

    def refuses(self, release: str) -> bool:
        """Whether it was refused here, so that it does not answer."""
        model = self._models.get(release)
        return model is not None and model.state is ReplicaState.REFUSED and not model.answers

    def lacks(self, release: str) -> bool:
        """Whether it answers, and neither has the model nor loads or unloads it."""
        heard = self._asked and self._silent_since is None
        return heard and release not in self._index and release not in self._models

    def trouble(self, releases: Sequence[str]) -> str:
        """Why it won't serve them, a sentence; "" while it may."""
        if self.away:
            return f"Triton can't be reached at {self.replica.address}."
        models = (self._models[name] for name in releases if name in self._models)
        return next((model.refusal for model in models if model.refusal and not model.answers), "")

    def rows(self, at: datetime) -> list[ReplicaModel]:
        """How each release stands here."""
        return [
            ReplicaModel(
                replica=self.replica.address,
                release=name,
                state=model.state,
                since=model.since,
                checked_at=at,
                refusal=model.refusal,
            )
            for name, model in sorted(self._models.items())
        ]

    def adopt(self, rows: Sequence[ReplicaModel]) -> None:
        """Takes over what another leader found ready: where it is still loaded it is not asked again."""
        own = (row for row in rows if row.replica == self.replica.address)
        self._found = {row.release: row for row in own if row.state is ReplicaState.READY}

    async def look(self, desired: Mapping[str, Wish], owned: Owned | None, patience: float = 0.0) -> None:
        """Asks what it has; begins to load what is missing of `desired`, and unloads what is `owned` and not in it
        (None: nothing). With `patience` (seconds) somebody else sees to that, who gets so long before we do.

        Takes seconds at most.
        """
        settled = {name for name, model in self._models.items() if not model.busy}
        for name in desired.keys() - self._models.keys():
            self._models[name] = _Model(ReplicaState.LOADING, self._now(), began=time.monotonic())
        try:
            self._index = await self.replica.backend.index(INDEX_SECONDS)
        except BackendError as error:
            self._miss(error, desired)
            return
        self._asked, self._silent_since, self._settled = True, None, settled
        for name, wish in desired.items():
            if wish.essential or not self._loads_any(desired):
                self._want(name, wish, patience)
        self._found = {}
        for name in {*self._models, *self._index} - desired.keys():
            await self._leave(name, owned)

    async def close(self) -> None:
        """Ends what goes on here. What Triton has begun to load it loads all the same."""
        tasks = [model.task for model in self._models.values() if model.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _miss(self, error: BackendError, desired: Mapping[str, Wish]) -> None:
        if self._silent_since is None:
            self._silent_since = time.monotonic()
            log.warning("Triton at %s can't be asked for its models: %s", self.replica.address, told(error))
        if not self.away:
            return
        self._index = {}
        for name, model in list(self._models.items()):
            if name not in desired and not model.busy:
                del self._models[name]
            elif model.state is ReplicaState.READY:
                self._turn(model, ReplicaState.LOADING)

    def _loads_any(self, desired: Mapping[str, Wish]) -> bool:
        """Whether what users have now is being loaded: the rest comes after it, with the memory that is left."""
        essential = (self._models[name] for name, wish in desired.items() if wish.essential)
        return any(model.busy and model.state is ReplicaState.LOADING for model in essential)

    def _want(self, name: str, wish: Wish, patience: float) -> None:
        here = self._index.get(name)
        model = self._models[name]
        if model.state is ReplicaState.UNLOADING:
            self._turn(model, ReplicaState.LOADING)
        if model.busy:
            return
        if model.state is ReplicaState.LOADING and here is ModelState.READY and name in self._found:
            self._turn(model, ReplicaState.READY)
            model.since = self._found[name].since
        if model.state is ReplicaState.READY:
            if here is ModelState.READY or name not in self._settled:
                return
            log.warning("Triton at %s has lost %s and loads it again", self.replica.address, name)
            self._lose(model)
        standing = time.monotonic() - model.began
        if here in (ModelState.LOADING, ModelState.UNLOADING):
            if model.state is ReplicaState.LOADING and standing > wish.seconds:
                self._turn(model, ReplicaState.REFUSED, slow(name, wish))
        elif patience and (here is ModelState.READY or standing < patience):
            return
        elif time.monotonic() >= model.again_at:
            model.task = asyncio.create_task(self._bring(name, model, wish))

    async def _bring(self, name: str, model: _Model, wish: Wish) -> None:
        """Loads the release and probes it; says in `model` what came of it."""
        try:
            loaded = self._index.get(name) is ModelState.READY and model.state is not ReplicaState.REFUSED
            freeing = ModelState.UNLOADING in self._index.values()
            await self._loader.load(name, wish, loaded=loaded, freeing=freeing)
        except Refused as refusal:
            if model.refusal != str(refusal):
                log.warning("Triton at %s does not take %s: %s", self.replica.address, name, refusal)
            self._failed(model, LONGEST_RETRY)
            self._turn(model, ReplicaState.REFUSED, str(refusal))
            model.answers = refusal.loaded
        except NotYet as reason:
            self._failed(model, LONGEST_WAIT)
            log.info("Triton at %s can't have %s yet: %s", self.replica.address, name, reason)
        except Exception:  # a defect of ours must not look like a model that loads for ever
            self._failed(model, LONGEST_RETRY)
            self._turn(model, ReplicaState.REFUSED, "A defect in loading it; the server's log has it.")
            log.exception("loading %s failed", name)
        else:
            model.failures, model.again_at = 0, 0.0
            self._turn(model, ReplicaState.READY)
            log.info("Triton at %s has %s, which answers as it should", self.replica.address, name)

    async def _leave(self, name: str, owned: Owned | None) -> None:
        """Unloads what is not wanted any more, and forgets it once it is gone."""
        model, here = self._models.get(name), self._index.get(name)
        if model is not None and model.busy:
            return
        if here is None:
            self._models.pop(name, None)
        elif owned is not None and here is not ModelState.LOADING and await owned(name):
            model = self._models.setdefault(name, _Model(ReplicaState.UNLOADING, self._now()))
            self._turn(model, ReplicaState.UNLOADING)
            if here is ModelState.READY:
                await self._unload(name)

    async def _unload(self, name: str) -> None:
        try:
            await self.replica.backend.unload(name, UNLOAD_SECONDS)
            log.info("Triton at %s unloads %s, which serves nobody any more", self.replica.address, name)
        except BackendError as error:
            log.warning("Triton at %s does not unload %s: %s", self.replica.address, name, told(error))

    def _lose(self, model: _Model) -> None:
        model.losses = model.losses + 1 if time.monotonic() - model.began < SOON_SECONDS else 0
        if model.losses > 1:
            model.again_at = time.monotonic() + min(LONGEST_RETRY, 2.0 ** min(model.losses, 10))
        self._turn(model, ReplicaState.LOADING)

    def _turn(self, model: _Model, state: ReplicaState, refusal: str = "") -> None:
        if model.state is not state:
            model.state, model.since, model.began = state, self._now(), time.monotonic()
        model.refusal, model.answers = refusal, False

    def _failed(self, model: _Model, longest: float) -> None:
        model.failures += 1
        model.again_at = time.monotonic() + min(longest, 2.0 ** min(model.failures, 10))
