"""`ratchet train start`: asks a server for a run, which the trainer beside it does."""

import uuid
from pathlib import Path

import click

from cli import client, output, train_reward, train_runs


@click.command("start", short_help="Ask a server for a run.")
@click.option("--base", help="The model to begin from: a Hugging Face name, or one in the trainer's folder of bases.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings as TOML.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="One setting, such as train.max_epochs=3.")
@click.option("--seed", type=click.IntRange(0), help="Of everything that is drawn. [default: the trainer's]")
@click.option("--request-id", default="", help="Makes the call idempotent; one of its own when not given.")
@client.options
def command(
    base: str | None,
    config: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    request_id: str,
    address: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask the server for a training run, with settings that differ from its trainer's own.

    It takes no more than the server's address and, where it asks for one, a key for training. The run waits for a
    trainer (`ratchet trainer`); `ratchet train watch RUN` follows it.
    """
    from ratchet.v1 import training_pb2 as pb

    with train_reward.failures_as_sentences():
        asked = train_reward.configured(config, settings, base, seed)
    try:
        request = pb.StartTrainingRequest(request_id=request_id or str(uuid.uuid4()))
        request.config.update(asked)
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error
    with client.channel(address, timeout) as channel:
        reply = train_runs.stub(channel).StartTraining(request, timeout=timeout)
    if as_json:
        output.as_json(reply.training)
    else:
        output.console.print(train_runs.line(reply.training), soft_wrap=True)
