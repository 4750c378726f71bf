"""`ratchet logs`: the replies that were given, for people and for files."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import grpc

from cli import client, exporting, log_filters, output

if TYPE_CHECKING:
    from ratchet.v1 import conversation_pb2 as pb
    from ratchet.v1 import conversation_pb2_grpc

_PAGE = 1000
"""Replies that one call of an export may give; how many they are is bounded by their size."""


@click.group("logs", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Look into the log: who asked what, what was answered, and what people thought of it."""


@command.command("list", short_help="List replies, newest first.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Replies at most.")
@log_filters.options
@client.options
def list_(limit: int, address: str, timeout: float, as_json: bool, **given: Any) -> None:
    """List replies, newest first. All filters must hold."""
    from cli.log_report import table

    request = log_filters.request(given)
    with client.channel(address, timeout) as channel:
        found = _found(_stub(channel), request, limit, timeout)
    if as_json:
        output.as_json({"conversations": [output.as_object(each) for each in found]})
    elif found:
        output.console.print(table(found))
        if len(found) == limit:
            output.stderr.print(f"These are the newest {limit}; --limit shows more.", style="dim")
    else:
        output.console.print("The log has no such replies.")


@command.command("show", short_help="Show the whole story of one reply.")
@click.argument("response_id", type=click.UUID)
@client.options
def show(response_id: Any, address: str, timeout: float, as_json: bool) -> None:
    """Show the reply RESPONSE_ID: question, context, tools, every candidate with its scores and findings, feedback."""
    from cli.log_report import story
    from ratchet.v1 import conversation_pb2 as pb

    with client.channel(address, timeout) as channel:
        request = pb.GetConversationRequest(response_id=str(response_id))
        found = _stub(channel).GetConversation(request, timeout=timeout).conversation
    if as_json:
        output.as_json(found)
    else:
        output.console.print(story(found))


@command.command("export", short_help="Write replies, whole, to JSON Lines or Parquet.")
@exporting.options("logs")
@log_filters.options
@client.options
def export(to: Path | None, form: str, address: str, timeout: float, as_json: bool, **given: Any) -> None:
    """Write the replies that fit to a new directory, whole or not at all: files that pandas, DuckDB and Hugging Face's
    `load_dataset(DIRECTORY)` read, with their columns in README.md. Without --until they are those of before now.
    """
    from cli.export_rows import log_row

    given["until"] = given["until"] or datetime.now(UTC)
    request = log_filters.request(given)
    request.full, request.page_size = True, _PAGE
    with client.channel(address, timeout) as channel:
        rows = (log_row(each) for page in _pages(_stub(channel), request, timeout) for each in page.conversations)
        exporting.export(exporting.Order("logs", form, to, log_filters.told(given)), rows, as_json=as_json)


def _found(
    stub: "conversation_pb2_grpc.ConversationServiceStub",
    request: "pb.ListConversationsRequest",
    limit: int,
    timeout: float,
) -> "list[pb.ConversationSummary]":
    """At most `limit` replies; where the search takes long, standard error says how far it is."""
    found: list[pb.ConversationSummary] = []
    request.page_size = min(limit, _PAGE)
    with output.stderr.status("searching") as status:
        for page in _pages(stub, request, timeout):
            found += page.summaries
            if len(found) >= limit:
                break
            status.update(f"searched back to {page.searched_from.ToDatetime():%Y-%m-%d %H:%M} UTC")
    return found[:limit]


def _pages(
    stub: "conversation_pb2_grpc.ConversationServiceStub", request: "pb.ListConversationsRequest", timeout: float
) -> "Iterator[pb.ListConversationsResponse]":
    while True:
        page = stub.ListConversations(request, timeout=timeout)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _stub(channel: grpc.Channel) -> "conversation_pb2_grpc.ConversationServiceStub":
    from ratchet.v1 import conversation_pb2_grpc

    return conversation_pb2_grpc.ConversationServiceStub(channel)
