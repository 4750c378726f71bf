"""What `ratchet doctor` checks before anything runs: the machine, the binaries, the home. Changes nothing; blocks."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from server.embedded import machine
from server.embedded.account import postgres_account
from server.embedded.errors import EmbeddedError, HomeInUse, HomeUnusable, PartMissing, require_space
from server.embedded.layout import Layout
from server.embedded.lock import holder
from server.embedded.postgres import find_installation
from server.embedded.settings import EmbeddedSettings
from server.embedded.triton_env import TritonEnv
from server.embedded.valkey import find_binary
from server.embedded.warden import SHARED_MEMORY

SHARED_MEMORY_MB = 32
"""Each Triton model instance takes 1 MB and grows with its tensors."""


@dataclass(frozen=True, slots=True)
class Check:
    """`detail` says what was found; `fix` what to do, empty when `ok`."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def run(settings: EmbeddedSettings) -> list[Check]:
    """The checks that matter for the parts to be started; those replaced by a URL are left out."""
    layout = Layout.of(settings.home)
    if settings.database_url and settings.redis_url and settings.triton_url:
        return []
    checks = [
        _check("machine", _machine),
        _check("home", lambda: _home(layout)),
        _check("disk", lambda: _disk(layout)),
    ]
    if not settings.database_url:
        checks.append(_check("postgres", lambda: _postgres(layout)))
    if not settings.redis_url:
        checks.append(_check("valkey", lambda: str(find_binary())))
    if settings.triton and not settings.triton_url:
        checks.append(_check("triton", lambda: _triton(settings.triton_env)))
        checks.append(_check("shared memory", _shared_memory))
    return checks


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except EmbeddedError as error:
        detail, _, fix = str(error).partition(": ")
        return Check(name, False, detail, fix)


def _machine() -> str:
    machine.require_supported()
    return f"Linux x86-64, glibc {'.'.join(map(str, machine.glibc_version()))}, {os.cpu_count()} cores"


def _home(layout: Layout) -> str:
    existing = _nearest(layout.home)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise HomeUnusable(f"{existing} can't be written: set RATCHET_HOME to a directory that you may write to.")
    pid = holder(layout.lock)
    if pid is None:
        return f"{layout.home}, nobody runs from it"
    if pid != os.getpid():
        raise HomeInUse(layout.home, pid)
    return f"{layout.home}, ours"


def _disk(layout: Layout) -> str:
    return f"{require_space(_nearest(layout.home))} MB free"


def _postgres(layout: Layout) -> str:
    installation = find_installation()
    account = postgres_account(layout.postgres_data)
    if account is None:
        return str(installation)
    if not account.can_reach(_nearest(layout.home.parent)):
        raise HomeUnusable(
            f"Root's Postgres runs as {account.name}, who can't reach {layout.home}: "
            "set RATCHET_HOME to a directory whose parents everybody may cross, such as /var/lib/ratchet."
        )
    return f"{installation}, run by the user {account.name}"


def _triton(folder: Path) -> str:
    env = TritonEnv.inspect(folder)
    env.check_stub()
    numpy = next((found.version for found in distributions(name="numpy", path=[str(env.site)])), "missing")
    if not numpy.startswith("1."):
        raise PartMissing(f"{folder} has numpy {numpy}, and Triton's stubs need 1.26: run `./run setup` again.")
    return f"{env.server}, stubs on Python {env.version} with numpy {numpy}"


def _shared_memory() -> str:
    free = shutil.disk_usage(SHARED_MEMORY).free >> 20
    if free < SHARED_MEMORY_MB:
        raise PartMissing(
            f"{SHARED_MEMORY} has {free} MB left, and Triton's stubs need {SHARED_MEMORY_MB}: "
            "free some, or run the container with a larger one (--shm-size=256m)."
        )
    return f"{free} MB free in {SHARED_MEMORY}"


def _nearest(path: Path) -> Path:
    """The path itself, or its closest ancestor that exists."""
    return next(step for step in (path, *path.parents) if step.exists())
