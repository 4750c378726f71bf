"""Brings in what training made: publishes each release that was better than the one in service, and starts a rollout of
the newest one where the setting RATCHET_ROLLOUT_NEW says so.

All that it goes by is stored: whoever leads next goes on where the last leader died, and what was done is done once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

from server.errors import ReleaseExists, ReleaseInvalid, RequestIdReused
from server.rollout.errors import RolloutChanged, RolloutNotPossible
from server.rollout.orders import Order
from server.rollout.plan import Plan
from server.rollout.types import Actor, Kind, Rollout

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks."""
BY = "training"
"""Who publishes, in the registry."""
REQUEST = "training "
"""How the ids of our own requests begin; the run's id follows."""
SETTING = Actor("RATCHET_ROLLOUT_NEW", is_person=True)
"""Who starts: the person who set it."""


@dataclass(frozen=True, slots=True)
class Made:
    """A release that a training run ended with, and where it put it."""

    training_id: UUID
    release: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A release of training's that could not be published, and why. `kind` is None where its run is not known any
    more; `directory`, where training put it, is "" then. `newer`: than the champion of its kind."""

    training_id: UUID
    release: str
    kind: Kind | None
    reason: str
    directory: str
    at: datetime
    newer: bool


class Refusals(Protocol):
    """What was refused."""

    async def refused(self, *, size: int, before: str) -> list[Refused]:
        """Newest first, those refused before that of the training run `before` ("": from the newest). What was
        published by hand since is none. Raises Unavailable."""


class Arriving(Protocol):
    """What has arrived. Every method raises Unavailable."""

    async def made(self) -> Sequence[Made]:
        """What training made that is neither published nor refused, oldest first."""

    async def refuse(self, made: Made, reason: str) -> None:
        """Keeps why a release can't be published: it is not tried again by itself."""

    async def unrolled(self) -> Sequence[Made]:
        """Of each kind that has a champion and no rollout under way: the newest release that training made, if it is
        newer than the champion and nobody has planned a rollout of it. One that was drafted as REQUEST counts as none.
        """


Publish = Callable[[Path, str, UUID], Awaitable[object]]
"""Publishes the release in a directory, by whom, made by which run: see `server.rollout.publishing.publish`."""
Start = Callable[[Order], Awaitable[Rollout]]


class Arrivals:
    """`start`: carries out an order for a rollout; None: nothing is rolled out by itself."""

    def __init__(self, arriving: Arriving, publish: Publish, start: Start | None) -> None:
        self._arriving, self._publish, self._start = arriving, publish, start
        self._told: dict[str, str] = {}

    async def look(self) -> None:
        """Publishes what has come, and starts what may be.

        What can't be published yet, such as for want of room, keeps nothing else waiting, and is raised at the end.
        Raises Unavailable.
        """
        failure: Exception | None = None
        for made in await self._arriving.made():
            try:
                await self._arrive(made)
            except Exception as error:
                failure = failure or error
        if self._start is not None:
            for made in await self._arriving.unrolled():
                await self._roll_out(made, self._start)
        if failure is not None:
            raise failure

    async def _arrive(self, made: Made) -> None:
        try:
            if not await asyncio.to_thread(made.path.is_dir):
                raise ReleaseInvalid(f"{made.path} is not on this machine: copy it here, and publish it.")
            await self._publish(made.path, BY, made.training_id)
        except (ReleaseInvalid, ReleaseExists) as error:
            await self._arriving.refuse(made, str(error))
            log.warning("%s, which training made, can't be published: %s", made.release, error)
        else:
            log.info("%s, which training made, is published", made.release)

    async def _roll_out(self, made: Made, start: Start) -> None:
        """Starts a rollout by the default plan. Asked for again, it is the same one."""
        order = Order(
            release=made.release,
            plan=Plan(),
            actor=SETTING,
            reason="Training made it, and it was better than the release in service.",
            request_id=f"{REQUEST}{made.training_id}",
            fingerprint=made.training_id.bytes,
        )
        try:
            rollout = await start(order)
        except (RolloutNotPossible, RolloutChanged, RequestIdReused) as error:
            if self._told.get(made.release) != str(error):
                log.warning("%s can't be rolled out yet: %s", made.release, error)
            self._told[made.release] = str(error)
        else:
            log.info("rollout %s of %s, which training made, is under way", rollout.rollout_id, made.release)
