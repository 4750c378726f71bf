"""`ratchet ask`: one query, with its tools, candidates, scores and answer."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from cli import client, output, streams

if TYPE_CHECKING:
    from ratchet.v1 import inference_pb2 as pb

METHODS = ("best", "weighted", "ensemble")


@click.command("ask")
@click.argument("query")
@click.option("--context", default="", help="What the answer should rest on; '-' reads it from standard input.")
@click.option("--user", default="", envvar="RATCHET_USER", help="Who is asking.")
@click.option("--session", default="", envvar="RATCHET_SESSION", help="The conversation to continue.")
@click.option("-n", "--candidates", type=int, help="How many candidates to draw (1 to 16).")
@click.option("--select", "method", type=click.Choice(METHODS), help="How the answer is chosen.")
@click.option("--minimum-reward", type=float, help="Reward score below which no candidate passes (0 to 1).")
@click.option("--tool", "tools", multiple=True, help="Let only this tool run; may be given again.")
@click.option("--no-tools", is_flag=True, help="Let no tool run.")
@click.option("--seed", type=int, help="Seed of the request.")
@click.option("--max-output-tokens", type=int, help="Bound on the tokens of a candidate.")
@click.option("--request-id", default="", help="Makes the call idempotent.")
@click.option("--stream", is_flag=True, help="Show tools and candidates as they come.")
@click.option("-v", "--verbose", is_flag=True, help="Show evidence, quality checks and the receipt.")
@client.options
def command(
    query: str, context: str, stream: bool, verbose: bool, address: str, timeout: float, as_json: bool, **given: Any
) -> None:
    """Ask a running server QUERY; '-' reads it from standard input."""
    from cli.reply import panel

    request = _request(query, context, **given)
    with client.inference(address, timeout) as stub:
        if not stream:
            reply = stub.Generate(request, timeout=timeout)
        elif as_json:
            with _events(stub, request, timeout) as events:
                for event in events:
                    output.as_json(event)
            return
        else:
            with _events(stub, request, timeout) as events:
                reply = _watched(events)
    if as_json:
        output.as_json(reply)
    else:
        output.console.print(panel(request.query, reply, verbose=verbose))


def _request(
    query: str,
    context: str,
    *,
    user: str,
    session: str,
    candidates: int | None,
    method: str | None,
    tools: tuple[str, ...],
    no_tools: bool,
    **rest: Any,
) -> "pb.GenerateRequest":
    from ratchet.v1 import inference_pb2 as pb

    if "-" == query == context:
        raise click.UsageError("only one of QUERY and --context can be read from standard input")
    if tools and no_tools:
        raise click.UsageError("--tool and --no-tools exclude each other")
    try:
        return pb.GenerateRequest(
            query=sys.stdin.read() if query == "-" else query,
            context=sys.stdin.read() if context == "-" else context,
            user_id=user,
            session_id=session,
            candidate_count=candidates,
            selection_method=pb.SelectionMethod.Value(f"SELECTION_METHOD_{(method or 'unspecified').upper()}"),
            tool_use=pb.TOOL_USE_NONE if no_tools else pb.TOOL_USE_UNSPECIFIED,
            tools=tools,
            **rest,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _events(
    stub: Any, request: "pb.GenerateRequest", timeout: float
) -> "AbstractContextManager[Iterator[pb.StreamGenerateResponse]]":
    from ratchet.v1 import inference_pb2 as pb

    return streams.messages(stub.StreamGenerate(pb.StreamGenerateRequest(request=request), timeout=timeout))


def _watched(events: "Iterator[pb.StreamGenerateResponse]") -> "pb.GenerateResponse":
    """Prints what happens; gives the reply, which comes last."""
    from cli.reply import event_line

    for event in events:
        if event.HasField("result"):
            return event.result
        output.console.print(event_line(event))
    raise output.CommandFailed("The server ended the stream without a reply.")
