"""`ratchet serve`: everything from one command."""

import asyncio
import contextlib
import logging
import signal

import click

from cli import flags, models, output
from cli.progress import JsonPrinter, PeoplePrinter, Printer
from server import logs
from server import settings as configuration
from server.notice import StopNotice
from server.settings import Settings


@click.command("serve")
@flags.of_settings()
@click.option("--json", "as_json", is_flag=True, help="Print events, and the reply to the sample query, as JSON lines.")
def command(as_json: bool, **given: str | None) -> None:
    """Start everything, answer a sample query, and serve until Ctrl-C.

    Postgres, Valkey and Triton are started as children under the home directory unless their URLs are given.
    """
    import uvloop

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logs.quieten()
    printer: Printer = JsonPrinter() if as_json else PeoplePrinter()
    with output.failures_as_sentences(), contextlib.ExitStack() as resources, printer:
        settings = configuration.load(given)
        if settings.processes > 1:
            from server import scrape

            resources.enter_context(scrape.shared(settings.home / "run" / "metrics"))
        settings = models.resolve(settings, printer.event)
        uvloop.run(_serve(settings, printer))


async def _serve(settings: Settings, printer: Printer) -> None:
    from server.launcher import Launcher

    notice = StopNotice()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, notice.give)
    launcher = Launcher(settings, printer.event, notice)
    try:
        started = await notice.interrupts(launcher.start())
        if started is not None:
            printer.started(settings, started)
            await notice.given.wait()
        printer.event("stopping: calls under way are finished first; Ctrl-C again stops at once")
    finally:
        await launcher.stop()
