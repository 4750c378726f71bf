"""`python -m trainer.starter [evaluate|encoder]`: the starter models from nothing, or their proof again."""

import json
from pathlib import Path

import click

from trainer.starter import evaluate as proof
from trainer.starter import make as making
from trainer.starter.query import StarterError

_out = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("starter"),
    show_default=True,
    envvar="RATCHET_STARTER_OUT",
    help="Where releases, help pages, orders and METRICS.json go.",
)
_seed = click.option("--seed", default=1, show_default=True, envvar="RATCHET_STARTER_SEED", help="Seed of everything.")


@click.group(invoke_without_command=True)
@_out
@_seed
@click.option("--quick", is_flag=True, envvar="RATCHET_STARTER_QUICK", help="Tiny models in seconds, to test the path.")
@click.pass_context
def main(context: click.Context, out: Path, seed: int, quick: bool) -> None:
    """Make the corpus, train and export both starter models, and prove them (minutes on 2 cores)."""
    if context.invoked_subcommand is None:
        try:
            figures = making.make(out, seed, making.QUICK if quick else making.Plan())
        except StarterError as error:
            raise click.ClickException(str(error)) from None
        click.echo(json.dumps(figures["heldout"]["all"], indent=2))


@main.command()
@_out
@click.option("--seed", default=proof.SEED, show_default=True, help="Seed of the held-out queries and the sampling.")
@click.option("--queries", default=800, show_default=True, help="Held-out queries.")
@click.option("--copied", default=100, show_default=True, help="Queries of each condition of copying.")
@click.option("--show", default=0, show_default=True, help="Print the candidates of that many queries.")
def evaluate(out: Path, seed: int, queries: int, copied: int, show: int) -> None:
    """Sample candidates for held-out queries and judge the choice by the corpus's rubric."""
    found, figures = making.prove(out, seed, queries, copied)
    click.echo(proof.shown(found[:show]))
    click.echo(json.dumps({name: figures[name] for name in ("heldout", "copying")}, indent=2))


@main.command()
@_out
def encoder(out: Path) -> None:
    """Write the reward's checkpoint again, read back from the weights of its release."""
    making.restore(out)


if __name__ == "__main__":
    main()
