"""`ratchet trainer`: the sidecar that trains when there is enough new feedback, or when somebody asks."""

import asyncio
import logging
from pathlib import Path

import click

from cli import train_feedback, train_reward


@click.command("trainer")
@click.option(
    "--schedule",
    type=click.Choice(["count", "daily", "weekly", "off"]),
    default="count",
    show_default=True,
    envvar="RATCHET_TRAINING_SCHEDULE",
    help="When runs begin by themselves; count: at RATCHET_TRAINING_MINIMUM new feedback. [RATCHET_TRAINING_SCHEDULE]",
)
@click.option(
    "--hour",
    type=click.IntRange(0, 23),
    default=3,
    show_default=True,
    envvar="RATCHET_TRAINING_HOUR",
    help="UTC hour of a daily or weekly (Monday's) run. [RATCHET_TRAINING_HOUR]",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar=train_feedback.DEFAULTS,
    help="Settings of all runs as TOML, below what a request names. [RATCHET_TRAINING_CONFIG]",
)
@click.option(
    "--tenant",
    default="default",
    show_default=True,
    envvar="RATCHET_TRAINING_TENANT",
    help="Whose feedback begins runs by itself; runs that are asked for are done for all. [RATCHET_TRAINING_TENANT]",
)
@click.option(
    "--bases",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="RATCHET_TRAINING_BASES",
    help="A folder of models that runs may begin from which are asked for through the API; without it they name models "
    "of the Hugging Face hub only. [RATCHET_TRAINING_BASES]",
)
@click.option(
    "--keep",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    envvar="RATCHET_TRAINING_KEEP",
    help="Newest runs whose data and curves are kept, beside those with a release, and newest models. "
    "[RATCHET_TRAINING_KEEP]",
)
def command(schedule: str, hour: int, config: Path | None, tenant: str, bases: Path | None, keep: int) -> None:
    """Do the training runs that are asked for and those that are due, until Ctrl-C or SIGTERM.

    Runs beside a server of the same RATCHET_HOME, or anywhere with DATABASE_URL. A run that is interrupted, also by
    kill -9, is gone on with by the next trainer of this home.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    train_reward.require_training()
    with train_reward.failures_as_sentences():
        from trainer import sidecar
        from trainer.settings import Schedule

        defaults = train_feedback.defaults(config)
        settings = train_feedback.settings(
            tenant, schedule=Schedule(schedule), hour=hour, defaults=defaults, bases=bases, keep=keep
        )
        asyncio.run(sidecar.serve(settings))
