"""`ratchet train reward`: a better reward model, from files or from the feedback in Postgres."""

import importlib.util
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import output

if TYPE_CHECKING:  # help must not wait for them
    from trainer.reward.job import Stop

STOPPED = 130
"""The exit status after Ctrl-C, as shells have it."""


@click.command("reward")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="JSONL of your own, repeatable; without it, the feedback in Postgres.",
)
@click.option("--base", help="The model to begin from: a Hugging Face name or a directory. [default: auto]")
@click.option(
    "--out", type=click.Path(path_type=Path), help="With --data: the release directory to write, which must not exist."
)
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="With --data: checkpoints and report. [default: OUT.run]"
)
@click.option("--id", "release_id", help="With --data: the release's id. [default: OUT's name]")
@click.option(
    "--compare-with",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --data: a release that the new one must not fall behind.",
)
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings as TOML.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="One setting, such as train.max_epochs=3.")
@click.option("--seed", type=click.IntRange(0), help="Of everything that is drawn. [default: 1]")
@click.option("--tenant", default="default", show_default=True, help="Without --data: whose feedback.")
@click.option("--detach", is_flag=True, help="Only queue the run, for a trainer that runs (`ratchet trainer`).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
def command(
    data: tuple[Path, ...],
    base: str | None,
    out: Path | None,
    run_dir: Path | None,
    release_id: str | None,
    compare_with: Path | None,
    config: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    tenant: str,
    detach: bool,
    as_json: bool,
) -> None:
    """Train a reward model, evaluate it, and make a release of it.

    With --data from files, without a server: OUT becomes a release for `ratchet score --release OUT` and `ratchet serve
    --reward OUT`, whatever the evaluation says of it. Without --data from the feedback in Postgres: a release comes out
    only when it is better. Ctrl-C keeps what was reached; the same command goes on from there.
    """
    if data and (out is None or detach):
        raise click.UsageError("--data goes with --out and without --detach")
    if not data and (only := [name for name, value in _of_files(out, run_dir, release_id, compare_with) if value]):
        raise click.UsageError(f"{' and '.join(only)} {'go' if len(only) > 1 else 'goes'} with --data")
    if not detach:
        require_training()
    with failures_as_sentences():
        wanted = configured(config, settings, base, seed)
        if out is None:
            from cli import train_feedback

            status = train_feedback.run(wanted, tenant, detach=detach, as_json=as_json)
        else:
            status = _from_files(data, out, run_dir, release_id, compare_with, wanted, as_json)
    if status:
        sys.exit(status)


def _of_files(*values: Any) -> Iterator[tuple[str, Any]]:
    return zip(("--out", "--run-dir", "--id", "--compare-with"), values, strict=True)


def configured(config: Path | None, settings: tuple[str, ...], base: str | None, seed: int | None) -> dict[str, Any]:
    """What was asked for, in the groups of a run's settings; wrong ones are refused here."""
    from trainer.reward import configuring

    named = {name: value for name, value in (("base", base), ("seed", seed)) if value is not None}
    single = dict(configuring.assignment(each) for each in settings)
    asked = configuring.gathered(configuring.from_file(config) if config else {}, single, named)
    configuring.configured(asked)
    return asked


def _from_files(
    data: tuple[Path, ...],
    out: Path,
    run_dir: Path | None,
    release_id: str | None,
    compare_with: Path | None,
    asked: dict[str, Any],
    as_json: bool,
) -> int:
    from cli import training_progress
    from trainer.errors import Cancelled
    from trainer.reward import configuring, directory, offline

    request = offline.Request(
        data=data,
        out=out,
        config=configuring.configured(asked),
        release_id=release_id or "",
        directory=run_dir,
        compare_with=compare_with,
    )
    with training_progress.shown() as (tell, event), stopping() as stop:
        try:
            result = offline.train(request, tell, stop, event)
        except Cancelled:
            event(f"stopped: the same command goes on from {request.place}")
            return STOPPED
    report = str(request.place / directory.PAGE) if result.report else ""
    training_progress.conclude(result, report, as_json=as_json)
    return 0 if result.release else 1


@contextmanager
def stopping() -> "Iterator[Stop]":
    """Says whether Ctrl-C or SIGTERM came. The second one ends the process at once."""
    told: list[int] = []

    def tell(number: int, _: object) -> None:
        if told:
            signal.default_int_handler(number, None)
        told.append(number)

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_training() -> None:
    """Refuses an installation that can only serve."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("sklearn") is None:
        raise output.CommandFailed("Training needs torch, transformers and more: run `./run setup train` once.")


@contextmanager
def failures_as_sentences() -> Iterator[None]:
    """Turns what the trainer, the server and the system report into a CommandFailed."""
    from trainer.errors import TrainerError, unforeseen

    try:
        with output.failures_as_sentences():
            yield
    except TrainerError as error:
        raise output.CommandFailed(str(error)) from error
    except BrokenPipeError:  # who read what was printed has enough
        raise
    except OSError as error:
        raise output.CommandFailed(unforeseen(error)) from error
