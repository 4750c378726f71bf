"""`ratchet replay`: logged requests, answered again with another release or other settings, and compared."""

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import click

from cli import flags, models, output
from server import settings as configuration
from server.tools.settings import ToolSettings

if TYPE_CHECKING:  # help must not wait for them
    from cli.replay_report import Report
    from server.replay.request import Changes
    from server.storage.history import Filter

NOT_OF_REPLAYS = (
    *("listen", "metrics", "processes", "max_deadline", "lame_duck", "drain", "max_in_flight", "sample_data"),
    *(
        "spool",
        "spool_dir",
        "spool_size",
        "sample_query",
        "training_minimum",
        "rollout_new",
        "triton_urls",
        "memory_turns",
        "memory_tokens",
        "memory_ttl",
    ),
    *("memory_budget", "profile_budget"),
)
"""Settings that no replay hangs on."""
OF_DRAWING = (
    *("policy", "policy_layout", "presets", "candidates", "max_output_tokens", "quorum", "patience", "policy_wait"),
    *("early_stop", "first_wave", "regenerate", "instructions"),
)
"""Settings that nothing hangs on where nothing is drawn."""
DEFAULT_LAST = 100
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which replies: these ids, else those that the filter finds."""

    ids: tuple[UUID, ...]
    found_by: "Filter"


@click.command("replay")
@click.argument("response_ids", nargs=-1, type=click.UUID, metavar="[RESPONSE_ID]...")
@click.option("--last", type=click.IntRange(1, MOST), help=f"The newest so many replies. [default: {DEFAULT_LAST}]")
@click.option("--user", help="Only replies to this user.")
@click.option("--session", help="Only replies of this session.")
@click.option(
    "--tenant", default="default", show_default=True, help="Only replies of this tenant; ids are found in all."
)
@click.option(
    "--rescore", is_flag=True, help="Draw nothing: score, check and choose among the logged candidates again."
)
@click.option("--run-tools", is_flag=True, help="Run the tools again instead of taking the logged evidence.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Another seed than the logged one.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=2, show_default=True, help="Replays at a time.")
@click.option("-v", "--verbose", is_flag=True, help="Show every replay side by side, with its candidates.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a replay, and the summary as the last.")
@flags.of_settings(without=NOT_OF_REPLAYS)
def command(
    response_ids: tuple[UUID, ...],
    last: int | None,
    user: str | None,
    session: str | None,
    tenant: str,
    rescore: bool,
    run_tools: bool,
    seed: int | None,
    concurrency: int,
    verbose: bool,
    as_json: bool,
    **given: str | None,
) -> None:
    """Answer logged requests again, with another release or other settings, and compare.

    Names the replies by RESPONSE_ID, or takes the newest with --last. What a flag below names is changed; the rest is
    as the log has it: the conversation, the profile, the evidence, the seed, the releases, the settings that chose.
    Nothing is logged, remembered or learned. Exits with 1 when a request could not be replayed.
    """
    from cli.replay_report import JsonReport, PeopleReport
    from server.replay.request import Changes
    from server.storage.history import Filter

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    named = {name for name, value in given.items() if value is not None}
    _require_effect(named, rescore=rescore, run_tools=run_tools)
    if response_ids and (last or user is not None or session is not None):
        raise click.UsageError("name replies, or choose them by --last, --user and --session, not both")
    if not response_ids and last is None and user is None and session is None:
        raise click.UsageError("name the replies to replay, or choose them: --last 20")
    wanted = Wanted(tuple(dict.fromkeys(response_ids)), Filter(tenant, last or DEFAULT_LAST, user, session))
    many = not response_ids or len(wanted.ids) > 1
    with output.failures_as_sentences():
        report: Report = JsonReport() if as_json else PeopleReport(many=many, verbose=verbose, rescored=rescore)
        with report:
            settings = models.resolve(configuration.load(given), report.event)
            changes = Changes(settings, frozenset(named), seed, rescore, run_tools)
            status = asyncio.run(_until_told_to_stop(wanted, changes, concurrency, report))
    if status:
        sys.exit(status)


def _require_effect(named: set[str], *, rescore: bool, run_tools: bool) -> None:
    """Refuses flags that would change nothing."""
    if rescore and run_tools:
        raise click.UsageError(
            "--rescore judges the logged candidates: tools can't change them, so leave --run-tools out"
        )
    idle: Mapping[str, Sequence[str]] = {
        "--rescore draws nothing": OF_DRAWING if rescore else (),
        "without --run-tools the evidence is the logged one": () if run_tools else tuple(ToolSettings.model_fields),
    }
    for why, names in idle.items():
        for name in names:
            if name in named:
                raise click.UsageError(f"{why}: --{name.replace('_', '-')} has no effect")


async def _until_told_to_stop(wanted: Wanted, changes: "Changes", concurrency: int, report: "Report") -> int:
    """The exit status. Ctrl-C and SIGTERM end it in order, so that no model stays loaded and no part running."""
    task = asyncio.ensure_future(_replay(wanted, changes, concurrency, report))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        return await task
    return 130


async def _replay(wanted: Wanted, changes: "Changes", concurrency: int, report: "Report") -> int:
    from server.replay.parts import opened
    from server.replay.replayer import Replayer

    async with opened(changes, report.event) as parts:
        if wanted.ids:
            places, lost = await parts.history.named(wanted.ids)
        else:
            places, lost = await parts.history.newest(wanted.found_by), {}
        for response_id, error in lost.items():
            report.lost(response_id, error)
        if not places and not lost:
            raise output.CommandFailed("The log has no such replies.")
        if places:
            await parts.prepare()
        report.begin(len(places))
        try:
            async with aclosing(Replayer(parts, changes).run(places, concurrency)) as results:
                async for each in results:
                    report.one(each)
        finally:  # told to stop: a summary of what there is
            failed = report.finish()
    return 1 if failed else 0
