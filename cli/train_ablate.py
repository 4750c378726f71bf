"""`ratchet train ablate`: what each way of augmenting is worth, on data of your own."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from cli import output, train_reward

if TYPE_CHECKING:  # help must not wait for them
    from trainer.reward.ablation import Ablation
    from trainer.reward.findings import Estimate


@click.command("ablate")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="JSONL as `ratchet train reward` takes it, repeatable.",
)
@click.option("--base", help="The model to begin from: a Hugging Face name or a directory. [default: auto]")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A directory for the models and checkpoints."
)
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings as TOML.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="One, such as augment.embedding_noise=5.")
@click.option("--seeds", type=click.IntRange(1, 10), default=3, show_default=True, help="Models for each way.")
@click.option("--seed", type=click.IntRange(0), help="The first seed, and the split's. [default: 1]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON document.")
def command(
    data: tuple[Path, ...],
    base: str | None,
    out: Path,
    config: Path | None,
    settings: tuple[str, ...],
    seeds: int,
    seed: int | None,
    as_json: bool,
) -> None:
    """Train with and without each way of augmenting that is switched on, and compare.

    Every way is measured alone, on the same split and by the same seeds: paraphrase (augment.paraphrase_model),
    back-translation (augment.forward_model and augment.backward_model), noise (augment.embedding_noise). Ctrl-C keeps
    what was reached; the same command goes on from there.
    """
    train_reward.require_training()
    with train_reward.failures_as_sentences():
        asked = train_reward.configured(config, settings, base, seed) | {"seeds": seeds}
        found = _measured(data, out, asked)
    if found is None:
        sys.exit(train_reward.STOPPED)
    if as_json:
        output.as_json(found.document())
    else:
        output.console.print(table(found))


def _measured(data: tuple[Path, ...], out: Path, asked: dict[str, Any]) -> "Ablation | None":
    """None: it was stopped."""
    from cli import training_progress
    from trainer.errors import Cancelled
    from trainer.reward import ablation, configuring

    config = configuring.configured(asked)
    ablation.arms(config.augment)  # before the base model is looked for
    with training_progress.shown() as (tell, event), train_reward.stopping() as stop:
        try:
            from trainer.reward import trials  # brings torch: what is wrong with the settings is told before

            return trials.of_files(data, config, out.absolute(), tell, stop, event)
        except Cancelled:
            event(f"stopped: the same command goes on from {out}")
            return None


def table(found: "Ablation") -> Table:
    """For people: one row a way of training, with the intervals of its differences to none."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    shown.title = f"{found.pairs} validation pairs, {len(found.seeds)} seeds, intervals by {found.clustered_by}"
    shown.title_justify = "left"
    shown.add_column("augmented by")
    for column in ("questions", "accuracy", "difference", "similar length", "difference", "by seed"):
        shown.add_column(column, justify="right")
    for arm in found.arms:
        shown.add_row(
            arm.name,
            str(arm.questions),
            _value(arm.accuracy),
            _interval(arm.difference),
            _value(arm.similar),
            _interval(arm.difference_similar),
            " ".join(f"{each:.3f}" for each in arm.by_seed),
        )
    return shown


def _value(estimate: "Estimate") -> str:
    return "–" if estimate.value is None else f"{estimate.value:.3f}"


def _interval(estimate: "Estimate | None") -> str:
    if estimate is None or estimate.value is None:
        return "–"
    bounds = "" if estimate.low is None or estimate.high is None else f" ({estimate.low:+.3f} to {estimate.high:+.3f})"
    return f"{estimate.value:+.3f}{bounds}"
