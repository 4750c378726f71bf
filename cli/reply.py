"""A reply of `Generate`, drawn for a terminal. Used by `ask` and by `serve` for its sample query."""

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ratchet.v1 import inference_pb2 as pb


def panel(query: str, reply: pb.GenerateResponse) -> RenderableType:
    """The query, every candidate with its score, the chosen answer, and what the caller should know."""
    parts: list[RenderableType] = [Text.assemble(("Query  ", "dim"), query), _candidates(reply)]
    parts.append(Panel(Text(reply.response), title="Answer", title_align="left", border_style="green"))
    parts.append(_facts(reply))
    parts += [Text(f"! {each.detail}", style="yellow") for each in reply.degradations]
    return Group(*parts)


def _candidates(reply: pb.GenerateResponse) -> Table:
    table = Table(show_edge=False, pad_edge=False, expand=True, box=None, header_style="dim")
    table.add_column("", width=1)
    table.add_column("score", justify="right", width=6)
    table.add_column("sampling", no_wrap=True)
    table.add_column("candidate", ratio=1)
    for each in reply.candidates:
        score = f"{each.reward_score:.3f}" if each.HasField("reward_score") else "–"
        text = Text(each.text) if each.text else Text(each.error, style="red")
        mark = "●" if each.selected else " "
        table.add_row(mark, score, each.sampling.preset, text, style="bold" if each.selected else "")
    return table


def _facts(reply: pb.GenerateResponse) -> Text:
    stages = "  ".join(
        f"{each.stage} {each.duration.ToTimedelta().total_seconds() * 1e3:.0f} ms" for each in reply.latencies
    )
    score = f"{reply.reward_score:.3f}" if reply.HasField("reward_score") else "not scored"
    lines = [
        f"score {score} · {reply.candidates_count} candidates · {reply.generation_method} · "
        f"{reply.policy_release} + {reply.reward_release or 'no reward model'}",
        f"response {reply.response_id} · seed {reply.seed}" + (" · replayed" if reply.replayed else ""),
        stages,
    ]
    return Text("\n".join(lines), style="dim")
