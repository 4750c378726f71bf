"""What `ratchet serve` prints while it starts, runs and stops. Serving goes on when nobody reads it any more."""

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.table import Table
from rich.text import Text

from cli import client, output

if TYPE_CHECKING:
    from server.launcher import Started
    from server.settings import Settings

NEXT_QUERY = "Can I exchange my backpack for another size?"
"""What people are invited to ask: one that the starter models know."""


class Printer(Protocol):
    """Somewhere for events and the result of starting."""

    def __enter__(self) -> Self:
        """Begins showing progress."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it."""

    def event(self, line: str) -> None:
        """One thing that happened."""

    def started(self, settings: "Settings", started: "Started") -> None:
        """Everything runs."""


class PeoplePrinter:
    """For a terminal: a spinner with the latest event while starting, then the sample query's answer."""

    def __init__(self) -> None:
        self._status = output.stderr.status("starting")
        self._up = False

    def __enter__(self) -> Self:
        """Starts the spinner, where there is a terminal to show it."""
        if output.stderr.is_terminal:
            with output.whoever_listens():
                self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the spinner."""
        with output.whoever_listens():
            self._status.stop()

    @output.whoever_listens()
    def event(self, line: str) -> None:
        """Shown by the spinner while starting; printed once everything runs, or where there is no terminal."""
        shown = Text(output.visible(line), style="dim")
        self._status.update(shown)
        if self._up or not output.stderr.is_terminal:
            output.stderr.print(shown, soft_wrap=True)

    @output.whoever_listens()
    def started(self, settings: "Settings", started: "Started") -> None:
        """The parts, the sample query with its candidates, and where to call."""
        from cli.reply import panel
        from server.rpc.messages import response_of

        self._status.stop()
        self._up = True
        table = Table(box=None, show_header=False, pad_edge=False)
        for part in started.parts:
            name = Text.assemble(("● ", "green"), part.name)
            table.add_row(name, part.version or "", Text(part.address, style="dim", overflow="fold"))
        output.console.print(table)
        output.console.print()
        output.console.print(panel(settings.sample_query, response_of(started.reply)))
        output.console.print()
        output.console.print(f"[bold]Serving gRPC on {started.address}[/] (health and reflection on)")
        if started.console:
            output.console.print(f"[bold]Console on {started.console}[/]")
        if started.metrics:
            output.console.print(f"Metrics on {started.metrics}")
        where = "" if started.address == client.DEFAULT_ADDRESS else f" --address {started.address}"
        again = f'[bold]./run ask "{NEXT_QUERY}"{where}[/]'
        output.console.print(f"Try {again} in another terminal. Ctrl-C stops.", soft_wrap=True)


class JsonPrinter:
    """For programs: one JSON document a line, `{"event": ...}` and then `{"serving": ..., "sample": ...}`."""

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""

    @output.whoever_listens()
    def event(self, line: str) -> None:
        """One line."""
        output.as_json({"event": line})

    @output.whoever_listens()
    def started(self, settings: "Settings", started: "Started") -> None:
        """Addresses, parts, and the reply to the sample query."""
        from server.rpc.messages import response_of

        parts = [{"name": part.name, "version": part.version, "address": part.address} for part in started.parts]
        sample = output.as_object(response_of(started.reply))
        where = {"serving": started.address, "metrics": started.metrics, "console": started.console}
        output.as_json({**where, "parts": parts, "sample": sample})
