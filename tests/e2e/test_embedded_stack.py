"""The embedded parts, real ones: they answer, they come back, they leave nothing behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from server.embedded import ChildStatus, EmbeddedSettings, Endpoints, Stack, status
from server.embedded.errors import ChildFailed, HomeInUse, PartMissing
from server.embedded.layout import Layout
from server.embedded.orphans import MARK
from tests.conftest import RunningStack

ECHO_CONFIG = """
backend: "python"
max_batch_size: 0
input [{name: "x" data_type: TYPE_FP32 dims: [-1]}]
output [{name: "y" data_type: TYPE_FP32 dims: [-1]}]
instance_group [{kind: KIND_CPU}]
"""
ECHO_MODEL = """
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        rows = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("y", row * 2)]) for row in rows]
"""
HOLDER = """
import asyncio, sys
from pathlib import Path
from server.embedded import EmbeddedSettings, Stack

async def hold():
    endpoints = await Stack(EmbeddedSettings(home=Path(sys.argv[1]))).start()
    print(endpoints.database_url, endpoints.redis_url, endpoints.triton_http_url, flush=True)
    await asyncio.sleep(600)

asyncio.run(hold())
"""


def test_all_three_answer(stack: RunningStack) -> None:
    async def ask() -> None:
        connection = await asyncpg.connect(stack.endpoints.database_url)
        assert await connection.fetchval("SELECT '[1,2]'::vector <-> '[1,4]'::vector") == 2.0
        assert await connection.fetchval("SHOW fsync") == "on"
        await connection.close()
        async with redis.asyncio.from_url(stack.endpoints.redis_url) as cache:
            assert await cache.ping()

    asyncio.run(ask())
    add_echo(stack.home)
    assert echo(stack.endpoints.triton_http_url or "", load=True) == [3.0, 5.0]


def test_status_names_each_part_and_is_readable_from_outside(stack: RunningStack) -> None:
    parts = {part.name: part for part in stack.stack.status()}
    assert {name: part.state for name, part in parts.items()} == dict.fromkeys(parts, "running")
    assert parts["postgres"].version.startswith("18.")
    assert parts["triton"].version == "2.51.0"
    found = status.read(stack.home)
    assert found == (os.getpid(), stack.stack.status(), "")


async def test_a_second_ratchet_with_the_same_home_is_told_who_holds_it(stack: RunningStack) -> None:
    with pytest.raises(HomeInUse, match=rf"process {os.getpid()}.*RATCHET_HOME"):
        await Stack(EmbeddedSettings(home=stack.home)).start()
    assert {part.state for part in stack.stack.status()} == {"running"}


async def test_two_homes_run_beside_each_other(stack: RunningStack, home: Path) -> None:
    async with Stack(EmbeddedSettings(home=home)) as other:
        assert other.triton_url != stack.endpoints.triton_url
        connection = await asyncpg.connect(other.database_url)
        await connection.execute("CREATE TABLE mine (number int)")
        await connection.close()
        first = await asyncpg.connect(stack.endpoints.database_url)
        assert await first.fetchval("SELECT to_regclass('mine')") is None
        await first.close()


@pytest.mark.parametrize("name", ["postgres", "valkey", "triton"])
async def test_a_killed_part_comes_back_on_the_same_address(home: Path, name: str) -> None:
    back = asyncio.Event()

    async def restarted(part: str) -> None:
        assert part == name
        back.set()

    async with started(EmbeddedSettings(home=home), on_restart=restarted) as (parts, _):
        before = part_named(parts, name)
        os.kill(before.pid or 0, signal.SIGKILL)
        await asyncio.wait_for(back.wait(), 30)
        after = part_named(parts, name)
        assert (after.state, after.address, after.restarts) == ("running", before.address, 1)
        assert after.pid != before.pid
        assert "ended" in after.last_error


async def test_an_external_part_is_not_started(home: Path) -> None:
    settings = EmbeddedSettings(home=home, database_url="postgresql://u:secret@db/x", triton_url="triton:8001")
    async with started(settings) as (parts, endpoints):
        assert endpoints.triton_url == "triton:8001"
        assert (endpoints.triton_http_url, endpoints.model_repository) == (None, None)
        assert {part.name: part.state for part in parts.status()} == {
            "valkey": "running",
            "postgres": "external",
            "triton": "external",
        }
        assert "secret" not in str(parts.status())
    assert marked(home) == []


async def test_a_failing_part_takes_the_others_down_and_says_why(home: Path) -> None:
    with pytest.raises(PartMissing, match=r"./run setup"):
        await Stack(EmbeddedSettings(home=home, triton_env=home / "absent")).start()
    assert marked(home) == []
    async with Stack(EmbeddedSettings(home=home)) as endpoints:
        assert endpoints.triton_url


async def test_last_words_of_a_part_that_can_not_start_are_shown(home: Path) -> None:
    async with Stack(EmbeddedSettings(home=home, triton_url="-", redis_url="-")):
        pass
    (home / "postgres" / "18" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ChildFailed, match=r"postgres ended with status 1 .*incompatible.*postgres.log"):
        await Stack(EmbeddedSettings(home=home, triton_url="-", redis_url="-")).start()


@pytest.mark.parametrize("folder", ["a home", "long" * 30], ids=["with a space", "too long for a socket"])
async def test_an_awkward_home_works(home: Path, folder: str) -> None:
    awkward = home / folder
    async with Stack(EmbeddedSettings(home=awkward)) as endpoints:
        add_echo(awkward)
        assert await asyncio.to_thread(echo, endpoints.triton_http_url or "", load=True) == [3.0, 5.0]
        connection = await asyncpg.connect(endpoints.database_url)
        await connection.close()
    assert not Layout.of(awkward).run.exists(), "nothing stays outside the home"


def test_nothing_outlives_a_killed_parent(home: Path) -> None:
    """kill -9 of the parent alone, a model loaded; then the home starts again, data and all."""
    with busy_parent(home) as parent:
        assert len(marked(home)) >= 4, "valkey, triton, its stub and the warden"
        parent.kill()
        parent.wait()
    wait_until(lambda: marked(home) == [] and postgres_of(home) == [])
    wait_until(lambda: not list(Path("/dev/shm").glob(Layout.of(home).shm_prefix + "*")))
    assert asyncio.run(rows_after_restart(home)) == 1


def test_a_start_clears_up_after_a_parent_and_warden_killed_together(home: Path) -> None:
    with busy_parent(home) as parent:
        for pid in [parent.pid, *marked(home), *postgres_of(home)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    prefix = Layout.of(home).shm_prefix
    assert list(Path("/dev/shm").glob(prefix + "*")), "the killed stub left its segment"
    assert asyncio.run(rows_after_restart(home)) == 1
    assert not list(Path("/dev/shm").glob(prefix + "*"))


@contextmanager
def busy_parent(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs all parts, with one row written and one model loaded; killed at the end."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(home)], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            database, _, triton = parent.stdout.readline().split()
            add_echo(home)
            assert echo(triton, load=True) == [3.0, 5.0]
            asyncio.run(write_row(database))
            yield parent
        finally:
            parent.kill()


@asynccontextmanager
async def started(settings: EmbeddedSettings, **hooks: object) -> AsyncIterator[tuple[Stack, Endpoints]]:
    parts = Stack(settings, **hooks)  # type: ignore[arg-type]
    async with parts as endpoints:
        yield parts, endpoints


def part_named(parts: Stack, name: str) -> ChildStatus:
    return next(part for part in parts.status() if part.name == name)


def add_echo(home: Path) -> None:
    version = home / "models" / "echo" / "1"
    version.mkdir(parents=True, exist_ok=True)
    (version / "model.py").write_text(ECHO_MODEL)
    (version.parent / "config.pbtxt").write_text(ECHO_CONFIG)


def echo(http: str, *, load: bool) -> list[float]:
    """The doubled [1.5, 2.5]: string-typed and empty outputs are how a wrong numpy in the stub shows."""
    if load:
        post(f"http://{http}/v2/repository/models/echo/load", {})
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1.5, 2.5]}
    outputs = json.loads(post(f"http://{http}/v2/models/echo/infer", {"inputs": [tensor]}))["outputs"]
    numbers: list[float] = outputs[0]["data"]
    return numbers


def post(url: str, body: object) -> bytes:
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as reply:
        content: bytes = reply.read()
    return content


async def write_row(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE kept (number int)")
    await connection.execute("INSERT INTO kept VALUES (1)")
    await connection.close()


async def rows_after_restart(home: Path) -> int:
    async with Stack(EmbeddedSettings(home=home)) as endpoints:
        connection = await asyncpg.connect(endpoints.database_url)
        count: int = await connection.fetchval("SELECT count(*) FROM kept")
        await connection.close()
    return count


def marked(home: Path) -> list[int]:
    """The processes that carry the home's mark."""
    mark = f"{MARK}={home.resolve()}".encode()
    return [pid for pid, folder in processes() if mark in read_bytes(folder / "environ").split(b"\0")]


def postgres_of(home: Path) -> list[int]:
    data = str(home / "postgres" / "18")
    return [pid for pid, folder in processes() if read_link(folder / "cwd") == data]


def processes() -> list[tuple[int, Path]]:
    return [(int(folder.name), folder) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def read_link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.05)
