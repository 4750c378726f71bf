"""Publishes releases for the deployment that this process serves: into its Triton's repository, in its layouts."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from server.rollout.publishing import publish
from server.rollout.registry import Published
from server.rollout.store import Rollouts
from triton_models.config import Options
from triton_models.manifest import ReleaseError, read


class Publisher:
    """`options`: how Triton runs releases of a kind."""

    def __init__(self, rollouts: Rollouts, repository: Path, options: Mapping[str, Options]) -> None:
        self._rollouts, self._repository, self._options = rollouts, repository, options
        self._one = asyncio.Lock()

    async def __call__(self, directory: Path, by: str, training_id: UUID | None = None) -> tuple[Published, bool]:
        """The release of a directory as it is registered, and whether it was before: one after the other, since each
        reads and writes all of its files. Raises what `server.rollout.publishing.publish` does."""
        async with self._one:
            options = await asyncio.to_thread(self._options_of, directory)
            return await publish(
                directory, self._repository, self._rollouts, options, by=by or "anyone", training_id=training_id
            )

    def _options_of(self, directory: Path) -> Options | None:
        try:
            return self._options.get(read(directory).kind)
        except ReleaseError:
            return None  # publishing tells
