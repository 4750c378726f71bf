"""`ratchet experiment`: settings, instructions or an interface tried on a share of the users."""

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import grpc

from cli import client, output
from cli.experiment_view import line, outcome, whole
from cli.output import CommandFailed
from cli.percentages import Percentage
from cli.rollout_view import report_line

if TYPE_CHECKING:
    from ratchet.v1 import experiment_pb2 as pb
    from ratchet.v1 import experiment_pb2_grpc

T = TypeVar("T")
KINDS = ("selection", "prompt", "interface")
METHODS = ("best", "weighted", "ensemble")
_SELECTION = ("temperature", "exploration", "ensemble_weight", "candidates", "minimum_reward")
_GOALS = ("gain", "margin", "slower")
_SOON = 2.0
"""Seconds to ask for what a command only tells more with."""
_WHICH = click.argument("experiment", default="", metavar="[EXPERIMENT]")


@click.group("experiment", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Try settings, instructions or an interface on a share of the users, compared with what is in force.

    EXPERIMENT is an id or a name (of several, the newest that has not stopped), or `selection`, `prompt` or `interface`
    for the one of that kind under way; without it, the one under way. Nothing becomes the default by itself: `show`
    says what to set.
    """


@command.command("start", short_help="Start an experiment.")
@click.argument("name")
@click.option("--variant", default="", help="The variant's name, in the log and for interfaces. [default: variant]")
@click.option("--method", type=click.Choice(METHODS), help="How the answer is chosen.")
@click.option("--temperature", type=float, help="Softmax temperature of `weighted`.")
@click.option("--exploration", type=float, help="Share of requests whose answer is sampled by its reward.")
@click.option("--ensemble-weight", type=float, help="Weight of the reward beside the rules, in `ensemble`.")
@click.option("--candidates", type=int, help="Candidates drawn.")
@click.option("--minimum-reward", type=float, help="Reward below which no candidate passes.")
@click.option("--instructions", help="What the policy model is told first; @FILE reads a file.")
@click.option("--interface", is_flag=True, help="The caller shows the variant; replies name it.")
@click.option("--share", type=Percentage(0.1, 90), help="Percent of users who get it. [default: 10]")
@click.option("--gain", type=float, help="Rise of satisfaction asked for, such as 0.05.")
@click.option("--margin", type=float, help="Fall of satisfaction and quality that still counts as no worse.")
@click.option("--slower", type=float, help="Rise of latency at most.")
@click.option("--longest-days", type=float, help="Days after which it stops. [default: 28]")
@click.option("--salt", default="", help="Decides who is in which arm; one of its own when not given.")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--request-id", default="", help="Makes the call idempotent; one of its own when not given.")
@client.options
def start(name: str, address: str, timeout: float, as_json: bool, **given: Any) -> None:
    """Start the experiment NAME: by selection options, by --instructions, or by --interface.

    A request that names its own selection keeps its own. One experiment of each kind runs at a time.
    """
    request = _request(name, given)
    with client.channel(address, timeout) as channel:
        found = stub(channel).StartExperiment(request, timeout=timeout).experiment
    _show(found, as_json)


@command.command("list", short_help="List experiments, the newest first.")
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--active", is_flag=True, help="Only those that have not stopped.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many at most.")
@client.options
def list_(kind: str | None, active: bool, limit: int, address: str, timeout: float, as_json: bool) -> None:
    """List experiments, the newest first."""
    from ratchet.v1 import experiment_pb2 as pb

    request = pb.ListExperimentsRequest(page_size=limit, kind=_kind(kind), active_only=active)
    with client.channel(address, timeout) as channel:
        found = stub(channel).ListExperiments(request, timeout=timeout).experiments
    if as_json:
        output.as_json({"experiments": [output.as_object(each) for each in found]})
        return
    for each in found:
        output.console.print(line(each), soft_wrap=True)
    if not found:
        output.console.print("No experiment is under way." if active else "There are no experiments yet.")


@command.command("show", short_help="Show an experiment: its evidence and its audit.")
@_WHICH
@client.options
def show(experiment: str, address: str, timeout: float, as_json: bool) -> None:
    """Show an experiment: how it stands, criteria and guardrails one by one, safety reports, what to set, the audit."""
    from ratchet.v1 import experiment_pb2 as pb

    with client.channel(address, timeout) as channel:
        request = _of(pb.GetExperimentRequest, experiment_id=_id(channel, experiment, timeout))
        found = stub(channel).GetExperiment(request, timeout=timeout)
    if as_json:
        output.as_json(found)
    else:
        output.console.print(whole(found))


@command.command("stop", short_help="End it: everybody has what is in force, at once.")
@_WHICH
@click.option("--reason", default="", help="Why, for the audit.")
@client.options
def stop(experiment: str, reason: str, address: str, timeout: float, as_json: bool) -> None:
    """End an experiment: everybody has what is in force again, at once and without asking."""
    from ratchet.v1 import experiment_pb2 as pb

    with client.channel(address, timeout) as channel:
        which = _id(channel, experiment, timeout)
        request = _of(pb.StopExperimentRequest, experiment_id=which, reason=reason)
        before = None if as_json else _whole(channel, which, timeout)
        found = stub(channel).StopExperiment(request, timeout=timeout).experiment
        _show(found, as_json)
        if before is not None and before.experiment.version == found.version:
            output.console.print("Nothing changed: it had stopped already.")
        if not as_json and (seen := _whole(channel, which, timeout)) is not None:
            output.console.print(f"It came to: {outcome(seen)}", soft_wrap=True)


@command.command("report", short_help="Decide on a safety report on the variant's replies.")
@click.argument("experiment")
@click.argument("feedback")
@click.option("--confirm/--dismiss", "confirmed", required=True, default=None, help="Whether the reply was unsafe.")
@click.option("--tenant", default="", help="Of the report's user. [default: your key's]")
@click.option("--note", default="", help="Why.")
@client.options
def report(
    experiment: str,
    feedback: str,
    confirmed: bool,
    tenant: str,
    note: str,
    address: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Decide on the safety report FEEDBACK, which `show` lists.

    Confirmed, the experiment stops; once none waits any more, one that was held goes on. Deciding again replaces it.
    """
    from ratchet.v1 import experiment_pb2 as pb

    with client.channel(address, timeout) as channel:
        request = _of(
            pb.DecideExperimentReportRequest,
            experiment_id=_id(channel, experiment, timeout),
            feedback_id=feedback,
            tenant_id=tenant,
            confirmed=confirmed,
            note=note,
        )
        found = stub(channel).DecideExperimentReport(request, timeout=timeout).report
    if as_json:
        output.as_json(found)
    else:
        output.console.print(report_line(found), soft_wrap=True)


def stub(channel: grpc.Channel) -> "experiment_pb2_grpc.ExperimentServiceStub":
    """Of the server at the channel's other end."""
    from ratchet.v1 import experiment_pb2_grpc

    return experiment_pb2_grpc.ExperimentServiceStub(channel)


def _request(name: str, given: dict[str, Any]) -> "pb.StartExperimentRequest":
    from ratchet.v1 import experiment_pb2 as pb

    request = _of(
        pb.StartExperimentRequest,
        name=name,
        reason=given["reason"],
        salt=given["salt"],
        request_id=given["request_id"] or str(uuid.uuid4()),
        variant=_variant(given),
    )
    if given["share"] is not None:
        request.share = given["share"]
    if given["longest_days"] is not None:
        request.longest_seconds = given["longest_days"] * 86_400
    for goal in _GOALS:
        if given[goal] is not None:
            setattr(request.goals, goal, given[goal])
    return request


def _variant(given: dict[str, Any]) -> "pb.ExperimentVariant":
    """Raises UsageError unless it is of exactly one kind."""
    from ratchet.v1 import experiment_pb2 as pb
    from ratchet.v1 import inference_pb2

    selection = {each: given[each] for each in _SELECTION if given[each] is not None}
    if given["method"]:
        selection["method"] = inference_pb2.SelectionMethod.Value(f"SELECTION_METHOD_{given['method'].upper()}")
    said = sum((bool(selection), given["instructions"] is not None, given["interface"]))
    what = "selection options, --instructions, or --interface"
    if said != 1:
        raise click.UsageError(f"say one of them only: {what}" if said else f"say what to try: {what}")
    if selection:
        return _of(pb.ExperimentVariant, name=given["variant"], selection=_of(pb.SelectionVariant, **selection))
    if given["interface"]:
        return _of(pb.ExperimentVariant, name=given["variant"], interface=pb.InterfaceVariant())
    prompt = _of(pb.PromptVariant, instructions=_text(given["instructions"]))
    return _of(pb.ExperimentVariant, name=given["variant"], prompt=prompt)


def _text(given: str) -> str:
    """The text itself, or the file's that @FILE names."""
    if not given.startswith("@"):
        return given
    try:
        with click.open_file(given[1:], encoding="utf-8") as file:
            return str(file.read()).strip()
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{given[1:]} can't be read: {error}.") from error


def _kind(kind: str | None) -> Any:
    from ratchet.v1 import experiment_pb2 as pb

    return pb.ExperimentKind.Value(f"EXPERIMENT_KIND_{kind.upper()}") if kind else pb.EXPERIMENT_KIND_UNSPECIFIED


def _of(message: Callable[..., T], **values: Any) -> T:
    try:
        return message(**values)
    except ValueError as error:  # text that is no valid UTF-8, numbers that are too large
        raise click.UsageError(str(error)) from error


def _id(channel: grpc.Channel, experiment: str, timeout: float) -> str:
    """The id of what EXPERIMENT names. Raises CommandFailed where that is none, or not one."""
    from ratchet.v1 import experiment_pb2 as pb

    if client.is_id(experiment):
        return experiment.lower()
    if experiment and experiment not in KINDS:
        return _named(channel, experiment, timeout)
    request = pb.ListExperimentsRequest(active_only=True, kind=_kind(experiment or None))
    found = stub(channel).ListExperiments(request, timeout=timeout).experiments
    if len(found) == 1:
        return str(found[0].experiment_id)
    if found:
        raise CommandFailed("Several experiments are under way: say which, `selection`, `prompt` or `interface`.")
    what = f"experiment of the kind {experiment}" if experiment else "experiment"
    raise CommandFailed(f"No {what} is under way; `ratchet experiment list` shows all.")


def _whole(channel: grpc.Channel, experiment_id: str, timeout: float) -> "pb.GetExperimentResponse | None":
    """All of one, to tell more with; None where it is not told soon, for a stop does not wait for it."""
    from ratchet.v1 import experiment_pb2 as pb

    try:
        request = pb.GetExperimentRequest(experiment_id=experiment_id)
        return stub(channel).GetExperiment(request, timeout=min(timeout, _SOON))
    except grpc.RpcError:
        return None


def _named(channel: grpc.Channel, name: str, timeout: float) -> str:
    """The id of the newest experiment of a name that has not stopped, else of the newest. Raises CommandFailed where no
    experiment has it."""
    from ratchet.v1 import experiment_pb2 as pb

    for active_only in (True, False):
        request = pb.ListExperimentsRequest(active_only=active_only, page_size=200)
        while True:
            reply = stub(channel).ListExperiments(request, timeout=timeout)
            if found := next((each for each in reply.experiments if each.name == name), None):
                return str(found.experiment_id)
            request.page_token = reply.next_page_token
            if not request.page_token:
                break
    raise CommandFailed(
        f"No experiment is called {name}: give an id or a name, as `ratchet experiment list` shows them, or"
        " `selection`, `prompt` or `interface` for the one of that kind under way."
    )


def _show(experiment: "pb.Experiment", as_json: bool) -> None:
    if as_json:
        output.as_json(experiment)
    else:
        output.console.print(line(experiment), soft_wrap=True)
