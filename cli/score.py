"""`ratchet score`: the reward model's opinion of given responses, by a server or from a release's directory."""

from pathlib import Path

import click

from cli import client, output


@click.command("score")
@click.argument("query", required=False)
@click.argument("responses", nargs=-1)
@click.option("--context", default="", help="The context in which the responses answer.")
@click.option(
    "--release",
    type=click.Path(path_type=Path),
    help="Score without a server: the directory of a reward release.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="With --release: JSON lines, plain or gzip, of responses to score.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="With --release: where to write the lines with their scores. [default: standard output]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    envvar="RATCHET_SCORE_THREADS",
    help="With --release: how many to compute with; 0: as many as there are cores.",
)
@client.options
def command(
    query: str | None,
    responses: tuple[str, ...],
    context: str,
    release: Path | None,
    data: Path | None,
    out: Path | None,
    threads: int,
    address: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Score each of RESPONSES as an answer to QUERY or, with --release and --data, those of a file."""
    if release is None and data is None:
        if query is None or not responses:
            raise click.UsageError("Give QUERY and RESPONSES, or --release DIR and --data FILE.")
        _ask(query, responses, context, address, timeout, as_json)
        return
    if query is not None:
        raise click.UsageError("Give either QUERY and RESPONSES, or --release and --data: not both.")
    if release is None or data is None:
        raise click.UsageError("--release and --data go together.")
    from cli import scoring_files

    scoring_files.score(release, data, out, threads, as_json=as_json)


def _ask(query: str, responses: tuple[str, ...], context: str, address: str, timeout: float, as_json: bool) -> None:
    """By a running server."""
    from rich.table import Table
    from rich.text import Text

    from ratchet.v1 import inference_pb2 as pb

    try:
        request = pb.ScoreRequest(query=query, context=context, responses=responses)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with client.inference(address, timeout) as stub:
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
        table.add_row(
            f"{each.score:.3f}", Text(output.visible(text) + note), style="bold" if each.score == best else ""
        )
    output.console.print(table)
