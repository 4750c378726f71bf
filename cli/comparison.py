"""A replay beside the logged reply, drawn for a terminal: side by side, on a line, or many of them in sum."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.output import hanging, visible
from cli.reply import candidates
from server.replay.comparison import Side, Summary
from server.replay.replayer import Replayed
from server.rpc.messages import response_of
from server.types import Reply

QUERY_CHARACTERS = 60
NOTHING = "–"


def line(result: Replayed) -> Text:
    """One replay on one line."""
    found = result.comparison
    query = " ".join(visible(result.logged.query).split())
    cut = query if len(query) <= QUERY_CHARACTERS else query[: QUERY_CHARACTERS - 1] + "…"
    mark, style = ("≠", "bold") if found.answer_changed else ("=", "dim")
    # An arrow only where one release gave both: others have no common scale.
    pair = found.rewards
    before, after, between = found.before.reward_score, found.after.reward_score, "|"
    if pair is not None:
        before, after, between = pair.before, pair.after, "→"
    rewards = f"{_score(before)} {between} {_score(after)}"
    changes = "; ".join(change for change in found.changes if change != "another answer")
    return Text(
        f"{mark} {result.place.response_id}  {rewards}  {cut}" + (f"  ({changes})" if changes else ""), style=style
    )


def side_by_side(result: Replayed, *, verbose: bool, rescored: bool) -> RenderableType:
    """The logged reply beside the replayed one, what changed, and what could not be as it was."""
    found = result.comparison
    table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
    table.add_column("", style="dim", no_wrap=True)
    table.add_column(f"logged {found.before.created_at:%Y-%m-%d %H:%M:%S}", ratio=1)
    table.add_column("rescored" if rescored else "replayed", ratio=1)
    facts = _facts(found.before, result.minimum_before), _facts(found.after, result.minimum_after)
    for name in facts[0]:
        if not (rescored and name == "latency"):
            before, after = facts[0][name], facts[1][name]
            table.add_row(name, Text(visible(before)), Text(visible(after), style="bold" if before != after else ""))
    parts: list[RenderableType] = [hanging(Text("Query  ", style="dim"), Text(visible(result.logged.query))), table]
    if verbose:
        for name, reply in (("logged", found.before), ("replayed", found.after)):
            parts += [Text(f"Candidates {name}", style="dim"), candidates(response_of(reply), verbose=True)]
    if rescored and found.rewards and found.answer_changed:
        parts.append(
            Text(f"{found.rewards.release} gives {found.rewards.before:.3f} to the logged answer.", style="cyan")
        )
    changed = "; ".join(found.changes) or "nothing"
    parts.append(Text.assemble(("Changed  ", "dim"), (changed, "yellow" if found.changes else "green")))
    parts += [Text(f"· {note}", style="dim") for note in result.notes]
    return Group(*parts, "")


def summary(found: Summary, *, rescored: bool) -> RenderableType:
    """What many replays say."""
    share = "" if found.share_changed is None else f" ({found.share_changed:.1%})"
    head = f"{found.replayed} replayed, {found.answers_changed} with another answer{share}"
    parts: list[RenderableType] = [Text(head + (f", {found.failed} failed" if found.failed else ""), style="bold")]
    if found.before and found.after:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("", style="dim")
        table.add_column("logged", justify="right")
        table.add_column("rescored" if rescored else "replayed", justify="right")
        before, after = _side(found.before), _side(found.after)
        for name in before:
            if not (rescored and name.startswith("latency")):
                table.add_row(name, before[name], after[name])
        parts.append(table)
    parts.append(Text(_difference(found), style="dim"))
    return Group(*parts)


def _side(side: Side) -> dict[str, str]:
    """One line a figure, the same names for both sides."""
    return {
        "scored by": ", ".join(side.releases) or "none",
        "mean reward of answers": _score(side.mean_reward),
        "refused": str(side.refused),
        "mean candidates": f"{side.mean_candidates:.2f}",
        "latency p50": _milliseconds(side.latency_p50),
        "latency p99": _milliseconds(side.latency_p99),
    }


def _difference(found: Summary) -> str:
    difference = found.difference
    if difference is None:
        return "Rewards can't be compared: no answer pair was scored by one release."
    said = f"Reward of the replayed answer over the logged one, by one release: {difference.mean:+.3f}"
    if difference.low is not None and difference.high is not None:
        said += f" (95 % interval {difference.low:+.3f} to {difference.high:+.3f})"
    return f"{said}, {difference.pairs} pairs"


def _facts(reply: Reply, minimum: float | None) -> dict[str, str]:
    """One line a fact, the same names for both sides."""
    findings = {f.detail or f.check.value for c in reply.candidates for f in c.findings if not f.passed}
    return {
        "answer": reply.response,
        "score": _score(reply.reward_score),
        "passes from": NOTHING if minimum is None else f"{minimum:.2f}",
        "releases": f"{reply.policy_release} + {reply.reward_release or 'none'}",
        "chosen by": f"{reply.choice.method}" + (", exploring" if reply.choice.explored else ""),
        "sampling": reply.generation_method,
        "candidates": str(reply.candidates_count) + (", drawn twice" if reply.regenerated else ""),
        "findings": "\n".join(sorted(findings)) or "none",
        "tools": "\n".join(f"{run.tool}: {run.detail}" for run in reply.tool_runs) or "none",
        "cites": "\n".join(f"[{each.number}] {each.evidence.title}" for each in reply.citations) or "nothing",
        "degraded": "\n".join(sorted({each.reason for each in reply.degradations})) or "no",
        "latency": _milliseconds(reply.total_seconds),
    }


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _milliseconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds * 1e3:.0f} ms"
