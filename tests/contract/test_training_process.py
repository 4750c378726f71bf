"""The process that trains beside others of its kind: those of trainers that were killed."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer import child
from trainer.errors import TrainerError
from trainer.reward import __main__ as process
from trainer.reward import directory, jobs
from trainer.reward.config import RewardConfig
from trainer.reward.findings import Outcome
from trainer.reward.job import BUSY, Job, Result

KEY = "0" * 64
DEAF = """
import time
from trainer.reward import __main__ as process
process.GRACE = 0.1
process._stop()
print("deaf", flush=True)
time.sleep(300)
"""


@pytest.fixture
def work(tmp_path: Path) -> jobs.Work:
    job = Job(
        config=RewardConfig(),
        base=tmp_path / "base",
        base_name="base",
        directory=tmp_path / "run",
        out=tmp_path / "reward-1",
        release_id="reward-1",
        key="beside-a",
        training_key=KEY,
        snapshot="",
    )
    return jobs.Work(job, tmp_path / "data")


def test_what_asks_nobody_whether_to_stop_does_not_outlive_a_trainer_that_was_killed_by_much() -> None:
    command = [sys.executable, "-c", DEAF]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=child.CHECKOUT, **pipes) as deaf:
        assert deaf.stdout.readline() == b"deaf\n"
        try:
            _, said = deaf.communicate(timeout=60)  # standard input ends
        finally:
            deaf.kill()
    assert deaf.returncode == 1
    assert b"Timeout" in said, "the log tells at what it was"


async def test_where_another_process_works_at_the_run_this_one_says_so_in_a_way_of_its_own(
    work: jobs.Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = jobs.write(work)
    monkeypatch.setattr(process, "PATIENCE", 0.0)
    monkeypatch.setattr(process, "_stop", lambda: SimpleNamespace(is_set=lambda: False))
    monkeypatch.setattr(process.os, "nice", lambda _: 0)
    with directory.held(work.job.directory, KEY):
        assert process.main([str(file)]) == BUSY
    said = json.loads(capsys.readouterr().out)["error"]
    assert said == f"Another process works at the run in {work.job.directory}."

    tells = tmp_path / "tells"
    tells.write_text(f"#!/bin/sh\necho '{json.dumps({'error': said})}'\nexit {BUSY}\n")
    tells.chmod(0o700)
    monkeypatch.setattr(child.sys, "executable", str(tells))
    with pytest.raises(directory.Busy, match="Another process works"):
        await child.train(file, tmp_path / "log", lambda _: None, 1.0)


def test_a_directory_is_not_removed_under_a_process_that_works_in_it(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with directory.held(place, KEY):
        (place / "checkpoint").touch()
        with pytest.raises(directory.Busy):
            directory.clear(place, 0.0)
        assert (place / "checkpoint").exists()
    directory.clear(place, 0.0)
    assert not place.exists()


def test_what_came_out_is_forgotten_before_its_release_goes(work: jobs.Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged beside A it ended, which nobody was told; beside B it was killed; beside A again it must be done again."""
    job = work.job
    job.out.mkdir()
    with directory.held(job.directory, KEY):
        directory.keep(
            job.directory, Result(verdict=Outcome.BETTER, summary="Better.", run=job.key, release="reward-1")
        )
    assert directory.finished(job.directory, job.key) is not None

    def killed(*_: Any, **__: Any) -> None:
        assert job.out.exists()
        raise TrainerError("Killed.")

    monkeypatch.setattr(jobs.shutil, "rmtree", killed)
    with pytest.raises(TrainerError, match="Killed"):
        jobs.carry_out(work, lambda _: None, lambda: False)
    assert directory.finished(job.directory, job.key) is None
