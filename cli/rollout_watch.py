"""`ratchet rollout watch`: a rollout as it goes, drawn live in a terminal, a line a change elsewhere."""

import math
import re
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import grpc
from rich.live import Live
from rich.text import Text

from cli import output, streams
from cli.rollout_view import View, event_line, line, now, state_of

if TYPE_CHECKING:
    from ratchet.v1 import rollout_pb2 as pb
    from ratchet.v1 import rollout_pb2_grpc

ROLLED_BACK, FAILED = 3, 4
"""Exit statuses: 1 and 2 are those of a command that failed itself."""
PATIENCE, AGAIN = 300.0, 1.0
"""Seconds that a server may be away for in a watch, and between two tries."""
AWAY = "The server is away; trying again…"
_FIGURES = re.compile(r"\d[\d.,]*+(?! of \d+ replica)(?: (?:s|min|h|days)\b)?")
"""What grows while a rollout waits for the same thing: times, samples, percentages; not how many replicas are ready."""


def follow(stub: "rollout_pb2_grpc.RolloutServiceStub", rollout_id: str, *, as_json: bool) -> int:
    """Shows a rollout until it ends; gives the exit status. A server that goes away meanwhile is waited for."""
    state, told = "", 0
    with _shown(as_json) as show, closing(_messages(stub, rollout_id)) as messages:
        for message in messages:
            if message is None:
                show.away()
                continue
            state = state_of(message.rollout.state)
            new = [event for event in message.events if event.version > told]
            told = max([told, *(event.version for event in new)])
            show.take(message, new)
    return {"rolled back": ROLLED_BACK, "failed": FAILED}.get(state, 0)


def _messages(
    stub: "rollout_pb2_grpc.RolloutServiceStub", rollout_id: str
) -> "Generator[pb.WatchRolloutResponse | None, None, None]":
    """Of one watch after another; None each time that the server has gone away.

    Raises grpc.RpcError when a watch is refused, the first can't begin, or no server answers for PATIENCE.
    """
    from ratchet.v1 import rollout_pb2 as pb

    last = -math.inf
    while True:
        call = stub.WatchRollout(pb.WatchRolloutRequest(rollout_id=rollout_id), wait_for_ready=False)
        try:
            with streams.messages(call) as messages:
                for message in messages:
                    last = time.monotonic()
                    yield message
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() - last > PATIENCE:
                raise
        else:
            return
        yield None
        time.sleep(AGAIN)


class _Json:
    def take(self, message: "pb.WatchRolloutResponse", new: "list[pb.RolloutEvent]") -> None:
        output.as_json(message)

    def away(self) -> None:
        """Programs see that nothing comes."""


class _Lines:
    """What changed, on a line each. A reason to wait is told once, and not again when only its figures grow: time that
    passes is no change."""

    def __init__(self) -> None:
        self._reason, self._began, self._away = "", False, False

    def take(self, message: "pb.WatchRolloutResponse", new: "list[pb.RolloutEvent]") -> None:
        if not self._began:
            output.console.print(line(message.rollout), soft_wrap=True)
        self._began, self._away = True, False
        for event in new:
            output.console.print(event_line(event, message.rollout.plan), soft_wrap=True)
        reason = now(message.look) if message.look.version == message.rollout.version else ""  # not of the step before
        same = _FIGURES.sub("", reason)
        if same and same != self._reason:
            output.console.print(Text(f"  {output.visible(reason)}", style="dim"), soft_wrap=True)
        self._reason = same

    def away(self) -> None:
        if not self._away:
            output.stderr.print(AWAY, style="dim")
        self._away = True


class _Drawn:
    def __init__(self, view: View) -> None:
        self._view = view

    def take(self, message: "pb.WatchRolloutResponse", new: "list[pb.RolloutEvent]") -> None:
        self._view.take(message.rollout, message.look if message.HasField("look") else None, new)

    def away(self) -> None:
        self._view.note = AWAY


@contextmanager
def _shown(as_json: bool) -> "Iterator[_Json | _Lines | _Drawn]":
    if as_json:
        yield _Json()
    elif not output.console.is_terminal:
        yield _Lines()
    else:
        view = View(fits=True)
        with Live(view, console=output.console, refresh_per_second=4):
            yield _Drawn(view)
