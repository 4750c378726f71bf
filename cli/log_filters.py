"""Which replies a command is about, as flags."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ratchet.v1 import conversation_pb2 as pb

FLAGS = ("refused", "degraded", "regenerated", "explored", "has_feedback", "safety_reported", "commented")
REACTIONS = ("thumbs_up", "thumbs_down", "neutral")
_PERSONAL = ("user", "session", "text")
_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType[datetime]):
    """A time: so long ago (30m, 24h, 7d), or a date, or a date and time (UTC where it names no offset)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """See ParamType."""
        if isinstance(value, datetime):
            return value
        try:
            if ago := _AGO.fullmatch(value):
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            found = datetime.fromisoformat(value)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: write 30m, 24h or 7d for so long ago, or 2026-01-31T15:00.", param, ctx)


def window(command: Callable[..., Any]) -> Callable[..., Any]:
    """--from and --until."""
    until = click.option("--until", type=Moment(), help="Only what was before this time.")
    since = click.option(
        "--from", "since", type=Moment(), help="Only what was at this time or later: 24h or 7d ago, or a date."
    )
    return since(until(command))


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All filters; `request` reads them."""
    score, stars = click.FloatRange(0, 1), click.IntRange(1, 5)
    for option in (
        window,
        click.option(
            "--flag", "flags", multiple=True, type=click.Choice(FLAGS), help="Only such; several: all of them."
        ),
        click.option("--release", default="", help="Only replies that this release wrote or scored."),
        click.option("--reaction", type=click.Choice(REACTIONS), help="Only with this thumb."),
        click.option("--max-rating", type=stars, help="Only with at most so many stars."),
        click.option("--min-rating", type=stars, help="Only with at least so many stars."),
        click.option("--max-score", type=score, help="Only scored so at most, 0 to 1."),
        click.option("--min-score", type=score, help="Only scored so at least, 0 to 1."),
        click.option("--session", default="", help="Only of this session."),
        click.option("--user", help="Only of this user; '' for anonymous ones."),
        click.option("--text", default="", help="Words in query or answer, in any case; the last 30 days by default."),
    ):
        command = option(command)
    return command


def request(given: dict[str, Any]) -> "pb.ListConversationsRequest":
    """The request that the flags ask for. Raises UsageError for text that is no valid UTF-8."""
    from ratchet.v1 import conversation_pb2 as pb
    from ratchet.v1 import feedback_pb2

    reaction = given["reaction"]
    try:
        found = pb.ListConversationsRequest(
            text=given["text"],
            user_id=given["user"],
            session_id=given["session"],
            minimum_reward=given["min_score"],
            maximum_reward=given["max_score"],
            minimum_rating=given["min_rating"],
            maximum_rating=given["max_rating"],
            reaction_type=feedback_pb2.ReactionType.Value(f"REACTION_TYPE_{(reaction or 'unspecified').upper()}"),
            release=given["release"],
            flags=[
                pb.ConversationFlag.Value(f"CONVERSATION_FLAG_{each.upper()}") for each in dict.fromkeys(given["flags"])
            ],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    set_window(found, given["since"], given["until"])
    return found


def set_window(message: Any, since: datetime | None, until: datetime | None) -> None:
    """Sets `from_time` and `until_time` of a request."""
    if since is not None:
        message.from_time.FromDatetime(since)
    if until is not None:
        message.until_time.FromDatetime(until)


def told(given: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given, as a manifest keeps them; of people and their words only that there was one."""
    kept = {name: value for name, value in given.items() if value not in (None, "", ())}
    shown = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in kept.items()}
    return shown | {name: True for name in _PERSONAL if name in shown}
