"""Trains a reward model: epochs of batches, validation, early stopping, checkpoints. `learner.py` has the step."""

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import torch

from exporters.errors import ExportError
from exporters.reward_model import RewardModel
from trainer.data.inputs import Rows
from trainer.errors import Cancelled, TooLittleData, TrainerError
from trainer.reward import checkpoints, devices
from trainer.reward.batching import plan
from trainer.reward.config import TrainConfig
from trainer.reward.curves import Curves, Point
from trainer.reward.devices import Device
from trainer.reward.learner import Learner, Step, validate
from trainer.reward.weighting import weighted
from triton_models.manifest import write_whole

__all__ = ["Point", "Trained", "train"]

MODEL: Final = "model"
RESULT: Final = "trained.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came out. `best` is the model's directory (see exporters/reward_model.py)."""

    best: Path
    steps: int  # of the optimiser
    total_steps: int  # about so many, had it not stopped early
    epochs: int
    best_epoch: int  # from 1
    validation_loss: float  # of the best epoch
    learning_rate: float  # the highest: the one asked for, or what became of the default
    samples_per_second: float  # responses trained on, validation and checkpoints left out
    peak_memory_bytes: int  # of this process, resident
    peak_cuda_bytes: int
    device: str
    precision: str
    padding_share: float  # of the tokens computed on
    resumed: bool


@dataclass(slots=True)
class Position:
    """Where a training is, and what it came to so far. `batch` is the next one of `epoch` (from 0)."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_epoch: int = 0  # from 1; 0: none yet
    best_loss: float = float("inf")
    seconds: float = 0.0  # spent on steps
    responses: int = 0
    tokens: int = 0
    computed: int = 0

    def count(self, step: Step, seconds: float) -> None:
        """One more step."""
        self.step += 1
        self.batch += 1
        self.seconds += seconds
        self.responses += step.responses
        self.tokens += step.tokens
        self.computed += step.computed


def train(
    base: Path | str,
    train_rows: Rows,
    validation_rows: Rows,
    config: TrainConfig,
    out: Path,
    *,
    seed: int,
    observe: Callable[[Point], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    embedding_noise: float = 0.0,
) -> Trained:
    """Trains from `base` (a directory or hub name), or goes on from the newest whole checkpoint in `out`.

    Killed at any moment and called again, it ends with the same weights (same machine, threads and data). Points are
    also in `out`/metrics.jsonl. `stop` is asked at each step: true writes a checkpoint and raises Cancelled.
    `embedding_noise` is NEFTune's alpha. Raises TrainerError, also when the loss is no number any more.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out), devices.threads(config.threads):
        torch.manual_seed(seed)
        try:
            model = RewardModel.create(base, config.dropout, seed)
        except ExportError as error:
            raise TrainerError(str(error)) from error
        model.aspects |= not bool(np.isnan(train_rows.aspects).all())
        if embedding_noise:
            model.add_noise(embedding_noise)
        key = _key(model, train_rows, validation_rows, config, seed, embedding_noise)
        if (done := _result(out, key)) is not None:
            checkpoints.clear(out)  # of a process that was killed at its very end
            return done
        return _Training(model, train_rows, validation_rows, config, out, seed, key, observe, stop).run()


