"""The vocabularies of the tenants that ask here, kept near: a task reads them again when documents change."""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict

from server.documents.vocabulary import Vocabulary
from server.errors import StoreUnavailable
from server.storage.passages import Passages
from server.trouble import Trouble

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between looks at what has changed."""
MOST_TENANTS = 64
"""Vocabularies that are kept; the tenants that asked last have theirs."""
_SHARE = 0.1
"""Of the time at most, refreshing goes on: where documents change all the time, a digest may lag."""


class Digests:
    """Vocabularies by tenant. `start` and `close` once each."""

    def __init__(self, passages: Passages, every: float = EVERY) -> None:
        self._passages, self._every = passages, every
        self._kept: OrderedDict[str, Vocabulary | None] = OrderedDict()
        self._loading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to follow changes."""
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def known(self, tenant: str) -> Vocabulary | None:
        """The tenant's vocabulary, a second old at most as a rule; None until it was read, which begins now."""
        if tenant not in self._kept and len(self._kept) >= MOST_TENANTS:
            self._kept.popitem(last=False)
        found = self._kept.setdefault(tenant, None)
        self._kept.move_to_end(tenant)
        return found

    async def of(self, tenant: str) -> Vocabulary:
        """The same, read now if need be. Raises StoreUnavailable."""
        found = self.known(tenant)
        if found is None:
            async with self._loading:
                found = self.known(tenant) or await self._load(tenant)
        return found

    async def _load(self, tenant: str) -> Vocabulary:
        self._kept[tenant] = found = await self._passages.vocabulary(tenant)
        return found

    async def _follow(self) -> None:
        trouble = Trouble(log, "refreshing the digests of the documents")
        while True:
            took = 0.0
            try:
                took = await self._refresh()
                trouble.works()
            except StoreUnavailable as error:
                trouble.failed(error)
            except Exception as error:  # a defect of ours must not end what keeps searching right
                trouble.failed(error, defect=True)
            await asyncio.sleep(max(self._every, took / _SHARE))

    async def _refresh(self) -> float:
        """Reads again what has changed; the seconds that took."""
        began = time.monotonic()
        tenants = list(self._kept)
        versions = await self._passages.versions(tenants) if tenants else {}
        for tenant in tenants:
            kept = self._kept.get(tenant)
            if kept is None or kept.version != versions.get(tenant, 0):
                async with self._loading:
                    await self._load(tenant)
        return time.monotonic() - began if tenants else 0.0
