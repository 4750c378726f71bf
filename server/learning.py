"""What users ask moves their preference vectors, after the reply has left: nobody waits for it.

A lesson from a reply that the user's erasure reaches is not learned: it would bring the profile back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from server.errors import RatchetError, told
from server.metrics import LESSONS
from server.patience import within

log = logging.getLogger(__name__)

ASKED_WEIGHT = 1.0
"""How much one query moves the vector; a rating moves it by up to twice as much."""
BOUND = 1024
"""Lessons that may wait; more are dropped, and counted."""
TIME_LIMIT = 5.0


class Learnable(Protocol):
    """What learning needs of the store of profiles."""

    async def learn(self, tenant: str, user: str, embedding: Sequence[float], weight: float, model: str) -> None:
        """Moves the user's preference vector towards an embedding."""

    async def delete(self, tenant: str, user: str) -> bool:
        """Erases the user's profile."""


Erased = Callable[[str, str, UUID], Awaitable[bool]]
"""Whether a tenant's user was erased after the request of a reply came in."""


async def never(tenant: str, user: str, response_id: UUID) -> bool:  # noqa: ARG001  # an Erased
    """Where nobody is erased."""
    return False


@dataclass(frozen=True, slots=True)
class Lesson:
    """Moves a user's vector by `weight` towards what `embedding` gives, which comes from a reply; None teaches
    nothing."""

    tenant: str
    user: str
    response_id: UUID
    weight: float
    embedding: Callable[[], Awaitable[Sequence[float] | None]]


class Learner:
    """Writes lessons one after the other, in a task of its own."""

    def __init__(self, profiles: Learnable, model: str, erased: Erased = never) -> None:
        self._profiles, self._model, self._erased = profiles, model, erased
        self._lessons: asyncio.Queue[Lesson] = asyncio.Queue(BOUND)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the task."""
        self._task = asyncio.create_task(self._write_forever())

    async def stop(self) -> None:
        """Writes what waits, while the store answers, and ends the task."""
        try:
            async with asyncio.timeout(TIME_LIMIT):
                await self._lessons.join()
        except TimeoutError:
            log.warning("%d lessons for user profiles are lost: the store is too slow", self._lessons.qsize())
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    def asked(self, tenant: str, user: str, embedding: Sequence[float] | None, response_id: UUID) -> None:
        """Notes that a user asked something, and was given a reply; nothing for anonymous users and queries without an
        embedding."""
        if not embedding:
            return

        async def given() -> Sequence[float]:
            return embedding

        self.teach(Lesson(tenant, user, response_id, ASKED_WEIGHT, given))

    def teach(self, lesson: Lesson) -> None:
        """Notes a lesson, unless the user is anonymous; drops it when too many wait."""
        if not lesson.user:
            return
        try:
            self._lessons.put_nowait(lesson)
        except asyncio.QueueFull:
            LESSONS.labels("dropped").inc()

    async def _write_forever(self) -> None:
        while True:
            lesson = await self._lessons.get()
            try:
                learned = await within(TIME_LIMIT, self._learn(lesson))
                LESSONS.labels("learned" if learned else "erased").inc()
            except (RatchetError, TimeoutError) as error:
                LESSONS.labels("lost").inc()
                log.warning("a user's profile did not learn: %s", told(error))
            except Exception:
                LESSONS.labels("lost").inc()
                log.exception("a user's profile did not learn")
            finally:
                self._lessons.task_done()

    async def _learn(self, lesson: Lesson) -> bool:
        """Whether there is something learned. The store itself may not know of erasures: so one that ends before this
        begins is seen before, one that ends later is seen after, and whoever is last deletes the profile."""
        about = (lesson.tenant, lesson.user, lesson.response_id)
        if await self._erased(*about) or not (embedding := await lesson.embedding()):
            return False
        await self._profiles.learn(lesson.tenant, lesson.user, embedding, lesson.weight, self._model)
        if await self._erased(*about):
            await self._profiles.delete(lesson.tenant, lesson.user)
            return False
        return True
