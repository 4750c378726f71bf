"""`ratchet docs`: the documents that answers may rest on."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import grpc

from cli import client, output

if TYPE_CHECKING:
    from ratchet.v1 import document_pb2 as pb
    from ratchet.v1 import document_pb2_grpc

ENDINGS = (".md", ".markdown", ".txt", ".text", ".html", ".htm", ".xhtml", ".pdf")
"""Of the files that are taken from a folder; a file that is named itself may have any."""
LARGEST = 8_000_000
"""Bytes of a document, as the API takes them."""
SECONDS = 120.0
"""Deadline of adding one document, where none is given: long PDFs take their time."""


@click.group("docs", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Documents that answers may rest on: the tool "docs" finds passages of them."""


@command.command("add", short_help="Add files, and the documents in folders.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--base",
    default="",
    help="Where the documents can be read: each is known as BASE and its path within PATH, instead of its place here.",
)
@client.options
@click.pass_context
def add(ctx: click.Context, paths: tuple[Path, ...], base: str, address: str, timeout: float, as_json: bool) -> None:
    """Add the files PATHS, and all text, Markdown, HTML and PDF files below the folders among them.

    A file that was added before takes the place of its earlier version; one that is unchanged is left as it is.
    """
    if ctx.get_parameter_source("timeout") is click.core.ParameterSource.DEFAULT:
        timeout = SECONDS
    files = list(_files(paths))
    if not files:
        raise click.UsageError(f"there is no file to add: folders are searched for {', '.join(ENDINGS)}")
    results = []
    with client.channel(address, timeout) as channel:
        stub = _stub(channel)
        for path, uri in _watched(files, base):
            results.append(_added(stub, address, path, uri, timeout))
            if not as_json:
                _say(results[-1])
    if as_json:
        output.as_json({"documents": results})
    failed = sum("error" in each for each in results)
    if failed:
        raise output.CommandFailed(_could_not(failed, len(results)))


@command.command("list", short_help="List the documents.")
@click.option("--below", default="", help="Only documents whose URI begins so.")
@client.options
def list_(below: str, address: str, timeout: float, as_json: bool) -> None:
    """List the documents: title, passages, when it was changed; below, its id and its URI."""
    with client.channel(address, timeout) as channel:
        found = list(_listed(_stub(channel), below, timeout))
    if as_json:
        output.as_json({"documents": [output.as_object(document) for document in found]})
        return
    for document in found:
        _show(document)
    if not found:
        output.console.print("There are no documents: add some with `ratchet docs add PATH`.")


@command.command("delete", short_help="Delete documents by id, URI or path.")
@click.argument("documents", nargs=-1, required=True)
@client.options
def delete(documents: tuple[str, ...], address: str, timeout: float, as_json: bool) -> None:
    """Delete DOCUMENTS: each an id, a URI as `ratchet docs list` shows it, or the path that was added."""
    from ratchet.v1 import document_pb2 as pb

    with client.channel(address, timeout) as channel:
        stub = _stub(channel)
        ids = [_id_of(stub, name, timeout) for name in documents]
        for document_id in ids:
            stub.DeleteDocument(pb.DeleteDocumentRequest(document_id=document_id), timeout=timeout)
    if as_json:
        output.as_json({"deleted": ids})
    else:
        output.console.print(f"Deleted {len(ids)} {'document' if len(ids) == 1 else 'documents'}.")


def _stub(channel: grpc.Channel) -> "document_pb2_grpc.DocumentServiceStub":
    from ratchet.v1 import document_pb2_grpc

    return document_pb2_grpc.DocumentServiceStub(channel)


def _files(paths: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """Each file once, with its path within the PATH that it was found by."""
    seen = set()
    for root in paths:
        for path in sorted(_below(root)) if root.is_dir() else [root]:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path, path.relative_to(root).as_posix() if root.is_dir() else path.name


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in ENDINGS and path.is_file():
            yield path


def _watched(files: list[tuple[Path, str]], base: str) -> Iterator[tuple[Path, str]]:
    """Paths and URIs, with a progress bar where there is a terminal to show it."""
    from rich.progress import track

    shown = track(files, "adding", console=output.stderr, transient=True, disable=not output.stderr.is_terminal)
    for path, within in shown:
        yield path, f"{base}{within}" if base else path.resolve().as_uri()


def _added(
    stub: "document_pb2_grpc.DocumentServiceStub", address: str, path: Path, uri: str, timeout: float
) -> dict[str, Any]:
    """What became of one file. Errors that concern it alone are part of that; others end the command."""
    from ratchet.v1 import document_pb2 as pb

    try:
        size = path.stat().st_size
        if size > LARGEST:
            return {"path": str(path), "error": f"it has {size:,} bytes; {LARGEST:,} are the limit"}
        request = pb.AddDocumentRequest(uri=uri, content=path.read_bytes())
        reply = stub.AddDocument(request, timeout=timeout)
    except (OSError, ValueError) as error:
        return {"path": str(path), "error": str(error)}
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DEADLINE_EXCEEDED):
            return {"path": str(path), "error": client.sentence(address, timeout, error)}
        raise
    outcome = pb.AddOutcome.Name(reply.outcome).removeprefix("ADD_OUTCOME_").lower()
    return {"path": str(path), "outcome": outcome, "document": output.as_object(reply.document)}


def _say(result: dict[str, Any]) -> None:
    from rich.text import Text

    if "error" in result:
        why = output.visible(f"{result['path']}: {result['error']}")
        output.stderr.print(Text.assemble(("failed     ", "red"), why), soft_wrap=True)
        return
    document = result["document"]
    line = f"{result['outcome']:<10} {output.visible(document['title'])} ({_passages(document['passage_count'])})"
    output.console.print(Text(line), soft_wrap=True)


def _show(document: "pb.Document") -> None:
    """Its id and its URI have lines of their own, which nothing cuts, so that they can be copied."""
    from rich.text import Text

    updated = document.update_time.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")
    facts = f"  {_passages(document.passage_count)}, {updated}"
    lines = Text.assemble((output.visible(document.title), "bold"), (facts, "dim"))
    lines.append(f"\n  {document.document_id}\n  {output.visible(document.uri)}")
    output.console.print(lines, soft_wrap=True)


def _passages(count: int) -> str:
    return f"{count} {'passage' if count == 1 else 'passages'}"


def _could_not(failed: int, of: int) -> str:
    if of == 1:
        return "The document could not be added."
    return f"{'None' if failed == of else failed} of the {of} documents could {'' if failed == of else 'not '}be added."


def _listed(stub: "document_pb2_grpc.DocumentServiceStub", below: str, timeout: float) -> "Iterator[pb.Document]":
    from ratchet.v1 import document_pb2 as pb

    request = pb.ListDocumentsRequest(uri_prefix=below, page_size=1000)
    while True:
        reply = stub.ListDocuments(request, timeout=timeout)
        yield from reply.documents
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token


def _id_of(stub: "document_pb2_grpc.DocumentServiceStub", name: str, timeout: float) -> str:
    try:
        return str(uuid.UUID(name))
    except ValueError:
        pass
    for uri in (name, Path(name).resolve().as_uri()):
        for document in _listed(stub, uri, timeout):
            if document.uri == uri:
                return document.document_id
            break  # the first one that begins so would be it
    raise output.CommandFailed(f"There is no document {name!r}: `ratchet docs list` shows their URIs.")
