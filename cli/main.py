"""The `ratchet` command: a group whose subcommands are imported only when they run."""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": ("cli.serve", "Start everything, answer a sample query, and serve until Ctrl-C."),
    "ask": ("cli.ask", "Ask a running server; show the candidates, their scores and the answer."),
    "score": ("cli.score", "Score responses to a query with the reward model in service."),
    "doctor": ("cli.doctor", "Show what runs, versions, ports and settings, and what is wrong."),
}
"""Where each subcommand lives (attribute `command`) and its line in the help."""


class LazyGroup(click.Group):
    """Knows its subcommands' names and help lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one subcommand."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help's list of subcommands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="ratchet", message="ratchet %(version)s")
def ratchet() -> None:
    """Best-of-N inference with human feedback, on NVIDIA Triton."""


def main(arguments: list[str] | None = None) -> Any:
    """Runs the command; a failure that Ratchet itself reports is one sentence on stderr and exit status 1."""
    # We start programs and never fork: grpc, which reads this when it is imported, would warn of it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        ratchet.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