@dataclass
class _Training:
    model: RewardModel
    rows: Rows
    validation: Rows
    config: TrainConfig
    out: Path
    seed: int
    key: str
    observe: Callable[[Point], None]
    stop: Callable[[], bool]
    at: Position = field(default_factory=Position)

    def run(self) -> Trained:
        """Every epoch that is still to do, then the best one's model."""
        self.device = Device.find(self.config.precision)
        batches = plan(self.rows, self.config, self.seed, 0)
        if not batches:
            raise TooLittleData("There is nothing to train on: no response has a rating, an aspect or a pair.")
        if not len(self.validation):
            raise TooLittleData("There is nothing to validate with.")
        self.steps = len(batches) * self.config.max_epochs
        self.rows = weighted(self.rows, self.config, batches)
        self.learner = Learner(self.model, self.rows, self.config, self.device, self.steps)
        resumed = self._resume()
        with closing(Curves(self.out, self.at.step, self.observe)) as curves:
            while self.at.epoch < self.config.max_epochs and not self._is_enough():
                self._epoch(curves)
        return self._finish(resumed)

    def _is_enough(self) -> bool:
        return self.at.epoch - self.at.best_epoch >= self.config.patience

    def _epoch(self, curves: Curves) -> None:
        batches = plan(self.rows, self.config, self.seed, self.at.epoch)
        saved = time.monotonic()
        waiting: _Unread | None = None
        while self.at.batch < len(batches):
            if self.stop():
                self._leave(curves, waiting)
            began = time.monotonic()
            step = self.learner.step(self.at.step, batches[self.at.batch])
            if waiting:
                curves.add(waiting.point())
            self.at.count(step, time.monotonic() - began)
            waiting = _Unread(self.at.step - 1, step, self.at.epoch + self.at.batch / len(batches))
            if time.monotonic() - saved >= 60 * self.config.checkpoint_minutes and self.at.batch < len(batches):
                curves.add(waiting.point())
                waiting = None
                self._save()
                saved = time.monotonic()
        self._end_epoch(curves, waiting)

    def _leave(self, curves: Curves, last: "_Unread | None") -> NoReturn:
        """Writes what was done since the last checkpoint, if anything was."""
        if last:
            curves.add(last.point())
            self._save()
        raise Cancelled("The training was asked to stop.")

    def _end_epoch(self, curves: Curves, last: "_Unread | None") -> None:
        """Validates, keeps the model if it is the best so far, and writes a checkpoint."""
        point = last.point() if last else None
        found = validate(self.model, self.validation, self.config, self.device)
        if point:
            curves.add(replace(point, values={**point.values, **found}))
        self.at.epoch, self.at.batch = self.at.epoch + 1, 0
        if found["validation_loss"] < self.at.best_loss:
            self.at.best_epoch, self.at.best_loss = self.at.epoch, found["validation_loss"]
            shutil.rmtree(self._kept(self.at.epoch), ignore_errors=True)  # of a process that was killed here
            self.model.save(self._kept(self.at.epoch))
        self._save()
        self._forget()

    def _kept(self, epoch: int) -> Path:
        return self.out / f"epoch-{epoch:04d}"

    def _forget(self) -> None:
        """Removes the models of epochs that are not the best."""
        for path in (*self.out.glob("epoch-*"), *self.out.glob(".epoch-*")):
            if path != self._kept(self.at.best_epoch):
                shutil.rmtree(path, ignore_errors=True)

    def _save(self) -> None:
        state = {"key": self.key, "position": asdict(self.at), **self.learner.state()}
        checkpoints.write(self.out, self.at.step, state)

    def _resume(self) -> bool:
        newest = checkpoints.newest(self.out)
        if newest is None:
            return False
        state = checkpoints.read(newest)
        _require_same(self.out, state["key"], self.key)
        self.learner.restore(state)
        self.at = Position(**state["position"])
        self._forget()
        return True

    def _finish(self, resumed: bool) -> Trained:
        model = self.out / MODEL
        best = self._kept(self.at.best_epoch)
        if best.exists():  # else it was renamed by a process that was killed after that
            shutil.rmtree(model, ignore_errors=True)
            best.rename(model)
        result = self._trained(model, resumed)
        values = asdict(result) | {"best": MODEL, "key": self.key}
        write_whole(self.out / RESULT, (json.dumps(values, indent=2) + "\n").encode())
        checkpoints.clear(self.out)
        return result

    def _trained(self, model: Path, resumed: bool) -> Trained:
        at = self.at
        return Trained(
            best=model,
            steps=at.step,
            total_steps=self.steps,
            epochs=at.epoch,
            best_epoch=at.best_epoch,
            validation_loss=at.best_loss,
            learning_rate=self.learner.peak,
            samples_per_second=at.responses / max(at.seconds, 1e-9),
            peak_memory_bytes=devices.resident_bytes(),
            peak_cuda_bytes=self.device.peak_bytes(),
            device=self.device.place.type,
            precision=self.device.precision,
            padding_share=1 - at.tokens / max(1, at.computed),
            resumed=resumed,
        )


@dataclass(frozen=True, slots=True)
class _Unread:
    """A step whose figures are still on their way from the device."""

    number: int
    step: Step
    epoch: float

    def point(self) -> Point:
        return Point(self.number, {**self.step.values(), "epoch": self.epoch})


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """No two processes train in one directory. A killed one holds nothing."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainerError(f"Another process trains in {out}: wait for it, or give another directory.") from None
        yield


def _result(out: Path, key: str) -> Trained | None:
    """What an earlier call came to."""
    try:
        values: dict[str, Any] = json.loads((out / RESULT).read_bytes())
    except FileNotFoundError:
        return None
    _require_same(out, values.pop("key"), key)
    return Trained(**values | {"best": out / values["best"]})


def _require_same(out: Path, found: str, key: str) -> None:
    if found != key:
        raise TrainerError(f"{out} holds a training of another model, data or settings: give another directory.")


def _key(model: RewardModel, train_rows: Rows, validation_rows: Rows, config: TrainConfig, *rest: float) -> str:
    """The same for the same training: SHA-256 of its first weights, its data and what decides its result."""
    told = config.model_dump(mode="json", exclude={"checkpoint_minutes", "threads"})
    digest = hashlib.sha256(json.dumps([told, rest]).encode())
    for weight in model.state_dict().values():
        digest.update(weight.contiguous().numpy().data)
    for rows in (train_rows, validation_rows):
        for part in fields(rows):
            if isinstance(values := getattr(rows, part.name), np.ndarray):
                digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
