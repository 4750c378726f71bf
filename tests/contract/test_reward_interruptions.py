"""Trainings that are stopped, killed or torn, and what they end with all the same."""

import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny_models
from tests.small_trainings import CONFIG, learned, points, weights
from trainer.errors import Cancelled, TrainerError
from trainer.reward import checkpoints
from trainer.reward.loop import Point

LONGER = CONFIG.model_copy(update={"max_epochs": 5, "patience": 5})
"""60 steps."""
KEEPING = {"checkpoint_minutes": 1e-9}
"""A checkpoint after every step."""
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["tests.rated", "trainer.reward.loop", "transformers.models.bert.modeling_bert"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.sentence_bert(tmp_path_factory.mktemp("base"), hidden=32, layers=1)


class Killed(BaseException):
    """The process ends here, in a test that has only one."""


def killing(step: int) -> Callable[[Point], None]:
    def observe(point: Point) -> None:
        if point.step == step:
            raise Killed

    return observe


def test_a_training_that_was_cut_off_anywhere_goes_on_to_the_same_weights(base: Path, tmp_path: Path) -> None:
    whole = learned(base, tmp_path / "whole", aspects=True, embedding_noise=5.0)
    assert not whole.resumed
    keeping = CONFIG.model_copy(update=KEEPING)
    for step in (0, 4, 11, 12, 25, 35):  # an epoch has 12 steps
        with pytest.raises(Killed):
            learned(base, tmp_path / "cut", keeping, aspects=True, embedding_noise=5.0, observe=killing(step))
    rest = learned(base, tmp_path / "cut", keeping, aspects=True, embedding_noise=5.0)
    assert rest.resumed
    assert weights(rest) == weights(whole)
    assert points(tmp_path / "cut") == points(tmp_path / "whole")


def test_noise_in_the_embeddings_and_the_seed_change_what_is_learned(base: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_epochs": 1})
    plain, again = learned(base, tmp_path / "a", config), learned(base, tmp_path / "b", config)
    noisy = learned(base, tmp_path / "c", config, embedding_noise=5.0)
    other = learned(base, tmp_path / "d", config, seed=2)
    assert weights(plain) == weights(again)
    assert len({weights(plain), weights(noisy), weights(other)}) == 3


def test_a_training_that_ended_is_not_done_again(base: Path, tmp_path: Path) -> None:
    first = learned(base, tmp_path)
    again = learned(base, tmp_path, observe=killing(0))
    assert again == first


def test_a_directory_of_another_training_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        learned(base, tmp_path, CONFIG.model_copy(update=KEEPING), observe=killing(3))
    with pytest.raises(TrainerError, match="another model, data or settings"):
        learned(base, tmp_path, CONFIG.model_copy(update={"alpha": 0.5}))


def test_two_processes_never_train_in_one_directory(base: Path, tmp_path: Path) -> None:
    def meanwhile(point: Point) -> None:
        with pytest.raises(TrainerError, match="Another process"):
            learned(base, tmp_path)
        raise Killed

    with pytest.raises(Killed):
        learned(base, tmp_path, observe=meanwhile)


def test_asked_to_stop_it_keeps_what_it_did_since_the_last_checkpoint_and_can_go_on(base: Path, tmp_path: Path) -> None:
    rarely = CONFIG.model_copy(update={"max_epochs": 1})
    seen: list[Point] = []
    with pytest.raises(Cancelled):
        learned(base, tmp_path, rarely, observe=seen.append, stop=lambda: len(seen) >= 3)
    assert [point.step for point in seen] == [0, 1, 2, 3]  # the fourth was on its way
    with pytest.raises(Cancelled):
        learned(base, tmp_path, rarely, observe=seen.append, stop=lambda: True)  # before it does anything more
    assert learned(base, tmp_path, rarely, observe=seen.append).resumed
    assert [point.step for point in seen] == list(range(12))


def _child(base: Path, out: Path, steps: Any) -> None:
    def observe(_: Point) -> None:
        steps.release()

    learned(base, out, LONGER.model_copy(update=KEEPING), aspects=True, observe=observe)


def child(base: Path, out: Path, steps: Any) -> Any:
    """A process that trains; `steps` counts its steps."""
    process = CHILDREN.Process(target=_child, args=(base, out, steps))
    process.start()
    return process


@pytest.mark.timeout(900)
def test_a_training_killed_again_and_again_ends_with_the_weights_of_one_that_was_left_alone(
    base: Path, tmp_path: Path
) -> None:
    moments, steps = random.Random(5), CHILDREN.Semaphore(0)
    for _ in range(5):
        process = child(base, tmp_path / "killed", steps)
        for _ in range(moments.randint(1, 6)):
            assert steps.acquire(timeout=300)
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -9
        while steps.acquire(block=False):
            pass
    last = child(base, tmp_path / "killed", steps)
    last.join()
    assert last.exitcode == 0
    whole = learned(base, tmp_path / "whole", LONGER, aspects=True)
    found = learned(base, tmp_path / "killed", LONGER, aspects=True)
    assert found.resumed
    assert weights(found) == weights(whole)
    assert points(tmp_path / "killed") == points(tmp_path / "whole")


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Ends the process, as it were, at the n-th call that touches the disk."""
    left = [0]

    def counting(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(*args, **options)

        return call

    def after(calls: int) -> None:
        left[0] = calls

    for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir")):
        monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    monkeypatch.setattr(shutil, "rmtree", counting(shutil.rmtree))
    yield after
    left[0] = 0


def test_a_checkpoint_is_whole_or_the_one_before_stays_wherever_writing_ends(
    tmp_path: Path, crash: Callable[[int], None]
) -> None:
    ended, step = 0, 0
    checkpoints.write(tmp_path, step, {"value": torch.tensor([0.0])})
    for calls in range(1, 40):
        kept, step = step, step + 1
        crash(calls)
        try:
            checkpoints.write(tmp_path, step, {"value": torch.tensor([float(step)])})
        except Killed:
            ended += 1
        crash(0)
        newest = checkpoints.newest(tmp_path)
        assert newest is not None
        assert newest.name in {f"checkpoint-{kept:010d}", f"checkpoint-{step:010d}"}
        step = int(newest.name.removeprefix("checkpoint-"))
        assert checkpoints.read(newest)["value"].item() == step
    assert ended >= 8


def test_a_torn_checkpoint_is_passed_over_and_removed_by_the_next(tmp_path: Path) -> None:
    good = checkpoints.write(tmp_path, 1, {"value": 1})
    torn = tmp_path / "checkpoint-0000000002"
    shutil.copytree(good, torn)
    (torn / "state.pt").write_bytes((torn / "state.pt").read_bytes()[:-1])
    unmarked = tmp_path / "checkpoint-0000000003"
    shutil.copytree(good, unmarked)
    (unmarked / "COMPLETE").unlink()
    assert checkpoints.newest(tmp_path) == good
    last = checkpoints.write(tmp_path, 4, {"value": 4})
    assert [path.name for path in tmp_path.iterdir()] == [last.name]
