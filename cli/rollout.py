"""`ratchet rollout`: how a release takes over from the champion, watched and steered from a terminal."""

import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import grpc

from cli import client, output, releases, rollout_plan, rollout_watch
from cli.output import CommandFailed
from cli.releases import someone_answers
from cli.rollout_view import View, already, line, report_line, where

if TYPE_CHECKING:
    from ratchet.v1 import rollout_pb2 as pb
    from ratchet.v1 import rollout_pb2_grpc

T = TypeVar("T")
_WHICH = click.argument("rollout", default="", metavar="[ROLLOUT]")
_REASON = click.option("--reason", default="", help="Why, for the audit.")
_YES = click.option("--yes", is_flag=True, help="Don't ask.")
_SOON = 2.0
"""Seconds to ask for what a command only tells more with."""
_VERSION = click.option(
    "--version", type=click.IntRange(1), help="The version that you saw; else it is shown and asked."
)


@click.group("rollout", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Roll a release out: start, watch, pause, resume, promote, roll back.

    ROLLOUT is an id, or `reward` or `policy` for the one of that kind under way; without it, the one under way.
    """


@command.command("start", short_help="Roll a release out, or start a draft.")
@click.argument("release")
@rollout_plan.options
@click.option("--draft", is_flag=True, help="Only draft it, to be started later by its id.")
@click.option("--watch", is_flag=True, help="Watch it then.")
@_REASON
@click.option("--request-id", default="", help="Makes the call idempotent; one of its own when not given.")
@client.options
def start(
    release: str,
    file: Path | None,
    stages: tuple[float, ...] | None,
    at_once: bool,
    no_shadow: bool,
    holdback: float | None,
    minimum_samples: int | None,
    minimum_seconds: float | None,
    longest_seconds: float | None,
    settings: tuple[str, ...],
    draft: bool,
    watch: bool,
    reason: str,
    request_id: str,
    address: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Roll RELEASE out: shadow, then 10, 50 and 100 % of the users, each step on evidence; or start a draft by its id.

    The fields of a plan, and its defaults, are in docs/rollouts.md.
    """
    values = minimum_samples, minimum_seconds, longest_seconds
    plan = rollout_plan.message(
        file,
        stages,
        at_once=at_once,
        no_shadow=no_shadow,
        holdback=holdback,
        settings=settings,
        waiting=dict(zip(rollout_plan.WAITING, values, strict=True)),
    )
    request = _start_request(release, plan, draft, reason, request_id)
    with client.channel(address, timeout) as channel:
        before = _version(channel, request.rollout_id, timeout)
        found = stub(channel).StartRollout(request, timeout=timeout).rollout
        if not watch:
            _show(found, as_json, before)
            return
        status = rollout_watch.follow(stub(channel), found.rollout_id, as_json=as_json)
    sys.exit(status)


@command.command("list", short_help="List rollouts, the newest first.")
@click.option("--kind", type=click.Choice(releases.KINDS), help="Only of this kind.")
@click.option("--active", is_flag=True, help="Only those under way.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@client.options
def list_(kind: str | None, active: bool, limit: int, address: str, timeout: float, as_json: bool) -> None:
    """List rollouts, the newest first."""
    from ratchet.v1 import rollout_pb2 as pb

    request, found = pb.ListRolloutsRequest(kind=releases.kind_of(kind), active_only=active), list["pb.Rollout"]()
    with client.channel(address, timeout) as channel:
        while True:
            request.page_size = min(limit - len(found), 200)
            reply = stub(channel).ListRollouts(request, timeout=timeout)
            found.extend(reply.rollouts)
            request.page_token = reply.next_page_token
            if len(found) >= limit or not request.page_token:
                break
    if as_json:
        output.as_json({"rollouts": [output.as_object(each) for each in found]})
        return
    for each in found:
        output.console.print(line(each), soft_wrap=True)
    if not found:
        output.console.print("No rollout is under way." if active else "There are no rollouts yet.")


@command.command("show", short_help="Show a rollout: its evidence and its audit.")
@_WHICH
@client.options
def show(rollout: str, address: str, timeout: float, as_json: bool) -> None:
    """Show a rollout: where it stands, what it waits for, the evidence, safety reports, and the audit."""
    with client.channel(address, timeout) as channel:
        reply = _whole(channel, rollout, timeout)
    if as_json:
        output.as_json(reply)
    else:
        output.console.print(_view(reply))


@command.command("watch", short_help="Watch a rollout until it ends.")
@_WHICH
@client.options
def watch(rollout: str, address: str, timeout: float, as_json: bool) -> None:
    """Draw a rollout live until it ends or Ctrl-C; each change on a line elsewhere, with --json each message.

    Exit status: 0 once it is verified; 3 when it was rolled back, 4 when it failed; 1 when it can't be watched.
    --timeout does not apply: it watches for as long as the server answers.
    """
    with client.channel(address, timeout) as channel:
        which = _id(channel, rollout, timeout)
        status = rollout_watch.follow(stub(channel), which, as_json=as_json)
    sys.exit(status)


@command.command("pause", short_help="Pause it: users keep what they have.")
@_WHICH
@_REASON
@client.options
def pause(rollout: str, reason: str, address: str, timeout: float, as_json: bool) -> None:
    """Pause a rollout: users keep what they have, nothing goes on, guardrails still roll back."""
    from ratchet.v1 import rollout_pb2 as pb

    with client.channel(address, timeout) as channel:
        which = _id(channel, rollout, timeout)
        request = _of(pb.PauseRolloutRequest, rollout_id=which, reason=reason)
        before = _version(channel, which, timeout)
        found = stub(channel).PauseRollout(request, timeout=timeout).rollout
    _show(found, as_json, before)


@command.command("resume", short_help="End its pauses.")
@_WHICH
@_REASON
@_VERSION
@_YES
@client.options
def resume(
    rollout: str, reason: str, version: int | None, yes: bool, address: str, timeout: float, as_json: bool
) -> None:
    """End a rollout's pauses: it goes on where it was, with the traffic that it had. Asks first."""
    from ratchet.v1 import rollout_pb2 as pb

    with client.channel(address, timeout) as channel:
        which, seen = _seen(channel, rollout, version, timeout, "Resume", yes)
        request = _of(pb.ResumeRolloutRequest, rollout_id=which, version=seen, reason=reason)
        found = stub(channel).ResumeRollout(request, timeout=timeout).rollout
    _show(found, as_json, seen)


@command.command("promote", short_help="Go on to the next stage without waiting.")
@_WHICH
@_REASON
@_VERSION
@_YES
@client.options
def promote(
    rollout: str, reason: str, version: int | None, yes: bool, address: str, timeout: float, as_json: bool
) -> None:
    """Go on to the next stage without waiting for time, samples and verdicts that are not in yet. Asks first.

    It skips nothing that speaks against the release, and never the success criteria.
    """
    from ratchet.v1 import rollout_pb2 as pb

    with client.channel(address, timeout) as channel:
        which, seen = _seen(channel, rollout, version, timeout, "Promote", yes)
        request = _of(pb.PromoteRolloutRequest, rollout_id=which, version=seen, reason=reason)
        found = stub(channel).PromoteRollout(request, timeout=timeout).rollout
    _show(found, as_json)


@command.command("roll-back", short_help="Give all traffic back to the champion, at once.")
@_WHICH
@_REASON
@client.options
def roll_back(rollout: str, reason: str, address: str, timeout: float, as_json: bool) -> None:
    """Give all traffic back to the champion, at once and without asking.

    One that is verified is undone, by its id: a new rollout takes the former champion back.
    """
    from ratchet.v1 import rollout_pb2 as pb

    with client.channel(address, timeout) as channel:
        which = _id(channel, rollout, timeout)
        request = _of(pb.RollBackRolloutRequest, rollout_id=which, reason=reason)
        before = _version(channel, which, timeout)
        found = stub(channel).RollBackRollout(request, timeout=timeout).rollout
    _show(found, as_json, before if found.rollout_id == which else 0)


@command.command("report", short_help="List safety reports on its replies, or decide on one.")
@click.argument("rollout")
@click.argument("feedback", default="")
@click.option("--confirm/--dismiss", "confirmed", default=None, help="Whether the reply was unsafe.")
@click.option("--tenant", default="", help="Of the report's user. [default: your key's]")
@click.option("--note", default="", help="Why.")
@client.options
def report(
    rollout: str,
    feedback: str,
    confirmed: bool | None,
    tenant: str,
    note: str,
    address: str,
    timeout: float,
    as_json: bool,
) -> None:
    """List the safety reports on the challenger's replies; with FEEDBACK, a report's id, decide on it.

    Confirmed, the rollout rolls back; dismissed, a person may resume it. Deciding again replaces it.
    """
    if bool(feedback) != (confirmed is not None):
        raise click.UsageError("name a report, and --confirm or --dismiss it")
    with client.channel(address, timeout) as channel:
        if feedback:
            which = _id(channel, rollout, timeout)
            _decide(channel, which, feedback, bool(confirmed), tenant, note, timeout, as_json)
        else:
            _reports(_whole(channel, rollout, timeout), as_json)


def stub(channel: grpc.Channel) -> "rollout_pb2_grpc.RolloutServiceStub":
    """Of the server at the channel's other end."""
    from ratchet.v1 import rollout_pb2_grpc

    return rollout_pb2_grpc.RolloutServiceStub(channel)


def _start_request(
    release: str, plan: "pb.RolloutPlan", draft: bool, reason: str, request_id: str
) -> "pb.StartRolloutRequest":
    """Of a release, or of the draft whose id stands in its place."""
    from ratchet.v1 import rollout_pb2 as pb

    if client.is_id(release):
        if draft or plan.ByteSize():
            raise click.UsageError("a draft is started as it is: name no plan")
        return _of(pb.StartRolloutRequest, rollout_id=release.lower(), reason=reason)
    named = {"release": release, "draft": draft, "reason": reason, "request_id": request_id or str(uuid.uuid4())}
    request = _of(pb.StartRolloutRequest, **named)
    request.plan.CopyFrom(plan)
    return request


def _of(kind: Callable[..., T], **values: Any) -> T:
    try:
        return kind(**values)
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error


def _id(channel: grpc.Channel, rollout: str, timeout: float) -> str:
    """The id of what ROLLOUT names. Raises UsageError for what names none, CommandFailed where none is under way, or
    two are."""
    from ratchet.v1 import rollout_pb2 as pb

    if client.is_id(rollout):
        return rollout.lower()
    if rollout and rollout not in releases.KINDS:
        raise click.UsageError(
            f"{output.visible(rollout)!r} is no rollout: give an id, as `ratchet rollout list` shows it, or `reward` or"
            " `policy` for the one of that kind under way."
        )
    request = pb.ListRolloutsRequest(active_only=True, kind=releases.kind_of(rollout or None))
    found = stub(channel).ListRollouts(request, timeout=timeout).rollouts
    if len(found) == 1:
        return str(found[0].rollout_id)
    if found:
        raise CommandFailed("A reward and a policy are being rolled out: say which, `reward` or `policy`.")
    what = f"rollout of a {rollout}" if rollout else "rollout"
    raise CommandFailed(f"No {what} is under way; `ratchet rollout list` shows all.")


def _whole(channel: grpc.Channel, rollout: str, timeout: float) -> "pb.GetRolloutResponse":
    from ratchet.v1 import rollout_pb2 as pb

    request = _of(pb.GetRolloutRequest, rollout_id=_id(channel, rollout, timeout))
    return stub(channel).GetRollout(request, timeout=timeout)


def _seen(
    channel: grpc.Channel, rollout: str, version: int | None, timeout: float, verb: str, yes: bool
) -> tuple[str, int]:
    """The rollout's id, and the version that the person saw: the one they named, or the one shown here, once they say
    yes."""
    if version is not None:
        return _id(channel, rollout, timeout), version
    reply = _whole(channel, rollout, timeout)
    found = reply.rollout
    if not yes:
        if not someone_answers():
            raise CommandFailed(f"{verb} asks first, and nobody can answer here: pass --yes, or --version.")
        output.stderr.print(_view(reply))
        click.confirm(f"{verb} {found.challenger}, {where(found)}, at version {found.version}?", abort=True, err=True)
    return found.rollout_id, found.version


def _view(reply: "pb.GetRolloutResponse") -> View:
    view = View()
    view.take(reply.rollout, reply.look if reply.HasField("look") else None, reversed(reply.events))
    view.reports = reply.safety_reports
    return view


def _version(channel: grpc.Channel, rollout_id: str, timeout: float) -> int:
    """The rollout's version before a command; 0 where that is not told soon, for nothing rests on it and a roll-back
    does not wait."""
    from ratchet.v1 import rollout_pb2 as pb

    if not rollout_id:
        return 0
    try:
        request = pb.GetRolloutRequest(rollout_id=rollout_id)
        return int(stub(channel).GetRollout(request, timeout=min(timeout, _SOON)).rollout.version)
    except grpc.RpcError:
        return 0


def _show(rollout: "pb.Rollout", as_json: bool, before: int = 0) -> None:
    """`before`: its version before the command, 0 where it is not known."""
    if as_json:
        output.as_json(rollout)
        return
    output.console.print(line(rollout), soft_wrap=True)
    if rollout.version == before:
        output.console.print(f"Nothing changed: {already(rollout)}.")


def _reports(reply: "pb.GetRolloutResponse", as_json: bool) -> None:
    if as_json:
        output.as_json({"safety_reports": [output.as_object(each) for each in reply.safety_reports]})
        return
    for each in reply.safety_reports:
        output.console.print(report_line(each), soft_wrap=True)
    if not reply.safety_reports:
        output.console.print("There are no safety reports on its replies.")


def _decide(
    channel: grpc.Channel,
    rollout: str,
    feedback: str,
    confirmed: bool,
    tenant: str,
    note: str,
    timeout: float,
    as_json: bool,
) -> None:
    from ratchet.v1 import rollout_pb2 as pb

    request = _of(
        pb.DecideSafetyReportRequest,
        rollout_id=rollout,
        feedback_id=feedback,
        tenant_id=tenant,
        confirmed=confirmed,
        note=note,
    )
    found = stub(channel).DecideSafetyReport(request, timeout=timeout).report
    if as_json:
        output.as_json(found)
    else:
        output.console.print(report_line(found), soft_wrap=True)
