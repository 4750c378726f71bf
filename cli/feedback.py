"""`ratchet feedback`: what people think of replies."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import grpc

from cli import client, exporting, log_filters, output
from cli.feedback_report import show

if TYPE_CHECKING:
    from ratchet.v1 import feedback_pb2 as pb
    from ratchet.v1 import feedback_pb2_grpc

STARS = click.IntRange(1, 5)
DIMENSIONS = ("accuracy", "helpfulness", "clarity", "safety")
CATEGORIES = ("toxic", "dangerous", "privacy", "misleading", "other")
KINDS = ("rating", "safety_report", "preference")
_PAGE = 500
"""Feedback of a page: with comments of 8 KiB each it stays below gRPC's 8 MiB."""
PARTS = {"stars": "RATING_OVERALL", "dimensions": "RATING_DIMENSIONS", "thumb": "REACTION", "comment": "TEXT"}


@click.group("feedback", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """What people think of replies: give, withdraw and list feedback."""


def _about(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of who speaks, and how a repetition is recognised."""
    for option in (
        click.option("--request-id", default="", help="Makes the call idempotent; one of its own when not given."),
        click.option("--user", default="", envvar="RATCHET_USER", help="Who was given the reply; none if anonymous."),
    ):
        function = option(function)
    return function


@command.command("submit", short_help="Rate a reply, or report it as unsafe.")
@click.argument("response_id")
@click.option("--up", "thumb", flag_value="THUMBS_UP", help="Thumb up.")
@click.option("--down", "thumb", flag_value="THUMBS_DOWN", help="Thumb down.")
@click.option("--neutral", "thumb", flag_value="NEUTRAL", help="Neither.")
@click.option("--stars", type=STARS, help="1 to 5 stars.")
@click.option("--accuracy", type=STARS, help="Is it true? 1 to 5.")
@click.option("--helpfulness", type=STARS, help="Does it solve the problem? 1 to 5.")
@click.option("--clarity", type=STARS, help="Is it easy to understand? 1 to 5.")
@click.option("--safety", type=STARS, help="Is it harmless? 1 to 5.")
@click.option("--comment", default="", help="In your own words.")
@click.option("--report", type=click.Choice(CATEGORIES), help="Report the reply as unsafe.")
@click.option("--detail", default="", help="What is unsafe about it.")
@click.option("--clear", type=click.Choice(tuple(PARTS)), multiple=True, help="Take back a part; may be repeated.")
@click.option("--receipt", default="", help="The reply's receipt: needed only while its log row is not in Postgres.")
@_about
@client.options
def submit(
    response_id: str,
    thumb: str | None,
    stars: int | None,
    comment: str,
    report: str | None,
    detail: str,
    clear: tuple[str, ...],
    receipt: str,
    user: str,
    request_id: str,
    address: str,
    timeout: float,
    as_json: bool,
    **dimensions: int | None,
) -> None:
    """Rate the reply RESPONSE_ID. What is not given stays as it was in an earlier rating of it."""
    from ratchet.v1 import feedback_pb2 as pb

    if detail and not report:
        raise click.UsageError("--detail belongs to --report")
    request = _checked(
        lambda: pb.SubmitFeedbackRequest(
            request_id=request_id or str(uuid.uuid4()),
            response_id=response_id,
            user_id=user,
            rating_overall=stars,
            rating_dimensions=pb.RatingDimensions(**dimensions),
            reaction_type=pb.ReactionType.Value(f"REACTION_TYPE_{thumb or 'UNSPECIFIED'}"),
            text_feedback=comment,
            safety_report=_report(report, detail) if report else None,
            receipt=receipt,
            clear=[pb.FeedbackPart.Value(f"FEEDBACK_PART_{PARTS[part]}") for part in dict.fromkeys(clear)],
        )
    )
    with client.channel(address, timeout) as channel:
        reply = _stub(channel).SubmitFeedback(request, timeout=timeout)
    if as_json:
        output.as_json(reply)
        return
    for feedback in reply.feedback:
        show(feedback)
    if reply.replayed:
        output.console.print("Nothing changed: it said so already.", style="dim")


@command.command("prefer", short_help="Say that one candidate is better than another.")
@click.argument("response_id")
@click.argument("chosen", type=int)
@click.argument("rejected", type=int)
@click.option("--comment", default="", help="Why.")
@click.option("--receipt", default="", help="The reply's receipt.")
@_about
@client.options
def prefer(
    response_id: str,
    chosen: int,
    rejected: int,
    comment: str,
    receipt: str,
    user: str,
    request_id: str,
    address: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Say that candidate CHOSEN of the reply RESPONSE_ID is better than candidate REJECTED, by their numbers."""
    from ratchet.v1 import feedback_pb2 as pb

    request = _checked(
        lambda: pb.SubmitPreferenceRequest(
            request_id=request_id or str(uuid.uuid4()),
            response_id=response_id,
            user_id=user,
            chosen_index=chosen,
            rejected_index=rejected,
            text_feedback=comment,
            receipt=receipt,
        )
    )
    with client.channel(address, timeout) as channel:
        reply = _stub(channel).SubmitPreference(request, timeout=timeout)
    output.as_json(reply) if as_json else show(reply.feedback)


@command.command("withdraw", short_help="Take a feedback back.")
@click.argument("feedback_id")
@_about
@client.options
def withdraw(feedback_id: str, user: str, request_id: str, address: str, timeout: float, as_json: bool) -> None:
    """Take the feedback FEEDBACK_ID back: it stays in the history and counts nowhere."""
    from ratchet.v1 import feedback_pb2 as pb

    request = _checked(
        lambda: pb.WithdrawFeedbackRequest(
            request_id=request_id or str(uuid.uuid4()), feedback_id=feedback_id, user_id=user
        )
    )
    with client.channel(address, timeout) as channel:
        reply = _stub(channel).WithdrawFeedback(request, timeout=timeout)
    output.as_json(reply) if as_json else show(reply.feedback)


@command.command("list", short_help="List feedback, the newest first.")
@click.option("--response", default="", help="Only on this reply.")
@click.option("--user", help="Only of this user; '' for anonymous ones.")
@click.option("--session", default="", help="Only on replies of this session.")
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--policy-release", default="", help="Only on replies that this release wrote.")
@click.option("--withdrawn", is_flag=True, help="Withdrawn ones too.")
@click.option("--from", "since", type=click.DateTime(), help="First given at this time or later, UTC.")
@click.option("--until", type=click.DateTime(), help="First given before this time, UTC.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@client.options
def list_(address: str, timeout: float, as_json: bool, limit: int, **wanted: Any) -> None:
    """List feedback as it is now, the newest first."""
    request = _checked(lambda: _listing(**wanted))
    with client.channel(address, timeout) as channel:
        found = list(islice(_listed(_stub(channel), request, timeout, limit), limit))
    if as_json:
        output.as_json({"feedback": [output.as_object(feedback) for feedback in found]})
        return
    for feedback in found:
        show(feedback)
    if not found:
        output.console.print("There is no such feedback.")


@command.command("export", short_help="Write feedback, as it is now, to JSON Lines or Parquet.")
@exporting.options("feedback")
@click.option("--user", help="Only of this user; '' for anonymous ones.")
@click.option("--session", default="", help="Only on replies of this session.")
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--policy-release", default="", help="Only on replies that this release wrote.")
@log_filters.window
@client.options
def export(to: Path | None, form: str, address: str, timeout: float, as_json: bool, **wanted: Any) -> None:
    """Write feedback, the withdrawn too, to a new directory, whole or not at all: files that pandas, DuckDB and Hugging
    Face's `load_dataset(DIRECTORY)` read, with their columns in README.md. Without --until: what was given before now.
    """
    from cli.export_rows import feedback_row

    wanted["until"] = wanted["until"] or datetime.now(UTC)
    request = _checked(lambda: _listing(response="", withdrawn=True, **wanted))
    with client.channel(address, timeout) as channel:
        rows = map(feedback_row, _listed(_stub(channel), request, timeout))
        exporting.export(exporting.Order("feedback", form, to, log_filters.told(wanted)), rows, as_json=as_json)


def _stub(channel: grpc.Channel) -> "feedback_pb2_grpc.FeedbackServiceStub":
    from ratchet.v1 import feedback_pb2_grpc

    return feedback_pb2_grpc.FeedbackServiceStub(channel)


def _checked(make: Callable[[], Any]) -> Any:
    """The request; what no message can hold is the caller's mistake."""
    try:
        return make()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _report(category: str, detail: str) -> "pb.SafetyReport":
    from ratchet.v1 import feedback_pb2 as pb

    return pb.SafetyReport(category=pb.SafetyCategory.Value(f"SAFETY_CATEGORY_{category.upper()}"), detail=detail)


def _listing(
    *,
    response: str,
    user: str | None,
    session: str,
    kind: str | None,
    policy_release: str,
    withdrawn: bool,
    since: Any,
    until: Any,
) -> "pb.ListFeedbackRequest":
    from ratchet.v1 import feedback_pb2 as pb

    request = pb.ListFeedbackRequest(
        response_id=response,
        user_id=user,
        session_id=session,
        kind=pb.FeedbackKind.Value(f"FEEDBACK_KIND_{(kind or 'unspecified').upper()}"),
        policy_release=policy_release,
        include_withdrawn=withdrawn,
    )
    if since:
        request.from_time.FromDatetime(since)
    if until:
        request.until_time.FromDatetime(until)
    return request


def _listed(
    stub: "feedback_pb2_grpc.FeedbackServiceStub", request: "pb.ListFeedbackRequest", timeout: float, size: int = _PAGE
) -> "Iterator[pb.Feedback]":
    request.page_size = min(size, _PAGE)
    while True:
        reply = stub.ListFeedback(request, timeout=timeout)
        yield from reply.feedback
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token
