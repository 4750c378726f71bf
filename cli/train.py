"""`ratchet train`: trains models, and shows and stops the runs of a server."""

import click

from cli import train_ablate, train_reward, train_runs, train_start


@click.group("train")
def command() -> None:
    """Train a better model; start, list, show, watch and cancel runs."""


for each in (
    train_reward.command,
    train_start.command,
    train_runs.list_,
    train_runs.show,
    train_runs.watch,
    train_runs.cancel,
    train_ablate.command,
):
    command.add_command(each)
