"""How a server starts, keeps itself up, and ends: in order, in bounded time, whatever hangs or breaks around it."""

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc
from server import app as apps
from server import crew
from server.app import App
from server.deployment import deploy
from server.embedded import EmbeddedSettings, Stack, status
from server.errors import ConfigurationError
from server.notice import StopNotice
from server.settings import load
from server.storage import database, partitions
from server.storage.journal import Journal
from tests.conftest import RunningStack, new_home
from tests.e2e.processes import below, first_named
from tests.e2e.serving import Serving, serving
from tests.turns import a_turn, an_entry

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FAKE = "--backend=fake"


@pytest.fixture(scope="module")
def fake() -> Iterator[Serving]:
    """Two processes without models, with a Postgres and a Valkey of their own."""
    with serving(new_home(), FAKE, "--processes=2") as found:
        assert found.started["sample"]["response"]
        yield found


@pytest.fixture
async def app(stack: RunningStack, home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """A server in this process, on the fake backend, ended at once."""
    monkeypatch.setattr(apps, "PROBE_EVERY", 0.1)
    given = {"backend": "fake", "listen": "127.0.0.1:0", "lame_duck": 0.3, "drain": 20, "model_repository": home / "m"}
    settings = load({"home": home, **given}, {})
    found = App(settings, stack.endpoints, await deploy(settings, stack.endpoints), shared_port=False)
    await found.start()
    yield found
    urgent = asyncio.Event()
    urgent.set()
    await found.stop(urgent)


@asynccontextmanager
async def channel_to(app: App) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}", options=options) as channel:
        yield channel


async def health(channel: grpc.aio.Channel) -> int:
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    return int(answer.status)


def generate(channel: grpc.aio.Channel) -> "asyncio.Future[pb.GenerateResponse]":
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    return asyncio.ensure_future(stub.Generate(pb.GenerateRequest(query="Hello"), timeout=60))


def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.05)


def test_the_fake_backend_serves_generate_and_score(fake: Serving) -> None:
    assert {part["name"] for part in fake.events[-1]["parts"]} == {"postgres", "valkey"}
    with grpc.insecure_channel(fake.events[-1]["serving"]) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        reply = stub.Generate(pb.GenerateRequest(query="Hello", session_id="s"), timeout=30)
        assert len(reply.candidates) == 5
        assert not reply.degradations
        assert len(stub.Score(pb.ScoreRequest(query="q", responses=["a", "b"]), timeout=30).scores) == 2


def test_doctor_knows_no_triton_where_the_backend_is_fake(fake: Serving) -> None:
    home = str(fake.process.args[fake.process.args.index("--home") + 1])  # type: ignore[union-attr,index,call-overload]
    listen = fake.events[-1]["serving"]
    done = command("doctor", "--json", RATCHET_HOME=home, RATCHET_BACKEND="fake")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert {part["name"] for part in found["parts"]} == {"postgres", "valkey"}
    assert found["server"] == {"address": listen, "health": "SERVING"}, "though RATCHET_LISTEN does not say so"


def test_a_proxy_of_the_environment_is_not_asked_for_the_way_to_loopback(fake: Serving) -> None:
    proxies = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    done = command("ask", "Hello", "--json", "--address", fake.events[-1]["serving"], **proxies)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["response"]


def test_a_lost_reader_does_not_end_the_supervision(home: Path) -> None:
    with serving(home, FAKE, pipe_closed=True) as ratchet:
        first_named(ratchet.process.pid, "valkey-server").kill()
        deadline = time.monotonic() + 20
        while (found := status.read(home)) is None or found[1][1].restarts != 1 or found[1][1].state != "running":
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        assert ratchet.stop() == 0
        assert "Traceback" not in ratchet.errors()


