"""Root's Postgres runs under another account: what that account must reach, and what happens when it can't."""

import os
import shutil
from pathlib import Path

import asyncpg
import pytest

from server.embedded import EmbeddedSettings, Stack, preflight
from server.embedded.errors import HomeUnusable
from server.embedded.postgres import find_installation

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")


def only_postgres(home: Path) -> EmbeddedSettings:
    return EmbeddedSettings(home=home, redis_url="-", triton_url="-")


async def test_a_home_behind_a_closed_door_is_refused_with_a_way_out(home: Path) -> None:
    home.chmod(0o700)
    inside = home / "inner"
    with pytest.raises(HomeUnusable, match=r"can't reach .*/var/lib/ratchet"):
        await Stack(only_postgres(inside)).start()
    assert [check.name for check in preflight.run(only_postgres(inside)) if not check.ok] == ["postgres"]


async def test_programs_behind_a_closed_door_are_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout in /root: nobody but root can read its environment."""
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    package = find_installation().parent
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, closed / folder.name, ignore=shutil.ignore_patterns("pginstall", "include", "*.a"))
    hidden = closed / package.name / "pginstall18"
    monkeypatch.setattr("server.embedded.postgres.find_installation", lambda: hidden)
    for _ in range(2):
        async with Stack(only_postgres(home)) as endpoints:
            connection = await asyncpg.connect(endpoints.database_url)
            assert await connection.fetchval("SELECT '[1]'::vector::text") == "[1]"
            await connection.close()
    assert len(list((home / "postgres").glob("programs-*"))) == 1


async def test_the_data_stay_with_their_owner(home: Path) -> None:
    async with Stack(only_postgres(home)):
        owner = (home / "postgres" / "18").stat().st_uid
    assert owner != 0
    stranger = 54321
    for path in (home / "postgres" / "18").rglob("*"):
        os.lchown(path, stranger, stranger)
    os.chown(home / "postgres" / "18", stranger, stranger)
    async with Stack(only_postgres(home)) as endpoints:
        connection = await asyncpg.connect(endpoints.database_url)
        await connection.close()
