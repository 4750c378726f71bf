"""`ratchet simulate`: lets simulated users ask a running server and rate what it answers."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli import client, output

if TYPE_CHECKING:
    from simulation.run import Observe, Tally

MOST_USERS = 500


def _option(flag: str, kind: Any, default: float, text: str) -> Callable[..., Any]:
    variable = "RATCHET_SIMULATE_" + flag.strip("-").upper().replace("-", "_")
    return click.option(flag, type=kind, default=default, show_default=True, envvar=variable, help=text)


@click.command("simulate", context_settings={"help_option_names": ["-h", "--help"]})
@_option("--users", click.IntRange(1, MOST_USERS), 60, "How many people.")
@_option("--replies", click.IntRange(1), 2000, "How many replies they rate, all together.")
@_option("--noisy", click.FloatRange(0, 1), 0.3, "Share of people who rate without reading.")
@_option("--seed", click.INT, 7, "Seed of the people and their questions.")
@_option("--pace", click.FloatRange(0), 1.0, "Multiplies the time that people read for; 0: they don't.")
@_option("--at-once", click.IntRange(1, 256), 8, "How many wait for an answer at the same time.")
@client.options
def command(address: str, timeout: float, as_json: bool, **plan: Any) -> None:
    """Let simulated users of the starter's shop ask the server at ADDRESS and rate what it answers, by a rubric that it
    never sees: for trying out what feedback does. Its figures are not a real server's: use a RATCHET_HOME of its own.
    """
    from simulation.run import Plan, simulate

    began, chosen, ended = time.monotonic(), Plan(**plan), threading.Event()
    with client.channel(address, timeout) as channel, _interruptible(ended), _progress(chosen.replies) as observe:
        tally = simulate(chosen, channel, timeout, ended, observe)
    figures = summary(tally, time.monotonic() - began) | {"interrupted": tally.rated < chosen.replies}
    if as_json:
        output.as_json(figures)
    else:
        _show(figures)


def summary(tally: "Tally", seconds: float) -> dict[str, Any]:
    """What came of it, as numbers by name; `mean_rubric` is of the answers, 0 to 1, null without any."""
    counts = asdict(tally)
    del counts["rubric"]
    mean = tally.mean_rubric
    return counts | {"mean_rubric": mean if mean is None else round(mean, 4), "seconds": round(seconds, 1)}


@contextmanager
def _interruptible(ended: threading.Event) -> Iterator[None]:
    """Ctrl-C lets users finish what they say; a second one ends at once."""

    def on_signal(*_: object) -> None:
        ended.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(replies: int) -> Iterator["Observe"]:
    """A bar on a terminal, silence elsewhere; gives what moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.stderr, transient=True, disable=not output.stderr.is_terminal) as bar:
        task = bar.add_task("replies rated", total=replies)

        def observe(tally: "Tally") -> None:
            bar.update(task, completed=tally.rated)

        yield observe


def _show(figures: dict[str, Any]) -> None:
    output.console.print(
        f"{figures['rated']} of {figures['replies']} replies rated in {figures['seconds']} s: "
        f"{figures['stars']} with stars, {figures['dimensions']} of them with dimensions, {figures['thumbs']} with a "
        f"thumb, {figures['comments']} with a comment; {figures['preferences']} preferences.",
        soft_wrap=True,
    )
    output.console.print(
        f"{figures['by_noisy']} ratings are by people who don't read. {figures['refused']} replies were refusals, "
        f"{figures['failed']} exchanges failed, {figures['waits']} calls were put off.",
        soft_wrap=True,
    )
    if figures["mean_rubric"] is not None:
        output.console.print(f"The hidden rubric's mean of the answers: {figures['mean_rubric']:.3f} of 1.")
