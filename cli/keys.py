"""`ratchet keys`: who may call. Works on the database itself, so that a first key can be made."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli import output
from server.identity import DEFAULT_TENANT, Role

if TYPE_CHECKING:
    from server.storage.api_keys import ApiKey, PostgresKeys

T = TypeVar("T")

OWN_TENANT = "ratchet"
"""The tenant of the server's own sample queries."""
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")  # bytes that are no UTF-8 come as surrogates
_DURATION = re.compile(r"([1-9][0-9]{0,2})([hdwy])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}


class Expiry(click.ParamType[datetime]):
    """A time from now, such as 90d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """See ParamType."""
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no time from now: write 12h, 90d, 8w or 1y.", param, ctx)
        return datetime.now(UTC) + timedelta(hours=int(found[1]) * _HOURS[found[2]])


class Line(click.ParamType[str]):
    """One line of at most 128 characters."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See ParamType."""
        if not _LINE.fullmatch(value):
            self.fail("must be one line of 1 to 128 characters.", param, ctx)
        return str(value)


class Tenant(click.ParamType[str]):
    """The name of a tenant."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See ParamType."""
        if not _TENANT.fullmatch(value):
            self.fail("must be up to 64 letters, digits, dots, dashes and underscores.", param, ctx)
        if value == OWN_TENANT:
            self.fail(f"{OWN_TENANT!r} is the tenant of Ratchet's own sample queries.", param, ctx)
        return str(value)


@click.group("keys", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """API keys: make, list and revoke them. Uses the database of RATCHET_HOME's server, or DATABASE_URL."""


@command.command("add", short_help="Make a key; it is shown once.")
@click.option("--name", type=Line(), required=True, help="Whose it is, for people.")
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in Role]),
    multiple=True,
    required=True,
    help="What it may do; may be given again.",
)
@click.option("--tenant", type=Tenant(), default=DEFAULT_TENANT, show_default=True, help="Whose data it reaches.")
@click.option("--user", type=Line(), help="The only user that it acts for, with the roles caller and rater.")
@click.option("--expires", type=Expiry(), help="When it ends, from now: 12h, 90d, 8w, 1y.  [default: never]")
@click.option("--json", "as_json", is_flag=True, help="Print the key as one JSON document.")
def add(
    name: str, roles: tuple[str, ...], tenant: str, user: str | None, expires: datetime | None, as_json: bool
) -> None:
    """Make a key and show it, this once: only its SHA-256 is kept."""
    from server.keyring import issue

    wanted = [Role(role) for role in roles]
    if user and not {Role.CALLER, Role.RATER}.issuperset(wanted):
        raise click.UsageError("a key of one user can have the roles caller and rater only")
    key, text = issue(tenant, name, wanted, user or "", expires)
    _with_keys(lambda keys: keys.add(key))
    if as_json:
        output.as_json({"key": text, **_object(key)})
        return
    output.stderr.print(
        f"Key {key.key_id} for {_rights(key)}. It is shown this once: keep it where secrets are kept.", soft_wrap=True
    )
    output.console.print(text, soft_wrap=True)


@command.command("list", short_help="List the keys, without their secrets.")
@click.option("--tenant", type=Line(), help="Only the keys of this tenant.")
@click.option("--all", "everything", is_flag=True, help="Also those that were revoked or have expired.")
@click.option("--json", "as_json", is_flag=True, help="Print the keys as one JSON document.")
def list_(tenant: str | None, everything: bool, as_json: bool) -> None:
    """List the keys that work, the oldest first; their secrets are nowhere."""
    found = _with_keys(lambda keys: keys.all(tenant))
    shown = [key for key in found if everything or _state(key) == "works"]
    if as_json:
        output.as_json({"keys": [_object(key) for key in shown]})
    elif shown:
        _print(shown)
    else:
        output.console.print("There are no such keys: make one with `ratchet keys add`.")


@command.command("revoke", short_help="Let a key work no more.")
@click.argument("key_id", type=Line())
@click.option("--json", "as_json", is_flag=True, help="Print the key as one JSON document.")
def revoke(key_id: str, as_json: bool) -> None:
    """Let the key KEY_ID, as `ratchet keys list` shows it, work no more. Servers refuse it within seconds."""
    from server.keyring import key_id_of

    key = _with_keys(lambda keys: keys.revoke(key_id_of(key_id)))
    if key is None:
        raise output.CommandFailed(f"There is no key {key_id_of(key_id)!r}: `ratchet keys list` shows their ids.")
    if as_json:
        output.as_json(_object(key))
    else:
        output.console.print(f"Revoked: {key.key_id}, {output.visible(key.name)}.", markup=False)


def _with_keys(work: "Callable[[PostgresKeys], Awaitable[T]]") -> T:
    """What `work` gives for the table of keys. Raises CommandFailed."""
    with output.failures_as_sentences():
        return asyncio.run(_connected(work))


async def _connected(work: "Callable[[PostgresKeys], Awaitable[T]]") -> T:
    from server.storage import database
    from server.storage.api_keys import PostgresKeys

    async with await database.connect(await asyncio.to_thread(_database_url), size=1) as pool:
        return await work(PostgresKeys(pool))


def _database_url() -> str:
    from server import settings as configuration
    from server.embedded import running
    from server.errors import ConfigurationError

    settings = configuration.load()
    if settings.database_url:
        return settings.database_url
    found = running.endpoints(replace(settings.embedded(), triton=False))  # whichever Triton it uses
    if found is None:
        raise ConfigurationError(
            f"No Ratchet runs from {settings.home}: start `ratchet serve`, which has the keys' database, or set "
            "RATCHET_HOME as it has it, or DATABASE_URL."
        )
    return found.database_url


def _state(key: "ApiKey") -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "works"


def _rights(key: "ApiKey") -> str:
    """Tenant, user and roles in a few words."""
    user = f", user {output.visible(key.user_id)}" if key.user_id else ""
    return f"tenant {key.tenant_id}{user}: {', '.join(sorted(key.roles))}"


def _object(key: "ApiKey") -> dict[str, Any]:
    times = {"created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": key.revoked_at}
    return {
        "key_id": key.key_id,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "roles": sorted(key.roles),
        "user_id": key.user_id,
        "state": _state(key),
        **{name: time.isoformat() if time else None for name, time in times.items()},
    }


def _print(keys: "Sequence[ApiKey]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("key", "name", "may", "state", "made", "ends"):
        table.add_column(column, no_wrap=column == "key")
    for key in keys:
        ends = key.expires_at.strftime("%Y-%m-%d") if key.expires_at else "never"
        made = key.created_at.strftime("%Y-%m-%d")
        table.add_row(key.key_id, Text(output.visible(key.name)), Text(_rights(key)), _state(key), made, ends)
    output.console.print(table)
