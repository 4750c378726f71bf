"""`ratchet train list|show|watch|cancel`: the training runs of a server."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click
import grpc
from rich.table import Table
from rich.text import Text

from cli import client, output, streams

if TYPE_CHECKING:
    from ratchet.v1 import training_pb2 as pb
    from ratchet.v1 import training_pb2_grpc

T = TypeVar("T")
STATES = ("queued", "running", "succeeded", "failed", "cancelled", "duplicate")
STYLES = {"RUNNING": "cyan", "SUCCEEDED": "green", "FAILED": "bold red", "BETTER": "bold green"}
FAILED, CANCELLED = 3, 4
"""Exit statuses of `watch`: 1 and 2 are those of a command that failed itself."""


@click.command("list", short_help="List runs, the newest first.")
@click.option("--state", type=click.Choice(STATES), help="Only those that stand so.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@client.options
def list_(state: str | None, limit: int, address: str, timeout: float, as_json: bool) -> None:
    """List training runs, the newest first, and how much feedback waits for the next one."""
    from ratchet.v1 import training_pb2 as pb

    wanted = pb.TrainingState.Value(f"TRAINING_STATE_{state.upper()}") if state else pb.TRAINING_STATE_UNSPECIFIED
    request, found = pb.ListTrainingsRequest(state=wanted), list["pb.Training"]()
    with client.channel(address, timeout) as channel:
        while True:
            request.page_size = min(limit - len(found), 100)
            reply = stub(channel).ListTrainings(request, timeout=timeout)
            found.extend(reply.trainings)
            request.page_token = reply.next_page_token
            if len(found) >= limit or not request.page_token:
                break
    waiting, minimum = reply.waiting_feedback_count, reply.minimum_feedback_count
    if as_json:
        counts = {"waiting_feedback_count": waiting, "minimum_feedback_count": minimum}
        output.as_json({"trainings": [output.as_object(each) for each in found], **counts})
        return
    for each in found:
        output.console.print(line(each), soft_wrap=True)
    at = f", a run begins at {minimum:,}" if minimum else ""
    output.console.print(f"{waiting:,} new feedback waits{at}.")


@click.command("show", short_help="Show one run.")
@click.argument("run")
@client.options
def show(run: str, address: str, timeout: float, as_json: bool) -> None:
    """Show RUN, by the id that `ratchet train list` shows."""
    from ratchet.v1 import training_pb2 as pb

    request = _of(pb.GetTrainingRequest, run)
    with client.channel(address, timeout) as channel:
        reply = stub(channel).GetTraining(request, timeout=timeout)
    if as_json:
        output.as_json(reply)
    else:
        _show(reply.training)


@click.command("watch", short_help="Print a run's progress until it ends.")
@click.argument("run")
@client.options
def watch(run: str, address: str, timeout: float, as_json: bool) -> None:
    """Print the progress of RUN until it ends or Ctrl-C; with --json each message on a line.

    Exit status: 0 once it came to a verdict, whichever, or is the same as an earlier run; 3 when it failed, 4 when it
    was cancelled; 1 when it can't be watched. --timeout does not apply: it watches for as long as the server answers.
    """
    from ratchet.v1 import training_pb2 as pb

    request, last, state = _of(pb.WatchTrainingRequest, run), "", pb.TRAINING_STATE_UNSPECIFIED
    with (
        client.channel(address, timeout) as channel,
        streams.messages(stub(channel).WatchTraining(request, wait_for_ready=False)) as messages,
    ):
        for message in messages:
            state = message.training.state if message.HasField("training") else state
            if as_json:
                output.as_json(message)
            elif message.HasField("training") and (told := line(message.training)).plain != last:
                last = told.plain
                output.console.print(told, soft_wrap=True)
    sys.exit({pb.TRAINING_STATE_FAILED: FAILED, pb.TRAINING_STATE_CANCELLED: CANCELLED}.get(state, 0))


@click.command("cancel", short_help="Ask a run to stop.")
@click.argument("run")
@client.options
def cancel(run: str, address: str, timeout: float, as_json: bool) -> None:
    """Ask RUN to stop. Its data stay eligible for the next one."""
    from ratchet.v1 import training_pb2 as pb

    request = _of(pb.CancelTrainingRequest, run)
    with client.channel(address, timeout) as channel:
        reply = stub(channel).CancelTraining(request, timeout=timeout)
    if as_json:
        output.as_json(reply.training)
    else:
        output.console.print(line(reply.training), soft_wrap=True)


def stub(channel: grpc.Channel) -> "training_pb2_grpc.TrainingServiceStub":
    """Of the server at the channel's other end."""
    from ratchet.v1 import training_pb2_grpc

    return training_pb2_grpc.TrainingServiceStub(channel)


def _of(kind: Callable[..., T], run: str) -> T:
    try:
        return kind(training_id=run)
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error


def line(run: "pb.Training") -> Text:
    """A run's id, which nothing cuts, and how it stands."""
    from ratchet.v1 import training_pb2 as pb

    state = pb.TrainingState.Name(run.state).removeprefix("TRAINING_STATE_")
    line = Text.assemble(f"{run.training_id}  ", (state, STYLES.get(state, "")))
    if state == "RUNNING":
        line.append(f" {run.stage} {run.progress:.0%}{' (stopping)' if run.cancelling else ''}")
    if run.verdict:
        verdict = pb.TrainingVerdict.Name(run.verdict).removeprefix("TRAINING_VERDICT_")
        line.append(f" {verdict}", STYLES.get(verdict, "yellow"))
    for word in (run.release, f"same as {run.duplicate_of}" if run.duplicate_of else "", run.error):
        line.append(f" {output.visible(word)}" if word else "")
    return line.append(f"  {run.create_time.ToDatetime():%Y-%m-%d %H:%M} by {output.visible(run.requested_by)}", "dim")


def _show(run: "pb.Training") -> None:
    output.console.print(line(run), soft_wrap=True)
    for reason in run.reasons:
        output.console.print(Text(f"  {output.visible(reason)}"), soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False)
    facts = {
        "base": run.base_model,
        "compared with": run.compared_with,
        "feedback": f"{run.feedback_count:,}, new {run.new_feedback_count:,}" if run.snapshot else "",
        "attempts": str(run.attempts),
        "snapshot": f"{run.snapshot}{' (rewritten since)' if run.not_reproducible else ''}",
        **{name.replace("_", " "): f"{value:.4g}" for name, value in sorted(run.metrics.items())},
    }
    for name, value in facts.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(output.visible(value), overflow="fold"))
    output.console.print(table)
