"""The starter models' help pages as documents, so that a fresh Ratchet has something to answer from."""

import asyncio
from pathlib import Path

from server.documents.formats import Format
from server.documents.library import Library
from server.documents.reader import Source
from server.storage.documents import Outcome

PAGES = Path(__file__).resolve().parents[2] / "starter" / "help_pages"
TENANT = "default"
URI = "starter/help_pages/"
SECONDS = 30.0


async def load(library: Library, pages: Path = PAGES, tenant: str = TENANT) -> int:
    """Adds the pages that are new or have changed; their number. Raises StoreUnavailable, DocumentUnreadable."""
    changed = 0
    for page in await asyncio.to_thread(lambda: sorted(pages.glob("*.md"))):
        source = Source(tenant, URI + page.name, await asyncio.to_thread(page.read_bytes), Format.MARKDOWN)
        _, outcome = await library.add(source, SECONDS)
        changed += outcome is not Outcome.UNCHANGED
    return changed
