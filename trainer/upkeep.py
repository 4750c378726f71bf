"""What a trainer clears away: what ended runs left, and what was kept long enough.

Kept whole are open runs, runs with a release, and of each tenant the newest `keep` runs that succeeded and as many that
did not. Of any other run the snapshot's files and the curve go; its row and report stay. Each step may be killed
anywhere: the row says it first, then the files go, and the next call finishes what this one began.
"""

import asyncio
import fcntl
import json
import logging
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from trainer.data import parquet, snapshots
from trainer.database import answering
from trainer.errors import unforeseen
from trainer.reward import directory, jobs
from trainer.settings import TrainerSettings

log = logging.getLogger(__name__)

GRACE: Final = 3600.0
"""Seconds that a snapshot is kept which no run has yet: it was just taken."""
STRANGE: Final = 24 * 3600.0
"""Seconds without a change after which the directory of a run goes that the database does not know."""
_RUN: Final = "-".join("[0-9a-f]" * digits for digits in (8, 4, 4, 4, 12))
_MODEL: Final = re.compile(r"reward-\d{1,12}")
_GOING: Final = ".going"

_ENDED: Final = """
SELECT training_id, CASE WHEN ended_at IS NULL THEN NULL ELSE release END AS release FROM training_runs
WHERE training_id = ANY($1::uuid[])
"""
_PRUNE: Final = """
WITH RECURSIVE ranked AS (
    SELECT snapshot, state IN ('QUEUED', 'RUNNING') OR release <> '' OR row_number() OVER (
        PARTITION BY tenant_id, state = 'SUCCEEDED' ORDER BY training_id DESC
    ) <= $1 AS whole
    FROM training_runs WHERE snapshot IS NOT NULL
), kept (snapshot) AS (
    SELECT snapshot FROM ranked WHERE whole
    UNION
    SELECT taken.replaced_by FROM kept JOIN training_snapshots AS taken USING (snapshot) WHERE taken.replaced_by <> ''
)
UPDATE training_snapshots SET pruned_at = now()
WHERE pruned_at IS NULL AND (erased_at IS NULL OR replaced_by IS NOT NULL)
    AND taken_at < now() - make_interval(secs => $2) AND snapshot NOT IN (SELECT snapshot FROM kept)
RETURNING snapshot
"""
"""A rewritten snapshot is kept with the run of the one that it replaced."""
_PRUNE_USERS: Final = """
DELETE FROM training_snapshot_users WHERE snapshot IN (
    SELECT snapshot FROM training_snapshots WHERE snapshot = ANY($1) AND pruned_at IS NOT NULL AND path = $2 || snapshot
) AND (snapshot, encode(digest, 'hex')) NOT IN (
    SELECT run.snapshot, quoted #>> '{}'
    FROM training_runs AS run, jsonb_path_query(run.report, '$.mistakes[*].users[*]') AS quoted
    WHERE run.snapshot = ANY($1)
)
"""
"""Of files that are gone. Reports go on quoting users, and an erasure must find those; of files that belong to another
home nobody here knows whether they are gone."""
_PRUNE_POINTS: Final = """
DELETE FROM training_points WHERE training_id IN (SELECT training_id FROM training_runs WHERE snapshot = ANY($1))
"""
_PRUNED: Final = "SELECT snapshot FROM training_snapshots WHERE pruned_at IS NOT NULL AND snapshot = ANY($1)"
_BASES: Final = "SELECT asked ->> 'base' FROM training_runs WHERE state IN ('QUEUED', 'RUNNING')"
_IN_SERVICE: Final = """
SELECT DISTINCT ON (tenant_id) compared_with FROM training_runs WHERE state = 'SUCCEEDED' AND compared_with <> ''
ORDER BY tenant_id, training_id DESC
"""


async def clear(pool: asyncpg.Pool, settings: TrainerSettings) -> None:
    """All of it. Raises TrainerError when Postgres does not answer, OSError."""
    await tidy(pool, settings)
    for snapshot in await prune(pool, settings):
        log.info("snapshot %s deleted: it was kept long enough", snapshot)
    await prune_models(pool, settings)


async def tidy(pool: asyncpg.Pool, settings: TrainerSettings) -> None:
    """Puts away the directories of runs that have ended elsewhere, or whose trainer died at the very end."""
    there = {UUID(path.name): path for path in await asyncio.to_thread(sorted, settings.runs.glob(_RUN))}
    if not there:
        return
    with answering("training runs"):
        known = {row["training_id"]: row["release"] for row in await pool.fetch(_ENDED, list(there))}
    for name, path in there.items():
        if name not in known:
            await asyncio.to_thread(_put_away_strange, path)
        elif (release := known[name]) is not None:
            await asyncio.to_thread(put_away, path, settings.models, release)


