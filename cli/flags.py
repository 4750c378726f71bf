"""The server's settings as flags of a command."""

from collections.abc import Callable, Collection
from typing import Any

import click

from server import settings as configuration
from server.embedded.settings import CHECKOUT
from server.settings import Settings


def of_settings(without: Collection[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """One flag for each setting; what is not given is left to the environment and the defaults."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, field in reversed(Settings.model_fields.items()):
            if name in without:
                continue
            default = field.get_default(call_default_factory=True)
            shown = configuration.text_of(default).replace(str(CHECKOUT) + "/", "") or "none"
            text = f"{field.description} [{configuration.variable(name)}; default: {shown}]"
            command = click.option(f"--{name.replace('_', '-')}", name, help=text)(command)
        return command

    return add
