"""`ratchet report`: what a training run found out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from cli import client, output
from cli.output import CommandFailed

if TYPE_CHECKING:
    from trainer.reward.findings import Estimate, Report

SUFFIX = ".run"
"""Of the directory beside a release that was trained from files (see trainer/reward/offline.py)."""


@click.command("report")
@click.argument("run", default="", metavar="[RUN|DIRECTORY]")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the page for browsers here.")
@client.options
def command(run: str, html: Path | None, address: str, timeout: float, as_json: bool) -> None:
    """Show the report of RUN, by the id that `ratchet train list` shows, or of the newest that has one.

    DIRECTORY is a release that was trained from files, or its run's directory.
    """
    document, page = _of_files(Path(run)) if _is_directory(run) else _of_server(run, address, timeout)
    if html is not None:
        try:
            html.write_text(page)
        except OSError as error:
            raise CommandFailed(f"{html} can't be written: {error.strerror}.") from error
    if as_json:
        output.as_json(document)
    else:
        _show(document)
        if html is not None:
            output.named("page", str(html), 8)


def _is_directory(run: str) -> bool:
    return "/" in run or run.startswith(".") or (bool(run) and Path(run).is_dir())


def _of_files(directory: Path) -> tuple[dict[str, Any], str]:
    beside = directory.absolute().with_name(f"{directory.absolute().name}{SUFFIX}")
    for place in (directory, beside):
        try:
            return json.loads((place / "report.json").read_bytes()), (place / "report.html").read_text()
        except OSError:
            continue
        except ValueError as error:
            raise CommandFailed(f"{place / 'report.json'} is not JSON: {error}.") from error
    raise CommandFailed(f"There is no report in {directory} nor in {beside}.")


def _of_server(run: str, address: str, timeout: float) -> tuple[dict[str, Any], str]:
    from cli.train_runs import stub
    from ratchet.v1 import training_pb2 as pb

    with client.channel(address, timeout) as channel:
        run = run or _newest(channel, timeout)
        try:
            request = pb.GetTrainingReportRequest(training_id=run)
        except ValueError as error:  # text that is no valid UTF-8
            raise click.UsageError(str(error)) from error
        reply = stub(channel).GetTrainingReport(request, timeout=timeout)
    return json.loads(reply.json), reply.html


def _newest(channel: Any, timeout: float) -> str:
    """The newest run that came to a verdict on a model."""
    from cli.train_runs import stub
    from ratchet.v1 import training_pb2 as pb

    request = pb.ListTrainingsRequest(state=pb.TRAINING_STATE_SUCCEEDED, page_size=50)
    for each in stub(channel).ListTrainings(request, timeout=timeout).trainings:
        if each.metrics:
            return str(each.training_id)
    raise CommandFailed("No run has a report yet.")


def _show(document: dict[str, Any]) -> None:
    """Verdict, what every demand said, and how the model and what it is compared with rank."""
    from trainer.errors import TrainerError
    from trainer.reward.report import parse

    try:
        report = parse(document)
    except TrainerError as error:
        raise CommandFailed(str(error)) from error
    if report.verdict is not None:
        verdict, said = report.verdict, [clause.sentence for clause in report.verdict.clauses]
        summary = "" if verdict.summary in said else f" {output.visible(verdict.summary)}"
        output.console.print(Text.assemble((str(verdict.outcome), "bold"), summary), soft_wrap=True)
        for clause in report.verdict.clauses:
            mark = {True: "✓", False: "✗", None: "–"}[clause.passed]
            output.console.print(Text(f"  {mark} {output.visible(clause.sentence)}"), soft_wrap=True)
    output.console.print(_table(report))
    data = report.data
    output.console.print(
        f"{data.train_pairs:,} pairs to train on, {data.validation_pairs:,} to judge by; left out: "
        + (", ".join(f"{each.count:,} {each.reason}" for each in data.exclusions) or "nothing"),
        soft_wrap=True,
    )


def _table(report: "Report") -> Table:
    """Shares of pairs in the right order, and of the possible gain, with their intervals."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("", "pairs in order", "of similar length", "best-of-N gain"):
        table.add_column(column)
    rankings = [("this model", report.ranking), *((each.label or each.name, each.ranking) for each in report.baselines)]
    for name, ranking in rankings:
        table.add_row(name, *(_interval(each) for each in (ranking.accuracy, ranking.similar, ranking.gain)))
    return table


def _interval(estimate: "Estimate") -> str:
    if estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
