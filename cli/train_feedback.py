"""`ratchet train reward` on the feedback in Postgres: asks for a run and does it here, or leaves it to a trainer."""

import asyncio
import importlib.util
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cli import output, training_progress
from cli.output import CommandFailed

if TYPE_CHECKING:
    from trainer.settings import TrainerSettings
    from trainer.worker import Done

STOPPED = 130
ASKER = "terminal"
"""Who asked for runs that are begun here."""
DEFAULTS = "RATCHET_TRAINING_CONFIG"
"""The variable that names a file of settings for all runs, as `ratchet trainer --config` does."""


def settings(tenant: str, *, defaults: Mapping[str, Any], **changes: Any) -> "TrainerSettings":
    """A trainer's settings beside this home's server; `defaults` are runs', before what the server's layout needs.

    Raises CommandFailed when none runs and no URL is set.
    """
    from server import settings as configuration
    from server.embedded import running
    from trainer.reward import configuring
    from trainer.settings import TrainerSettings
    from triton_models.manifest import MANIFEST

    found = configuration.load()
    parts = running.endpoints(replace(found.embedded(), triton=False))
    url = parts.database_url if parts else found.database_url
    if not url:
        raise CommandFailed(
            f"No Ratchet runs from {found.home}, and DATABASE_URL is not set: start `ratchet serve`, or train from "
            "files with --data and --out."
        )
    reward = Path(found.reward).expanduser().absolute()
    return TrainerSettings(
        home=found.home,
        database_url=url,
        tenant=tenant,
        minimum=found.training_minimum,
        reward=reward if (reward / MANIFEST).is_file() else None,
        defaults=configuring.gathered({"export.target": target(found.reward_layout)}, defaults),
        **changes,
    )


def target(layout: str) -> str:
    """For what runs export, so that the server's layout of rewards can serve it; a plan where TensorRT is installed."""
    if layout == "python":
        return "onnx"
    planned = layout == "tensorrt" and importlib.util.find_spec("tensorrt") is not None
    return "tensorrt" if planned else "onnx-fp16"


def run(asked: Mapping[str, Any], tenant: str, *, detach: bool, as_json: bool) -> int:
    """The exit status. Ctrl-C leaves the run waiting; the same command goes on with it."""
    file = os.environ.get(DEFAULTS)
    found = settings(tenant, defaults=defaults(Path(file) if file else None))
    return asyncio.run(_until_told_to_stop(asked, found, detach=detach, as_json=as_json))


def defaults(file: Path | None) -> dict[str, Any]:
    """The settings of all runs from a TOML file, below what each names. Raises TrainerError."""
    from trainer.reward import configuring

    found = configuring.gathered(configuring.from_file(file)) if file else {}
    configuring.configured(found)
    return found


async def _until_told_to_stop(
    asked: Mapping[str, Any], found: "TrainerSettings", *, detach: bool, as_json: bool
) -> int:
    task = asyncio.ensure_future(_run(asked, found, detach=detach, as_json=as_json))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        return await task
    training_progress.event("stopped: the same command, or a trainer, goes on with the run")
    return STOPPED


async def _run(asked: Mapping[str, Any], found: "TrainerSettings", *, detach: bool, as_json: bool) -> int:
    from trainer import runs
    from trainer.data.forgetting import forget
    from trainer.database import connected
    from trainer.worker import Worker

    async with connected(found.database_url) as pool:
        training_id = await runs.left(pool, found.tenant, asked, ASKER)
        training_id = training_id or await runs.ask(pool, found.tenant, asked, ASKER)
        if detach:
            _left(training_id, "QUEUED", f"Run {training_id} waits for a trainer (`ratchet trainer`).", as_json=as_json)
            return 0
        await forget(pool, found.training)
        held = await runs.claim(pool, found.lease, training_id)
        if held is None:
            state, error = await runs.standing(pool, training_id)
            _elsewhere(training_id, state, error, as_json=as_json)
            return 0
        with training_progress.shown() as (tell, event):
            event(f"run {training_id}")
            done = await Worker(pool, found, tell).work(held)
    return _conclude(training_id, done, as_json=as_json)


def _elsewhere(training_id: UUID, state: str, error: str, *, as_json: bool) -> None:
    """A run that can't be taken: it may also have come to its end since it was looked for."""
    if state == "FAILED":
        raise CommandFailed(f"Run {training_id} failed: {error}")
    if state == "CANCELLED":
        raise CommandFailed(f"Run {training_id} was cancelled.")
    sentence = f"A trainer works at run {training_id}: `ratchet train watch {training_id}` follows it."
    if state not in {"QUEUED", "RUNNING"}:
        sentence = f"Run {training_id} has ended: `ratchet train show {training_id}` tells how."
    _left(training_id, state, sentence, as_json=as_json)


def _left(training_id: UUID, state: str, sentence: str, *, as_json: bool) -> None:
    """What is said of a run that somebody else does."""
    if as_json:
        output.as_json({"training_id": str(training_id), "state": state})
    else:
        output.console.print(sentence, soft_wrap=True)


def _conclude(training_id: UUID, done: "Done", *, as_json: bool) -> int:
    if done.result is not None:
        where = f"ratchet report {training_id}" if done.result.report else ""
        training_progress.conclude(done.result, where, as_json=as_json, training_id=str(training_id))
        return 0
    if done.same is not None:
        sentence = f"Run {training_id} is the same as run {done.same}, which was there before."
        if as_json:
            output.as_json({"training_id": str(training_id), "state": "DUPLICATE", "duplicate_of": str(done.same)})
        else:
            output.console.print(sentence, soft_wrap=True)
        return 0
    raise CommandFailed(f"Run {training_id} was {done.how}{f': {done.error}' if done.error else '.'}")
