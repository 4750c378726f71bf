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
    "score": ("cli.score", "Score responses with the reward model in service, or a file with any release."),
    "feedback": ("cli.feedback", "Rate replies, withdraw and list feedback."),
    "logs": ("cli.logs", "Search the log of replies, show one whole, export them."),
    "replay": ("cli.replay", "Answer logged requests again with another release or other settings, and compare."),
    "docs": ("cli.docs", "Add, list and delete the documents that answers may rest on."),
    "console": ("cli.console", "Serve the web console of a running server."),
    "user": ("cli.user", "Show, change or erase what is known of a user."),
    "keys": ("cli.keys", "Make, list and revoke API keys: who may call, and what."),
    "analytics": ("cli.analytics", "Show the live figures: replies, latency, scores, ratings, by release."),
    "train": ("cli.train", "Train a better reward model; start, list, show, watch and cancel runs."),
    "trainer": (
        "cli.trainer",
        "Train by itself, beside a server: at enough new feedback, daily, weekly, or when asked.",
    ),
    "report": ("cli.training_report", "Show the report of a training run."),
    "export": ("cli.conversion", "Make a release of a Hugging Face model: reward, policy, embedding or classifier."),
    "publish": ("cli.publish", "Put a release where Triton loads it from, so that it can be rolled out."),
    "releases": ("cli.releases", "List releases: what was published, what serves; show one with its lineage."),
    "rollout": ("cli.rollout", "Roll a release out: start, watch, pause, resume, promote, roll back."),
    "experiment": ("cli.experiment", "Try settings, instructions or an interface on a share of the users."),
    "alerts": ("cli.alerts", "List, watch and acknowledge alerts; show the rules that raise them."),
    "simulate": ("cli.simulate", "Let simulated users ask a running server and rate its answers."),
    "review": ("cli.review", "List the replies that people are asked to judge for training, and judge them."),
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
