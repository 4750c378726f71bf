"""`ratchet review`: the replies that people are asked to judge for the next training run."""

from typing import TYPE_CHECKING

import click
import grpc

from cli import client, output

if TYPE_CHECKING:
    from ratchet.v1 import training_pb2 as pb
    from ratchet.v1 import training_pb2_grpc

_WHY = {"HIGHEST": "one of the highest scores", "LOWEST": "one of the lowest scores", "DISPUTED": "disputed"}


@click.group("review", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Judge replies whose scores are the highest, the lowest or the most disputed; the next run learns from it."""


@command.command("list", short_help="List what waits for a judgement.")
@click.option("--run", default="", help="Only of this training run, by its id.")
@click.option("--all", "everything", is_flag=True, help="Also what was judged already.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@client.options
def list_(run: str, everything: bool, limit: int, address: str, timeout: float, as_json: bool) -> None:
    """List replies to judge, the newest first; with --all, judged ones after them."""
    from ratchet.v1 import training_pb2 as pb

    try:
        request = pb.ListReviewItemsRequest(training_id=run, open_only=not everything)
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error
    with client.channel(address, timeout) as channel:
        found, waiting = _listed(_stub(channel), request, limit, timeout)
    if as_json:
        output.as_json({"items": [output.as_object(item) for item in found], "open_count": waiting})
        return
    for item in found:
        _show(item)
    some = f"{waiting:,} wait{'s' if waiting == 1 else ''} for a judgement."
    output.console.print(some if waiting else "Nothing waits for a judgement.")


@command.command("label", short_help="Judge a reply with 1 to 5 stars.")
@click.argument("item")
@click.argument("stars", type=click.IntRange(0, 5))
@click.option("--note", default="", help="What there is to say.")
@client.options
def label(item: str, stars: int, note: str, address: str, timeout: float, as_json: bool) -> None:
    """Judge ITEM, by the id that `ratchet review list` shows, with 1 to 5 STARS; 0 takes the judgement back."""
    from ratchet.v1 import training_pb2 as pb

    try:
        request = pb.LabelReviewItemRequest(item_id=item, label=stars, note=note)
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error
    with client.channel(address, timeout) as channel:
        found = _stub(channel).LabelReviewItem(request, timeout=timeout).item
    if as_json:
        output.as_json(found)
    else:
        _show(found)


def _stub(channel: grpc.Channel) -> "training_pb2_grpc.TrainingServiceStub":
    from ratchet.v1 import training_pb2_grpc

    return training_pb2_grpc.TrainingServiceStub(channel)


def _listed(
    stub: "training_pb2_grpc.TrainingServiceStub", request: "pb.ListReviewItemsRequest", limit: int, timeout: float
) -> "tuple[list[pb.ReviewItem], int]":
    """Items, `limit` at most, and how many are open in all."""
    found: list[pb.ReviewItem] = []
    while True:
        request.page_size = min(limit - len(found), 100)
        reply = stub.ListReviewItems(request, timeout=timeout)
        found.extend(reply.items)
        request.page_token = reply.next_page_token
        if len(found) >= limit or not request.page_token:
            return found, reply.open_count


def _show(item: "pb.ReviewItem") -> None:
    """Its id has a line of its own, which nothing cuts, so that it can be copied. What the model and other people said
    is told of judged ones only: it would lead whoever is to judge."""
    from rich.text import Text

    from ratchet.v1 import training_pb2 as pb

    why = _WHY.get(pb.ReviewReason.Name(item.reason).removeprefix("REVIEW_REASON_"), "")
    judged = "★" * item.label + "☆" * (5 - item.label) if item.label else "open"
    lines = Text.assemble(
        (f"{judged}  ", "bold yellow" if item.label else "bold"), (output.visible(item.query), "bold")
    )
    lines.append(f"\n  {output.visible(item.response)}")
    if item.label:
        ratings = f", its ratings {item.rating:.2f}" if item.HasField("rating") else ", no ratings"
        lines.append(f"\n  score {item.score:.2f}{ratings}; {why}", style="dim")
        who, note = output.visible(item.labelled_by) or "somebody", output.visible(item.note)
        lines.append(f"\n  judged by {who}{f': {note}' if note else ''}", style="dim")
    lines.append(f"\n  {item.item_id}", style="dim")
    output.console.print(lines, soft_wrap=True)
