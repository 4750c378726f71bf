"""`ratchet publish`: puts a release where Triton loads it from, so that it can be rolled out."""

from pathlib import Path

import click
from rich.text import Text

from cli import client, output, releases
from triton_models.manifest import MANIFEST, ReleaseError, read

_MOST = 10
"""Names of files that are told."""


@click.command("publish")
@click.argument("directory", type=click.Path(path_type=Path))
@client.options
def command(directory: Path, address: str, timeout: float, as_json: bool) -> None:
    """Publish the release in DIRECTORY, as `ratchet export` and training make it.

    The directory is one of the server's machine. The release is checked, copied into Triton's repository whole or not
    at all, and registered; it serves nobody before `ratchet rollout start`. Publishing the same again takes its
    retirement back, if it was retired, and changes nothing else.
    """
    from ratchet.v1 import release_pb2 as pb

    try:
        request = pb.PublishReleaseRequest(directory=str(directory.absolute()))
    except ValueError as error:  # text that is no valid UTF-8
        raise click.UsageError(str(error)) from error
    with client.channel(address, timeout) as channel:
        reply = releases.stub(channel).PublishRelease(request, timeout=timeout)
    if as_json:
        output.as_json(reply)
        return
    output.console.print(releases.line(reply.release), soft_wrap=True)
    known = reply.release.release
    if reply.existed:
        output.console.print("It was published before; nothing changed. Had it been retired, it would be in use again.")
    elif not reply.release.champion:
        output.console.print(Text(f"`ratchet rollout start {output.visible(known)}` rolls it out."), soft_wrap=True)
    if left := _left_out(directory):
        names = ", ".join(left[:_MOST]) + (f" and {len(left) - _MOST} more" if len(left) > _MOST else "")
        told = f"Left out, since its {MANIFEST} does not name them: {output.visible(names)}"
        output.console.print(Text(told, style="yellow"), soft_wrap=True)


def _left_out(directory: Path) -> list[str]:
    """The files in the release's directory that are none of the release's; none where this machine has no such
    directory."""
    try:
        known = {MANIFEST, *read(directory).files}
        files = sorted(each for each in directory.rglob("*") if not each.is_dir())
    except (ReleaseError, OSError):
        return []
    return [name for each in files if (name := each.relative_to(directory).as_posix()) not in known]
