"""The embedded parts, started once for all tests that want them."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import hypothesis
import pytest

from server.embedded import EmbeddedSettings, Endpoints, Stack
from server.storage import database, partitions

# Machines are shared: a slow example is no failure, and the unit part must stay quick.
hypothesis.settings.register_profile("shared", deadline=None, max_examples=30)
hypothesis.settings.load_profile("shared")


@dataclass(frozen=True)
class RunningStack:
    """`loop` runs the supervision in a thread of its own, whatever the tests' loops do."""

    stack: Stack
    endpoints: Endpoints
    home: Path
    loop: asyncio.AbstractEventLoop


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """Real Postgres, Valkey and Triton, from a home of their own. No model is loaded, no migration done."""
    home = new_home()
    loop = asyncio.new_event_loop()
    # The kernel ties the children to the thread that starts them: this one lasts until the loop is stopped.
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    parts = Stack(EmbeddedSettings(home=home))
    try:
        endpoints = asyncio.run_coroutine_threadsafe(parts.start(), loop).result(90)
        yield RunningStack(parts, endpoints, home, loop)
        asyncio.run_coroutine_threadsafe(parts.stop(), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
async def pool(stack: RunningStack) -> AsyncIterator[asyncpg.Pool]:
    """A migrated database."""
    async with await database.connect(stack.endpoints.database_url, size=8) as found:
        await database.migrate(found)
        await partitions.ensure(found, datetime.now(UTC))
        yield found


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path, as sockets need, that the account of root's Postgres can reach, as pytest's own are not."""
    path = new_home()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def new_home() -> Path:
    path = Path(tempfile.mkdtemp(prefix="ratchet-", dir="/tmp"))
    path.chmod(0o711)
    return path
