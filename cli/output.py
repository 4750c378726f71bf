"""How commands print: for people with rich, for programs as one JSON document a line."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console


class _Console(Console):
    """rich ends the process when a reader has left; here the caller decides."""

    def on_broken_pipe(self) -> NoReturn:
        """Gives the error on."""
        raise BrokenPipeError


console = _Console(highlight=False)
stderr = _Console(stderr=True, highlight=False)


class CommandFailed(click.ClickException):
    """Ends the command with one sentence on stderr."""

    def show(self, file: Any = None) -> None:
        """Prints it; as JSON when stdout is read by a program that asked for that."""
        stderr.print(f"[bold red]ratchet:[/] {_escape(self.message)}", soft_wrap=True)


def as_json(value: Message | dict[str, Any]) -> None:
    """Prints one JSON document on a line: protobuf messages in their JSON mapping, field names as in the proto."""
    document = as_object(value) if isinstance(value, Message) else value
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def as_object(message: Message) -> dict[str, Any]:
    """The message's JSON mapping."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


@contextmanager
def whoever_listens() -> Iterator[None]:
    """For a server's output: a reader that left (a closed pipe, a terminal that is gone) ends nothing."""
    try:
        yield
    except OSError:
        for stream in (sys.stdout, sys.stderr):
            _silence_if_broken(stream)


def _silence_if_broken(stream: TextIO) -> None:
    """What is still in the stream's buffer would fail again at exit."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def failures_as_sentences() -> Iterator[None]:
    """Turns what Ratchet itself reports into a CommandFailed."""
    from server.errors import RatchetError

    try:
        yield
    except RatchetError as error:
        raise CommandFailed(str(error)) from error


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