def put_away(place: Path, models: Path, release: str) -> None:
    """Of an ended run's directory keeps the model of its release, and nothing else: it holds texts of users.

    A run without a release may have made one before it was cancelled or failed: that goes, too. Nothing happens while
    a process of a trainer that was killed still works in it.
    """
    if _busy(place):
        return
    if release:
        _keep_model(place, models / release)
    _unmake(place, released=bool(release))
    shutil.rmtree(place, ignore_errors=True)


def _put_away_strange(place: Path) -> None:
    """Of another database, maybe, whose trainer shares this home: its run may wait, and its releases are none of ours.

    A run whose directory went begins anew.
    """
    with suppress(OSError):
        changed = max(path.stat().st_mtime for path in (place, *place.iterdir()))
        if time.time() - changed > STRANGE and not _busy(place):
            shutil.rmtree(place, ignore_errors=True)


def _busy(place: Path) -> bool:
    try:
        with (place / directory.LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody ever worked there
        return False
    return False


def _keep_model(place: Path, kept: Path) -> None:
    if kept.exists():  # numbers of releases are given once: this is it
        return
    try:
        found = json.loads((place / directory.RESULT).read_bytes())
        if found["release"] != kept.name:
            log.warning("the model behind release %s is not kept: %s trained another", kept.name, place)
        elif model := found["model"]:
            kept.parent.mkdir(parents=True, exist_ok=True)
            Path(model).rename(kept)
    except FileNotFoundError:  # another trainer of this home was quicker
        return
    except (OSError, ValueError, KeyError, TypeError) as error:  # the run has ended well
        log.warning("the model behind release %s is not kept: %s", kept.name, unforeseen(error))


def _unmake(place: Path, released: bool) -> None:
    """Deletes what exports that were killed left, and without a release what one finished."""
    try:
        out = jobs.read(place / jobs.NAME).job.out
    except (OSError, ValueError, KeyError, TypeError):  # it never came as far as a release
        return
    for path in (*([] if released else [out]), *out.parent.glob(f".{out.name}.*")):
        shutil.rmtree(path, ignore_errors=True)


async def prune(pool: asyncpg.Pool, settings: TrainerSettings) -> tuple[str, ...]:
    """Deletes the snapshots and curves of runs that need not be kept; gives the hashes whose files went from here."""
    folder = settings.training / snapshots.FOLDER
    here = await asyncio.to_thread(parquet.tidied, folder)
    with answering("snapshots"):
        async with pool.acquire() as connection, connection.transaction():
            marked = [row["snapshot"] for row in await connection.fetch(_PRUNE, settings.keep, GRACE)]
            if marked:
                await connection.execute(_PRUNE_USERS, [name for name in marked if name not in here], f"{folder}/")
                await connection.execute(_PRUNE_POINTS, marked)
    if not here:
        return ()
    with suppress(BlockingIOError), parquet.pruning(folder):  # the next call does it, when nobody writes there
        with answering("snapshots"):
            gone = [row["snapshot"] for row in await pool.fetch(_PRUNED, here)]
        for name in gone:
            await asyncio.to_thread(parquet.empty, folder / name)
        with answering("snapshots"):  # before the directories go: whoever is killed here comes back to them
            await pool.execute(_PRUNE_USERS, gone, f"{folder}/")
        for name in gone:
            await asyncio.to_thread(parquet.remove, folder / name)
        return tuple(gone)
    return ()


async def prune_models(pool: asyncpg.Pool, settings: TrainerSettings) -> None:
    """Deletes all but the newest models, those behind releases that served last, and those that a run begins from."""
    folder = settings.models
    await asyncio.to_thread(_finish, folder)
    found = await asyncio.to_thread(_models, folder)
    if not (old := found[: max(len(found) - settings.keep, 0)]):
        return
    with answering("training runs"):
        bases = [row[0] for row in await pool.fetch(_BASES)]
        serving = {row[0] for row in await pool.fetch(_IN_SERVICE)}
    needed = serving | {Path(base).name for base in (*bases, settings.defaults.get("base")) if base}
    for path in old:
        if path.name not in needed:
            log.info("model %s deleted: %d newer ones are there", path.name, settings.keep)
            await asyncio.to_thread(path.rename, folder / f".{path.name}{_GOING}")
            await asyncio.to_thread(_finish, folder)


def _models(folder: Path) -> list[Path]:
    """The oldest first."""
    found = (path.absolute() for path in folder.glob("*") if _MODEL.fullmatch(path.name))
    return sorted(found, key=lambda each: int(each.name.rpartition("-")[2]))


def _finish(folder: Path) -> None:
    """Half of a model must not be taken for one: it has another name while it goes."""
    for path in folder.glob(f".*{_GOING}"):
        shutil.rmtree(path, ignore_errors=True)
