"""`ratchet score`: the reward model's opinion of given responses."""

import click

from cli import client, output


@click.command("score")
@click.argument("query")
@click.argument("responses", nargs=-1, required=True)
@click.option("--context", default="", help="The context in which the responses answer.")
@client.options
def command(query: str, responses: tuple[str, ...], context: str, address: str, timeout: float, as_json: bool) -> None:
    """Score each of RESPONSES as an answer to QUERY."""
    from rich.table import Table
    from rich.text import Text

    from ratchet.v1 import inference_pb2 as pb

    try:
        request = pb.ScoreRequest(query=query, context=context, responses=responses)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with client.inference(address) as stub:
        reply = stub.Score(request, timeout=timeout)
    if as_json:
        output.as_json(reply)
        return
    table = Table(title=f"Scores by {reply.reward_release}", title_justify="left", box=None, header_style="dim")
    table.add_column("score", justify="right")
    table.add_column("response")
    best = max(each.score for each in reply.scores)
    for each, text in zip(reply.scores, responses, strict=True):
        note = " (cut to fit the model)" if each.truncated else ""
        table.add_row(f"{each.score:.3f}", Text(text + note), style="bold" if each.score == best else "")
    output.console.print(table)