async def test_a_full_disk_and_a_deaf_listener_do_not_end_the_supervision(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def leave(_: str) -> None:
        raise BrokenPipeError

    back = asyncio.Event()

    async def restarted(_: str) -> None:
        back.set()

    settings = EmbeddedSettings(home, database_url="d", triton_url="t")
    parts = Stack(settings, on_event=leave, on_restart=restarted)
    async with parts:
        monkeypatch.setattr("server.embedded.stack.status.write", fail)
        os.kill(parts.status()[0].pid or 0, signal.SIGKILL)
        await asyncio.wait_for(back.wait(), 20)
        assert (parts.status()[0].state, parts.status()[0].restarts) == ("running", 1)


async def test_a_long_reader_of_the_log_stops_no_insert_while_partitions_are_made(pool: asyncpg.Pool) -> None:
    later = datetime.now(UTC) + timedelta(days=1500)
    journal = Journal(pool)
    await journal.start()
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT count(*) FROM conversation_logs")
        making = asyncio.create_task(partitions.ensure(pool, later, ahead=0))
        for _ in range(10):
            began = time.monotonic()
            await journal.append(an_entry(a_turn(session_id="beside a reader")))
            assert time.monotonic() - began < 0.3
            await asyncio.sleep(0.05)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await making
    assert await partitions.ensure(pool, later, ahead=0) == [f"conversation_logs_{later:%Y_%m}"]
    await journal.stop()


async def test_a_partition_made_by_attaching_has_the_keys_and_takes_the_rows(pool: asyncpg.Pool) -> None:
    await partitions.ensure(pool, datetime.now(UTC))
    name = f"conversation_logs_{datetime.now(UTC):%Y_%m}"
    rows = await pool.fetch(
        "SELECT inhparent::regclass::text AS parent FROM pg_inherits"
        " JOIN pg_index ON indexrelid = inhrelid WHERE indrelid = $1::regclass",
        name,
    )
    assert {row["parent"] for row in rows} >= {"conversation_logs_pkey", "conversation_logs_by_session"}
    parents = await pool.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = 'conversation_logs'::regclass")
    assert len(rows) == parents
    assert await pool.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = $1::regclass", name) == parents


async def test_migrations_wait_for_another_process_as_long_as_it_takes(stack: RunningStack, pool: asyncpg.Pool) -> None:
    other = await asyncpg.connect(stack.endpoints.database_url)
    await other.execute("SELECT pg_advisory_lock($1)", database._LOCK)
    async with await database.connect(stack.endpoints.database_url, size=1, patience=None) as migrating:
        waiting = asyncio.create_task(database.migrate(migrating))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await other.close()
        assert await waiting == []


async def test_a_user_who_may_not_make_tables_is_told_so(stack: RunningStack, pool: asyncpg.Pool) -> None:
    await pool.execute("DROP ROLE IF EXISTS guest")
    await pool.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    database_name = await pool.fetchval("SELECT current_database()")
    await pool.execute(f"GRANT CONNECT ON DATABASE {database_name} TO guest")  # the sample data closes it to everyone
    url = stack.endpoints.database_url
    guest = "postgresql://guest:guest@" + url.partition("@")[2]
    async with await database.connect(guest, size=1) as theirs:
        with pytest.raises(ConfigurationError, match="may not make Ratchet's tables"):
            await database.migrate(theirs)
    with pytest.raises(ConfigurationError, match="refuses the user or password"):
        await database.connect(guest.replace("guest:guest", "guest:wrong"), size=1)
    await pool.execute("ALTER ROLE guest NOLOGIN")
    with pytest.raises(ConfigurationError, match=r"Postgres refuses .*not permitted to log in"):
        await database.connect(guest, size=1)
    await pool.execute(f"REVOKE CONNECT ON DATABASE {database_name} FROM guest")
    await pool.execute("DROP ROLE guest")


async def test_a_pool_whose_connection_is_never_given_back_is_closed_in_time(stack: RunningStack) -> None:
    pool = await database.connect(stack.endpoints.database_url, size=1)
    await pool.acquire()
    began = time.monotonic()
    await database.close(pool, 0.3)
    assert time.monotonic() - began < 2


async def test_whoever_asks_while_it_stops_is_told_and_whoever_asked_before_is_answered(app: App) -> None:
    app._backend.faults.delay = 0.6  # type: ignore[union-attr]
    async with channel_to(app) as channel:
        assert await health(channel) == SERVING
        under_way = generate(channel)
        await asyncio.sleep(0.2)
        stopping = asyncio.create_task(app.stop(asyncio.Event()))
        await asyncio.sleep(0.1)
        assert await health(channel) == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generate(channel)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "stopping" in (refused.value.details() or "")
        assert (await under_way).response
        await stopping


async def test_a_client_that_watches_the_health_does_not_hold_up_the_stop(app: App) -> None:
    async with channel_to(app) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        began = time.monotonic()
        stopping = asyncio.create_task(app.stop(asyncio.Event()))
        assert (await watch.read()).status == NOT_SERVING
        await stopping
        assert time.monotonic() - began < 5


async def test_a_second_notice_ends_calls_under_way_and_closes_everything(app: App) -> None:
    app._backend.faults.delay = 30  # type: ignore[union-attr]
    async with channel_to(app) as channel:
        await health(channel)
        under_way = generate(channel)
        await asyncio.sleep(0.3)
        urgent = asyncio.Event()
        stopping = asyncio.create_task(app.stop(urgent))
        await asyncio.sleep(0.5)
        assert not stopping.done()
        began = time.monotonic()
        urgent.set()
        await stopping
        assert time.monotonic() - began < 3
        with pytest.raises(grpc.aio.AioRpcError):
            await under_way
    assert app._connected is not None
    assert app._connected.listing._pool.is_closing()


async def test_models_that_triton_lost_are_loaded_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async with channel_to(app) as channel:
        for failures in (0, 1):
            may_load = load_fails(app, failures, monkeypatch)
            app._backend.loaded.clear()  # type: ignore[union-attr]
            async with asyncio.timeout(20):
                for expected in (NOT_SERVING, SERVING):
                    while await health(channel) != expected:
                        await asyncio.sleep(0.01)
                    may_load.set()
            assert (await generate(channel)).response


def load_fails(app: App, times: int, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Models load once the event is set; the next `times` attempts fail in a way nobody expects."""
    load_model, left, may_load = app._backend.load, [times], asyncio.Event()

    async def fail_first(model: str, timeout: float) -> None:
        await may_load.wait()
        if left[0]:
            left[0] -= 1
            raise KeyError(model)
        await load_model(model, timeout)

    monkeypatch.setattr(app._backend, "load", fail_first)
    return may_load


def job(port: int) -> str:
    """A worker's job whose Postgres is at `port`."""
    settings = load({"backend": "fake", "listen": "127.0.0.1:0", "metrics": "off"}, {}).model_dump(mode="json")
    url = f"postgresql://u:p@127.0.0.1:{port}/x?sslmode=disable"
    endpoints = {"database_url": url, "redis_url": "redis://127.0.0.1:1", "triton_url": ""}
    return json.dumps({"settings": settings, "endpoints": endpoints, "deployment": {"policy": "/p", "reward": "/r"}})


def started_workers() -> list[psutil.Process]:
    """This process's own: not those of a server that it started."""
    return below(os.getpid(), lambda one: one.ppid() == os.getpid() and "server.worker" in one.cmdline())


async def test_a_worker_that_is_still_starting_ends_with_its_launcher() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = [sys.executable, "-m", "server.worker"]
        worker = await asyncio.create_subprocess_exec(*line, stdin=asyncio.subprocess.PIPE)
        assert worker.stdin is not None
        worker.stdin.write(job(silent.getsockname()[1]).encode() + b"\n")
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:  # it waits for Postgres now, for ten seconds
            began = time.monotonic()
            worker.stdin.close()
            assert await worker.wait() == 0
            assert time.monotonic() - began < 5


async def test_a_worker_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "URGENT_SECONDS", 0.3)
    notice, events = StopNotice(), list[str]()
    worker = crew.Worker("one", crew.Program("server.worker", job=job(1)), 0.3, notice, events.append)
    await until(lambda: bool(started_workers()))
    [process] = started_workers()
    process.suspend()
    notice.give()
    await asyncio.wait_for(worker.ended(), 5)
    assert started_workers() == []
    assert events == []


def test_stopping_two_processes_leaves_none_behind_and_takes_no_longer_than_one() -> None:
    home = new_home()
    with serving(home, FAKE, "--processes=2", "--lame-duck=10") as ratchet:
        assert ratchet.started
        tree = psutil.Process(ratchet.process.pid).children(recursive=True)
        assert below(ratchet.process.pid, lambda one: "server.worker" in one.cmdline())
        began = time.monotonic()
        assert ratchet.stop() == 0
        assert time.monotonic() - began < 19, "one after the other, their lame ducks alone would take as long"
        assert psutil.wait_procs(tree, timeout=5)[1] == []
    assert list((home / "run" / "metrics").iterdir()) == []


def test_a_second_server_on_the_same_home_leaves_the_first_ones_metrics_alone(fake: Serving) -> None:
    home = Path(str(fake.process.args[fake.process.args.index("--home") + 1]))  # type: ignore[union-attr,index,call-overload]
    before = set((home / "run" / "metrics").rglob("*.db"))
    with serving(home, FAKE, "--processes=2") as second:
        said = second.errors()
    assert "is in use by process" in said.replace("\n", " ")
    assert before
    assert before <= set((home / "run" / "metrics").rglob("*.db"))


async def test_a_signal_while_it_starts_ends_it(home: Path) -> None:
    with serving(home, FAKE) as ratchet:
        await until((home / "lock").exists)
        assert await asyncio.to_thread(ratchet.stop) == 0
        assert "Traceback" not in ratchet.errors()
        assert [line for line in ratchet.rest() if "serving" in line] == []
