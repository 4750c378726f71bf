"""Publishes releases for the deployment that this process serves: into its Triton's repository, in its layouts."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from server.errors import told
from server.rollout.publishing import publish
from server.rollout.registry import Published
from server.rollout.store import Rollouts
from triton_models.config import Options
from triton_models.manifest import ReleaseError, read

log = logging.getLogger(__name__)


class Publisher:
    """`options`: how Triton runs releases of a kind."""

    def __init__(self, rollouts: Rollouts, repository: Path, options: Mapping[str, Options]) -> None:
        self._rollouts, self._repository, self._options = rollouts, repository, options
        self._one = asyncio.Lock()
        self._under_way: set[asyncio.Task[tuple[Published, bool]]] = set()

    async def __call__(self, directory: Path, by: str, training_id: UUID | None = None) -> tuple[Published, bool]:
        """The release of a directory as it is registered, and whether it was before: one after the other, since each
        reads and writes all of its files. Goes on to its end also when whoever asked leaves: gigabytes take longer than
        a call may. Raises what `server.rollout.publishing.publish` does."""
        task = asyncio.create_task(self._published(directory, by, training_id))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def _published(self, directory: Path, by: str, training_id: UUID | None) -> tuple[Published, bool]:
        async with self._one:
            options = await asyncio.to_thread(self._options_of, directory)
            return await publish(
                directory, self._repository, self._rollouts, options, by=by or "anyone", training_id=training_id
            )

    def _ended(self, task: "asyncio.Task[tuple[Published, bool]]") -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.debug("a release was not published: %s", told(error))  # whoever asked, and has not left, has it

    def _options_of(self, directory: Path) -> Options | None:
        try:
            return self._options.get(read(directory).kind)
        except ReleaseError:
            return None  # publishing tells
