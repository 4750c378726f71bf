"""`ratchet user`: what is known of a user."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import click

from cli import client, output


@click.group("user", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show, change or erase what is known of a user."""


@command.command("get")
@click.argument("user")
@client.options
def get(user: str, address: str, timeout: float, as_json: bool) -> None:
    """Show the profile of USER."""
    from ratchet.v1 import user_pb2 as pb

    request = _checked(lambda: pb.GetProfileRequest(user_id=user))
    with client.channel(address, timeout) as channel:
        _show(_stub(channel).GetProfile(request, timeout=timeout).profile, as_json)


@command.command("set", short_help="Set attributes of a user; others stay.")
@click.argument("user")
@click.argument("attributes", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--remove", multiple=True, metavar="NAME", help="Remove this attribute; may be repeated.")
@click.option("--replace", is_flag=True, help="Remove all attributes that are not given.")
@click.option("--etag", default="", help="Refuse the change when the attributes are not those of this etag any more.")
@click.option("--request-id", default="", help="Makes the call idempotent.")
@client.options
def set_(
    user: str,
    attributes: tuple[str, ...],
    remove: tuple[str, ...],
    replace: bool,
    etag: str,
    request_id: str,
    address: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Set attributes of USER, such as language=vi; those that are not named stay."""
    from ratchet.v1 import user_pb2 as pb

    given = _pairs(attributes)
    if not (given or remove or replace):
        raise click.UsageError("nothing to do: give NAME=VALUE, --remove or --replace")
    request = _checked(
        lambda: pb.UpdateProfileRequest(
            user_id=user,
            attributes=given,
            remove_attributes=remove,
            replace_all=replace,
            etag=etag,
            request_id=request_id,
        )
    )
    with client.channel(address, timeout) as channel:
        _show(_stub(channel).UpdateProfile(request, timeout=timeout).profile, as_json)


@command.command("delete")
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@client.options
def delete(user: str, yes: bool, address: str, timeout: float, as_json: bool) -> None:
    """Erase the profile of USER, everything of it."""
    from ratchet.v1 import user_pb2 as pb

    request = _checked(lambda: pb.DeleteProfileRequest(user_id=user))
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is there to be asked: pass --yes to erase without being asked")
        click.confirm(f"Erase everything that is known of {user!r}?", abort=True, err=True)
    with client.channel(address, timeout) as channel:
        reply = _stub(channel).DeleteProfile(request, timeout=timeout)
    if as_json:
        output.as_json(reply)
    else:
        output.console.print("Erased." if reply.deleted else "There was nothing to erase.")


@command.command("erase", short_help="Erase a user everywhere, for good.")
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--exports",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Take the user out of the exports in DIR, too; may be repeated. Those in RATCHET_HOME/exports always are.",
)
@client.options
def erase(user: str, yes: bool, folders: tuple[Path, ...], address: str, timeout: float, as_json: bool) -> None:
    """Erase USER everywhere: profile, conversations, feedback, what waits on disk, and exports.

    Counts, scores and ratings stay, under a random pseudonym. Repeating the command goes on where it ended.
    """
    from ratchet.v1 import user_pb2 as pb

    request = _checked(lambda: pb.EraseUserRequest(user_id=user))
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is there to be asked: pass --yes to erase without being asked")
        click.confirm(f"Erase {user!r} everywhere? It can't be undone.", abort=True, err=True)
    with client.channel(address, timeout) as channel:
        reply = _stub(channel).EraseUser(request, timeout=timeout)
    _take_out_of_exports(reply, user, folders)
    if as_json:
        output.as_json(reply)
    else:
        _show_erased(reply)


def _take_out_of_exports(reply: Any, user: str, folders: Sequence[Path]) -> None:
    """Adds what became of the exports to the server's reply."""
    from cli import erasing, exporting

    until = reply.erase_time.ToDatetime(UTC)
    done = erasing.erase([exporting.folder(), *folders], user, until)
    reply.erased["exports"] = sum(done.rows.values())
    reply.pending.extend(done.pending)


def _show_erased(reply: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Erased", title_justify="left", box=None, show_header=False)
    for place, count in sorted(reply.erased.items()):
        table.add_row(Text(output.visible(place), style="bold"), Text(f"{count:,}", justify="right"))
    output.console.print(table)
    if reply.trained_releases:
        names = output.visible(", ".join(reply.trained_releases))
        output.console.print(Text(f"Learned from the user's data before, and unchanged: {names}", style="yellow"))
    for each in reply.pending:
        output.console.print(Text(f"Still to come: {output.visible(each)}", style="yellow"))


def _stub(channel: Any) -> Any:
    from ratchet.v1 import user_pb2_grpc

    return user_pb2_grpc.UserServiceStub(channel)


def _checked(make: Callable[[], Any]) -> Any:
    """The request; text that is no valid UTF-8 is the caller's mistake."""
    try:
        return make()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise click.UsageError(f"{each!r} is no NAME=VALUE")
        pairs[name.strip()] = value
    return pairs


def _show(profile: Any, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    if as_json:
        output.as_json(profile)
        return
    title = Text(f"Profile of {output.visible(profile.user_id)}")
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    for name, value in sorted(profile.attributes.items()):
        table.add_row(Text(name, style="bold"), Text(output.visible(value)))
    learned = f"weight {profile.preference_weight:g}, in the space of {output.visible(profile.embedding_model)}"
    preference = Text(learned if profile.preference_weight else "nothing learned yet")
    table.add_row(Text("preference", style="dim"), preference)
    table.add_row(Text("etag", style="dim"), profile.etag)
    table.add_row(Text("updated", style="dim"), profile.update_time.ToDatetime().isoformat(" ", "seconds") + " UTC")
    output.console.print(table)
