"""`ratchet analytics`: the live figures."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from cli import client, output, streams

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_GRANULARITIES = ("minute", "hour", "day")


class Stretch(click.ParamType[int]):
    """A length of time such as 90s, 30m, 6h or 14d, in whole seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See ParamType."""
        found = re.fullmatch(r"(\d{1,9})([smhd]?)", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no length of time: write 90s, 30m, 6h or 14d.", param, ctx)
        return int(found[1]) * _UNITS[found[2] or "s"]


def window_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which figures."""
    for option in (
        click.option("--release", default="", help="Only of this policy or reward release."),
        click.option(
            "--by", type=click.Choice(_GRANULARITIES), help="Length of one point; else chosen by the window's."
        ),
        click.option("--window", type=Stretch(), default="1h", show_default=True, help="How far back: 30m, 6h, 14d."),
    ):
        command = option(command)
    return command


@click.group("analytics", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show the live figures: replies, latency, scores, ratings, by release and over time."""


@command.command("show")
@window_options
@client.options
def show(window: int, by: str | None, release: str, address: str, timeout: float, as_json: bool) -> None:
    """Show the figures of the last hour, or of another time."""
    from cli.figures import printed
    from ratchet.v1 import analytics_pb2 as pb

    request = _request(pb.GetMetricsRequest, window, by, release)
    with client.channel(address, timeout) as channel:
        found = _stub(channel).GetMetrics(request, timeout=timeout)
    if as_json:
        output.as_json(found)
    else:
        output.console.print(printed(found, release))


@command.command("watch")
@window_options
@click.option("--interval", type=click.FloatRange(0.2, 60), default=2.0, show_default=True, help="Seconds.")
@client.options
def watch(
    window: int, by: str | None, release: str, interval: float, address: str, timeout: float, as_json: bool
) -> None:
    """Show the figures live, until Ctrl-C; --timeout is for the first ones."""
    from ratchet.v1 import analytics_pb2 as pb

    request = _request(pb.WatchMetricsRequest, window, by, release)
    request.interval.FromNanoseconds(int(interval * 1e9))
    with client.channel(address, timeout) as channel:
        stub = _stub(channel)
        # The stream has no deadline, so that it can go on: a call with one asks first whether anyone answers.
        stub.GetMetrics(_request(pb.GetMetricsRequest, window, by, release), timeout=timeout)
        with streams.messages(stub.WatchMetrics(request)) as messages:
            _follow((each.metrics for each in messages), release, as_json)


@command.command("rebuild")
@client.options
def rebuild(address: str, timeout: float, as_json: bool) -> None:
    """Make the counters again from the log. What is in service stays until that is done, in one step.

    It goes on in the server when the time is over; asking again then waits for the same rebuild.
    """
    from ratchet.v1 import analytics_pb2 as pb

    began = time.perf_counter()
    with client.channel(address, timeout) as channel, _waiting("Counting the log again", as_json):
        done = _stub(channel).RebuildMetrics(pb.RebuildMetricsRequest(), timeout=timeout)
    if as_json:
        output.as_json(done)
        return
    seconds = done.duration.ToNanoseconds() / 1e9 or time.perf_counter() - began
    output.console.print(f"Counted {done.replies:,} replies and {done.revisions:,} revisions in {seconds:.1f} s.")


def _request(kind: Any, window: int, by: str | None, release: str) -> Any:
    from google.protobuf.duration_pb2 import Duration

    try:
        return kind(
            window=Duration(seconds=window),
            granularity=f"GRANULARITY_{by.upper()}" if by else "GRANULARITY_UNSPECIFIED",
            release=release,
        )
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error


def _stub(channel: Any) -> Any:
    from ratchet.v1 import analytics_pb2_grpc

    return analytics_pb2_grpc.AnalyticsServiceStub(channel)


def _follow(stream: Iterator[Any], release: str, as_json: bool) -> None:
    from rich.live import Live

    from cli.figures import printed

    if as_json or not output.console.is_terminal:
        for found in stream:
            output.as_json(found)
        return
    with Live(console=output.console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        for found in stream:
            live.update(printed(found, release), refresh=True)


def _waiting(text: str, as_json: bool) -> Any:
    """A sign of life on a terminal."""
    from contextlib import nullcontext

    return nullcontext() if as_json or not output.stderr.is_terminal else output.stderr.status(text)
