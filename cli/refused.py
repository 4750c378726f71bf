"""`ratchet releases refused`: what training made and could not be published, and why."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from cli import output

if TYPE_CHECKING:
    from ratchet.v1 import release_pb2 as pb
    from ratchet.v1 import release_pb2_grpc


def fetch(stub: "release_pb2_grpc.ReleaseServiceStub", limit: int, timeout: float) -> "list[pb.RefusedRelease]":
    """The newest first, `limit` at most."""
    from ratchet.v1 import release_pb2 as pb

    request, found = pb.ListRefusedReleasesRequest(), list["pb.RefusedRelease"]()
    while True:
        request.page_size = min(limit - len(found), 200)
        reply = stub.ListRefusedReleases(request, timeout=timeout)
        found.extend(reply.refused_releases)
        request.page_token = reply.next_page_token
        if len(found) >= limit or not request.page_token:
            return found


def show(found: "Sequence[pb.RefusedRelease]") -> None:
    """Prints each with its reason and where it is."""
    for each in found:
        output.console.print(_line(each), soft_wrap=True)
        output.console.print(Text(f"  {output.visible(each.reason)}"), soft_wrap=True)
        if each.directory:
            output.console.print(Text(f"  {output.visible(each.directory)}", style="dim"), soft_wrap=True)
    if found:
        output.console.print("Mend it, or copy it to the server's machine, and `ratchet publish DIRECTORY` there.")
    else:
        output.console.print("All that training made was published.")


def note(found: "Sequence[pb.RefusedRelease]", kind: int) -> str:
    """That some are newer than the champion of their kind, of this `kind` only if it is one; "" where none is."""
    count = sum(each.newer_than_champion and kind in (0, each.kind) for each in found)
    if not count:
        return ""
    subject = "1 newer release" if count == 1 else f"{count} newer releases"
    return f"{subject} that training made could not be published: `ratchet releases refused` says why."


def _line(refused: "pb.RefusedRelease") -> Text:
    told = Text.assemble((output.visible(refused.release), "bold"))
    if refused.newer_than_champion:
        told.append("  newer than the champion", "yellow")
    when = f"{refused.refuse_time.ToDatetime():%Y-%m-%d %H:%M}"
    return told.append(f"  refused {when}, of training run {output.visible(refused.training_id)}", "dim")
