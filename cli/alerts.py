"""`ratchet alerts`: what needs a person's eye."""

from typing import TYPE_CHECKING, Any

import click
import grpc

from cli import client, output, streams

if TYPE_CHECKING:
    from ratchet.v1 import alert_pb2 as pb
    from ratchet.v1 import alert_pb2_grpc

_STATES = ("firing", "resolved")
_STYLES = {"firing": "bold red", "resolved": "green"}


@click.group("alerts", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """What needs a person's eye: alerts, and the rules that raise them."""


@command.command("list", short_help="List alerts, those that fire first.")
@click.option("--state", type=click.Choice(_STATES), help="Only those that stand so.")
@click.option("--rule", default="", help="Only of this rule, such as rating_low.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@client.options
def list_(state: str | None, rule: str, limit: int, address: str, timeout: float, as_json: bool) -> None:
    """List alerts: those that fire first, then the newest."""
    from ratchet.v1 import alert_pb2 as pb

    wanted = pb.AlertState.Value(f"ALERT_STATE_{state.upper()}") if state else pb.ALERT_STATE_UNSPECIFIED
    try:
        request = pb.ListAlertsRequest(state=wanted, rule=rule)
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error
    with client.channel(address, timeout) as channel:
        found = _listed(_stub(channel), request, limit, timeout)
    if as_json:
        output.as_json({"alerts": [output.as_object(alert) for alert in found]})
        return
    for alert in found:
        _show(alert)
    if not found:
        output.console.print("There are no alerts.")


@command.command("watch", short_help="Print alerts as they change, until Ctrl-C.")
@client.options
def watch(address: str, timeout: float, as_json: bool) -> None:
    """Print the alerts that fire, then each change, until Ctrl-C; with --json a line each.

    --timeout does not apply: it watches for as long as the server answers.
    """
    from ratchet.v1 import alert_pb2 as pb

    with (
        client.channel(address, timeout) as channel,
        streams.messages(_stub(channel).WatchAlerts(pb.WatchAlertsRequest(), wait_for_ready=False)) as messages,
    ):
        quiet = True
        for message in messages:
            if as_json:
                output.as_json(message)
            elif message.HasField("alert"):
                quiet = False
                _show(message.alert)
            elif quiet:
                output.stderr.print("No alert fires. Watching…", style="dim")


@command.command("ack", short_help="Say that you look after an alert.")
@click.argument("alert")
@click.option("--note", default="", help="What there is to say.")
@click.option("--as", "actor", default="", envvar="USER", help="Who you are; with an API key, its name is taken.")
@client.options
def ack(alert: str, note: str, actor: str, address: str, timeout: float, as_json: bool) -> None:
    """Acknowledge ALERT, by the id that `ratchet alerts list` shows. That resolves a safety report."""
    from ratchet.v1 import alert_pb2 as pb

    try:
        request = pb.AcknowledgeAlertRequest(alert_id=alert, actor=actor, note=note)
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error
    with client.channel(address, timeout) as channel:
        found = _stub(channel).AcknowledgeAlert(request, timeout=timeout).alert
    if as_json:
        output.as_json(found)
    else:
        _show(found)


@command.command("rules", short_help="Show the rules and how each stands.")
@client.options
def rules(address: str, timeout: float, as_json: bool) -> None:
    """Show the rules: when each fires and clears, and the present value."""
    from ratchet.v1 import alert_pb2 as pb

    with client.channel(address, timeout) as channel:
        reply = _stub(channel).ListAlertRules(pb.ListAlertRulesRequest(), timeout=timeout)
    if as_json:
        output.as_json(reply)
        return
    for rule in reply.rules:
        _show_rule(rule)


def _stub(channel: grpc.Channel) -> "alert_pb2_grpc.AlertServiceStub":
    from ratchet.v1 import alert_pb2_grpc

    return alert_pb2_grpc.AlertServiceStub(channel)


def _listed(
    stub: "alert_pb2_grpc.AlertServiceStub", request: "pb.ListAlertsRequest", limit: int, timeout: float
) -> "list[pb.Alert]":
    found: list[pb.Alert] = []
    while len(found) < limit:
        request.page_size = min(limit - len(found), 1000)
        reply = stub.ListAlerts(request, timeout=timeout)
        found.extend(reply.alerts)
        request.page_token = reply.next_page_token
        if not request.page_token:
            break
    return found


def _show(alert: "pb.Alert") -> None:
    """Its id has a line of its own, which nothing cuts, so that it can be copied."""
    from rich.text import Text

    from ratchet.v1 import alert_pb2 as pb

    state = pb.AlertState.Name(alert.state).removeprefix("ALERT_STATE_").lower()
    severity = pb.AlertSeverity.Name(alert.severity).removeprefix("ALERT_SEVERITY_").lower()
    lines = Text.assemble(
        (f"{state:<9}", _STYLES.get(state, "")),
        (f"{alert.rule} ", "bold"),
        f"{output.visible(alert.subject)}  ",
        (f"{severity}, since {_moment(alert.fire_time)}", "dim"),
    )
    lines.append(f"\n  {output.visible(alert.reason)}")
    if alert.HasField("resolve_time"):
        lines.append(f"\n  resolved {_moment(alert.resolve_time)}", style="dim")
    if alert.HasField("acknowledge_time"):
        who = output.visible(alert.acknowledged_by) or "somebody"
        note = f": {output.visible(alert.note)}" if alert.note else ""
        lines.append(f"\n  acknowledged by {who}, {_moment(alert.acknowledge_time)}{note}", style="dim")
    lines.append(f"\n  {alert.alert_id}  {output.visible(alert.link)}", style="dim")
    output.console.print(lines, soft_wrap=True)


def _show_rule(rule: "pb.AlertRule") -> None:
    from rich.text import Text

    way = "below" if rule.threshold < rule.clear_threshold else "above"
    levels = f"fires {way} {rule.threshold:g}"
    if rule.window_seconds:
        levels += f" for {rule.fire_seconds:g} s, clears at {rule.clear_threshold:g} for {rule.clear_seconds:g} s"
        levels += f"; {rule.minimum_samples:,} samples in {rule.window_seconds:g} s"
    else:
        levels = "fires at the first one, an acknowledgement resolves it"
    present = "too few samples"
    if rule.HasField("value"):
        present = f"now {rule.value:.3g} ({output.visible(rule.subject)}, {rule.sample_count:,} samples)"
    lines = Text.assemble((rule.rule, "bold"), f"  {output.visible(rule.description)}", (f"\n  {levels}", "dim"))
    if rule.window_seconds:
        lines.append(f"\n  {present}")
    output.console.print(lines, soft_wrap=True)


def _moment(time: Any) -> str:
    return str(time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S UTC"))
