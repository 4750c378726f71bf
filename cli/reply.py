"""A reply of `Generate`, drawn for a terminal. Used by `ask` and by `serve` for its sample query."""

from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.output import Flow, hanging, visible
from ratchet.v1 import inference_pb2 as pb


def panel(query: str, reply: pb.GenerateResponse, *, verbose: bool = False) -> RenderableType:
    """The query, the tools, every candidate with its score, the answer, and what the caller should know.

    `verbose` adds the tools' evidence, all that the quality checks found, and the receipt.
    """
    parts: list[RenderableType] = [hanging(Text("Query  ", style="dim"), Text(visible(query)))]
    parts += [line for run in reply.tool_runs for line in _tool(run, verbose)]
    parts.append(candidates(reply, verbose=verbose))
    parts.append(_answer(reply))
    parts += _facts(reply, verbose)
    parts += [hanging(Text("! "), Text(visible(each.detail)), style="yellow") for each in reply.degradations]
    return Group(*parts)


def event_line(event: pb.StreamGenerateResponse) -> RenderableType:
    """One thing that happened: what, and beside it the rest, however long."""
    name, text, style = _event(event)
    return hanging(Text(f"{visible(name):<12} "), Text(visible(text)), style=style)


def _event(event: pb.StreamGenerateResponse) -> tuple[str, str, str]:
    """Its name, what it says, its style."""
    match event.WhichOneof("event"):
        case "tools_selected":
            return "tools", ", ".join(event.tools_selected.tools) or "none", "dim"
        case "tool_finished":
            run = event.tool_finished
            return run.tool, f"{run.detail} ({_milliseconds(run.latency)})", "dim"
        case "candidate_drawn":
            drawn = event.candidate_drawn
            return f"candidate {drawn.index:>2}", drawn.text or drawn.error, "" if drawn.text else "red"
        case "candidate_scored":
            scored = event.candidate_scored
            return f"scored    {scored.index:>2}", _score(scored), "dim"
        case _:
            return "again", "; ".join(event.regenerating.reasons), "yellow"


def _tool(run: pb.ToolRun, verbose: bool) -> Iterator[RenderableType]:
    found = Text.assemble(visible(f"{run.tool}: {run.detail}"), (f"  {_milliseconds(run.latency)}", "dim"))
    yield hanging(Text("Tool   ", style="dim"), found)
    if verbose:
        for each in run.evidence:
            text = Text.assemble((f"[{visible(each.title)}] ", "dim"), visible(each.text))
            yield hanging(Text(f"       {each.score:.2f} ", style="dim"), text)


def candidates(reply: pb.GenerateResponse, *, verbose: bool) -> Table:
    """Every candidate with its number, score, sampling and findings; `verbose`: also of the checks that it passed."""
    table = Table(show_edge=False, pad_edge=False, expand=True, box=None, header_style="dim")
    table.add_column("", width=1)
    table.add_column("#", justify="right", style="dim")
    table.add_column("score", justify="right", width=6)
    table.add_column("sampling", no_wrap=True)
    table.add_column("candidate", ratio=1)
    for each in reply.candidates:
        text = Text(visible(each.text)) if each.text else Text(visible(each.error), style="red")
        if each.HasField("duplicate_of"):
            text = Text(f"the same as candidate {each.duplicate_of}", style="dim")
        for finding in each.findings:
            if not finding.passed or (verbose and finding.detail):
                text.append(f"\n{'·' if finding.passed else '✗'} {visible(finding.detail)}", style="yellow")
        style = "bold" if each.selected else "" if each.passed else "dim"
        mark, preset = "●" if each.selected else " ", Text(visible(each.sampling.preset))
        table.add_row(mark, str(each.index), _score(each), preset, text, style=style)
    return table


def _answer(reply: pb.GenerateResponse) -> Panel:
    answer = Text(visible(reply.response))
    for each in reply.citations:
        where = visible(each.evidence.uri or each.evidence.source)
        answer.append(f"\n[{each.number}] {visible(each.evidence.title)}", style="cyan")
        answer.append(f"  {where}", style="dim")
    title, colour = ("Refusal", "yellow") if reply.refused else ("Answer", "green")
    return Panel(answer, title=title, title_align="left", border_style=colour)


def _facts(reply: pb.GenerateResponse, verbose: bool) -> Iterator[RenderableType]:
    score = f"{reply.reward_score:.3f}" if reply.HasField("reward_score") else "not scored"
    notes = [name for name in ("replayed", "regenerated", "explored", "profile_used") if getattr(reply, name)]
    releases = f"{reply.policy_release} + {reply.reward_release or 'no reward model'}"
    count = f"{reply.candidates_count} {'candidate' if reply.candidates_count == 1 else 'candidates'}"
    yield Flow((f"score {score}", count, visible(reply.generation_method), visible(releases)), " · ")
    told = (f"response {reply.response_id}", f"seed {reply.seed}", *(name.replace("_", " ") for name in notes))
    yield Flow(told, " · ")
    yield Flow([f"{each.stage} {_milliseconds(each.duration)}" for each in reply.latencies], "  ")
    if verbose and reply.receipt:
        yield Text(f"receipt {reply.receipt}", style="dim", overflow="fold")


def _score(candidate: pb.Candidate) -> str:
    return f"{candidate.reward_score:.3f}" if candidate.HasField("reward_score") else "–"


def _milliseconds(duration: Duration) -> str:
    return f"{duration.ToTimedelta().total_seconds() * 1e3:.0f} ms"
