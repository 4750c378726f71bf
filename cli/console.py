"""`ratchet console`: the web console of a server that runs elsewhere, or without one of its own."""

from pathlib import Path

import click

from cli import client, output


@click.command("console")
@click.option(
    "--address",
    "--target",
    "target",
    default=client.DEFAULT_ADDRESS,
    show_default=True,
    envvar="RATCHET_ADDRESS",
    help="Where the server listens.",
)
@click.option(
    "--listen",
    default="127.0.0.1:8080",
    show_default=True,
    envvar="RATCHET_CONSOLE",
    help="HOST:PORT of the console; loopback only unless visitors sign in.",
)
@click.option(
    "--keys",
    type=click.Choice(("on", "off")),
    default="off",
    show_default=True,
    envvar="RATCHET_KEYS",
    help="on: every visitor signs in with an API key; off: all use RATCHET_API_KEY, if any.",
)
@click.option("--home", type=click.Path(path_type=Path), envvar="RATCHET_HOME", help="Directory of all state.")
@click.option("--json", "as_json", is_flag=True, help="Print the console's address as JSON.")
def command(target: str, listen: str, keys: str, home: Path | None, as_json: bool) -> None:
    """Serve the web console of a running server until Ctrl-C.

    `ratchet serve` starts one by itself. The key and TLS of the API come from RATCHET_API_KEY and RATCHET_TLS_...
    """
    from console import app
    from console.settings import Settings, SettingsError
    from server.embedded.settings import default_home

    try:
        settings = Settings.of_environment((home or default_home()).absolute(), target, listen, keys == "on")
        listening = app.listen(settings)
    except SettingsError as error:
        raise output.CommandFailed(str(error)) from error
    url = app.url_of(listening)
    if as_json:
        output.as_json({"console": url})
    else:
        output.console.print(f"[bold]Console on {url}[/], for the server at {target}. Ctrl-C stops.", soft_wrap=True)
    app.run(settings, listening)
