"""`ratchet releases`: what was published, what serves, and how each release stands on Triton's replicas."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import grpc
from rich.table import Table
from rich.text import Text

from cli import client, output
from cli import refused as refused_

if TYPE_CHECKING:
    from ratchet.v1 import release_pb2 as pb
    from ratchet.v1 import release_pb2_grpc

T = TypeVar("T")
KINDS = ("reward", "policy")
_STATES = {1: ("loading", "yellow"), 2: ("ready", "green"), 3: ("refused", "bold red"), 4: ("unloading", "dim")}


class _ListsByItself(click.Group):
    """Lists when no command is named: `ratchet releases --kind reward`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("releases", cls=_ListsByItself, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """What was published, and what serves: `list` without a command; `show`, `retire`, `refused`."""


@command.command("list", short_help="List releases, the newest first.")
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@client.options
def list_(kind: str | None, limit: int, address: str, timeout: float, as_json: bool) -> None:
    """List releases, the newest first: who answers how many users, and where each is loaded."""
    from ratchet.v1 import release_pb2 as pb

    request, found = pb.ListReleasesRequest(kind=kind_of(kind)), list["pb.Release"]()
    with client.channel(address, timeout) as channel:
        while True:
            request.page_size = min(limit - len(found), 200)
            reply = stub(channel).ListReleases(request, timeout=timeout)
            found.extend(reply.releases)
            request.page_token = reply.next_page_token
            if len(found) >= limit or not request.page_token:
                break
        lost = [] if as_json else refused_.fetch(stub(channel), 50, timeout)
    if as_json:
        output.as_json({"releases": [output.as_object(each) for each in found]})
        return
    for each in found:
        output.console.print(line(each), soft_wrap=True)
    if not found:
        output.console.print("No release was published yet: `ratchet publish DIRECTORY` does.")
    if note := refused_.note(lost, kind_of(kind)):
        output.console.print(Text(note, style="yellow"), soft_wrap=True)


@command.command("show", short_help="Show one release with its lineage.")
@click.argument("release")
@client.options
def show(release: str, address: str, timeout: float, as_json: bool) -> None:
    """Show RELEASE: what it was made from, its figures, its threshold, and how it stands on each replica."""
    from ratchet.v1 import release_pb2 as pb

    request = _of(pb.GetReleaseRequest, release)
    with client.channel(address, timeout) as channel:
        reply = stub(channel).GetRelease(request, timeout=timeout)
    if as_json:
        output.as_json(reply)
        return
    output.console.print(line(reply.release), soft_wrap=True)
    output.console.print(_facts(reply.release, [each.release for each in reply.ancestors]))
    for each in reply.release.replicas:
        output.console.print(_replica(each), soft_wrap=True)


@command.command("retire", short_help="Have a release serve nobody any more.")
@click.argument("release")
@click.option("--yes", is_flag=True, help="Don't ask.")
@client.options
def retire(release: str, yes: bool, address: str, timeout: float, as_json: bool) -> None:
    """Retire RELEASE: no rollout starts with it, and its files leave Triton's repository once nobody can need them.

    The directory that it was published from stays, and publishing that again takes the retirement back. A champion, a
    release of a rollout under way, and what the server's settings name can't be retired.
    """
    from ratchet.v1 import release_pb2 as pb

    request = _of(pb.RetireReleaseRequest, release)
    if not yes:
        if not someone_answers():
            raise click.UsageError("nobody is there to be asked: pass --yes to retire without being asked")
        click.confirm(f"Retire {release}? No rollout can start with it, or go back to it.", abort=True, err=True)
    with client.channel(address, timeout) as channel:
        reply = stub(channel).RetireRelease(request, timeout=timeout)
    if as_json:
        output.as_json(reply)
        return
    output.console.print(line(reply.release), soft_wrap=True)
    if reply.existed:
        output.console.print("It was retired before; nothing changed.")


@command.command("refused", short_help="List what training made and could not be published.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@client.options
def refused(limit: int, address: str, timeout: float, as_json: bool) -> None:
    """List what training made and could not be published, the newest first, and why."""
    with client.channel(address, timeout) as channel:
        found = refused_.fetch(stub(channel), limit, timeout)
    if as_json:
        output.as_json({"refused_releases": [output.as_object(each) for each in found]})
    else:
        refused_.show(found)


def stub(channel: grpc.Channel) -> "release_pb2_grpc.ReleaseServiceStub":
    """Of the server at the channel's other end."""
    from ratchet.v1 import release_pb2_grpc

    return release_pb2_grpc.ReleaseServiceStub(channel)


def someone_answers() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def _of(kind: Callable[..., T], release: str) -> T:
    """A request about a release."""
    try:
        return kind(release=release)
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error


def kind_of(name: str | None) -> "pb.ReleaseKind.ValueType":
    """The value of a kind's name; unspecified without one."""
    from ratchet.v1 import release_pb2 as pb

    return pb.ReleaseKind.Value(f"RELEASE_KIND_{name.upper() if name else 'UNSPECIFIED'}")


def kind_name(value: int) -> str:
    """The inverse of `kind_of`."""
    from ratchet.v1 import release_pb2 as pb

    known = pb.ReleaseKind.DESCRIPTOR.values_by_number.get(value)
    return known.name.removeprefix("RELEASE_KIND_").lower() if known else "unknown"


def percent(part: float) -> str:
    """0.125 as 12.5 %."""
    return f"{100 * part:.4g} %"


def line(release: "pb.Release") -> Text:
    """A release's id, which nothing cuts, and how it stands."""
    told = Text.assemble((output.visible(release.release), "bold"), f"  {kind_name(release.kind)}")
    if release.champion:
        told.append("  champion", "bold green")
    if release.rollout_id:
        told.append("  challenger", "bold cyan")
    if release.HasField("retire_time"):
        told.append("  retired", "yellow")
    if release.share:
        told.append(f" {percent(release.share)}")
    ready = sum(each.state == 2 for each in release.replicas)
    if release.replicas:
        told.append(
            f"  ready on {ready} of {len(release.replicas)}", "" if ready == len(release.replicas) else "yellow"
        )
    if any(each.refusal for each in release.replicas):
        told.append(" (refused)", "bold red")
    by = output.visible(release.publisher)
    return told.append(f"  published {release.publish_time.ToDatetime():%Y-%m-%d %H:%M} by {by}", "dim")


def _facts(release: "pb.Release", ancestors: list[str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    made = f"{release.create_time.ToDatetime():%Y-%m-%d %H:%M}" if release.HasField("create_time") else ""
    facts = {
        "made from": " ← ".join(ancestors) or release.parent,
        "base model": release.base_model,
        "architecture": release.architecture,
        "made": " by code ".join(filter(None, (made, release.code_version))),
        "data": release.data_snapshot,
        "training run": release.training_id,
        "threshold": f"{release.threshold:.4g}" if release.HasField("threshold") else "",
        "": release.threshold_reason,
        "calibration": ", ".join(f"{name} {value:.4g}" for name, value in sorted(release.calibration.items())),
        "runs as": ", ".join(release.variants),
        "rollout": release.rollout_id,
        "retired": f"{release.retire_time.ToDatetime():%Y-%m-%d %H:%M}" if release.HasField("retire_time") else "",
        **{f"metric {name}": value for name, value in _figures(output.as_object(release).get("metrics", {}))},
        **{f"parity {name}": value for name, value in _figures(output.as_object(release).get("parity", {}))},
    }
    for name, value in facts.items():
        if value:
            table.add_row(Text(output.visible(name), style="dim"), Text(output.visible(value), overflow="fold"))
    return table


def _figures(values: Any) -> list[tuple[str, str]]:
    """Every figure with its path, in their order; then what is words, such as reasons and the digests of runs."""
    found = sorted(_leaves(values), key=lambda leaf: (_is_words(leaf[1]), leaf[0]))
    return [(path, _text(value)) for path, value in found]


def _leaves(values: Any, path: str = "") -> list[tuple[str, Any]]:
    """Everything that is in objects of objects, with its path."""
    if isinstance(values, dict):
        return [leaf for name, each in values.items() for leaf in _leaves(each, f"{path} {name}".strip())]
    return [(path, values)]


def _is_words(value: Any) -> bool:
    return any(isinstance(each, str) for each in (value if isinstance(value, list) else [value]))


def _text(value: Any) -> str:
    """Sentences one after another, each once; other lists with commas."""
    if not isinstance(value, list):
        return _figure(value)
    if _is_words(value):
        words = list(dict.fromkeys(map(_figure, value)))
        return (" " if all(each.endswith(".") for each in words) else ", ").join(words)
    return ", ".join(map(_figure, value))


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)


def _replica(model: "pb.ReplicaModel") -> Text:
    state, style = _STATES.get(model.state, ("?", ""))
    told = Text.assemble((f"{state:<10}", style), output.visible(model.replica))
    if model.refusal:
        told.append(f": {output.visible(model.refusal)}")
    return told.append(f"  since {model.since_time.ToDatetime():%Y-%m-%d %H:%M:%S}", "dim")
