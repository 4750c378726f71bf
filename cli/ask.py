"""`ratchet ask`: one query, with its candidates, scores and answer."""

import sys

import click

from cli import client, output


@click.command("ask")
@click.argument("query")
@click.option("--context", default="", help="What the answer should rest on; '-' reads it from standard input.")
@click.option("--user", default="", envvar="RATCHET_USER", help="Who is asking.")
@click.option("--session", default="", envvar="RATCHET_SESSION", help="The conversation to continue.")
@click.option("-n", "--candidates", type=int, help="How many candidates to draw (1 to 16).")
@click.option("--seed", type=int, help="Seed of the request.")
@click.option("--max-output-tokens", type=int, help="Bound on the tokens of a candidate.")
@click.option("--request-id", default="", help="Makes the call idempotent.")
@client.options
def command(
    query: str,
    context: str,
    user: str,
    session: str,
    candidates: int | None,
    seed: int | None,
    max_output_tokens: int | None,
    request_id: str,
    address: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask a running server QUERY; '-' reads it from standard input."""
    from cli.reply import panel
    from ratchet.v1 import inference_pb2 as pb

    if "-" == query == context:
        raise click.UsageError("only one of QUERY and --context can be read from standard input")
    try:
        request = pb.GenerateRequest(
            query=sys.stdin.read() if query == "-" else query,
            context=sys.stdin.read() if context == "-" else context,
            user_id=user,
            session_id=session,
            candidate_count=candidates,
            seed=seed,
            max_output_tokens=max_output_tokens,
            request_id=request_id,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with client.inference(address) as stub:
        reply = stub.Generate(request, timeout=timeout)
    if as_json:
        output.as_json(reply)
    else:
        output.console.print(panel(request.query, reply))
