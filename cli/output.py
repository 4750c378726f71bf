"""How commands print: for people with rich, for programs as one JSON document a line."""

import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text


class _Console(Console):
    """rich ends the process when a reader has left; here the caller decides."""

    def on_broken_pipe(self) -> NoReturn:
        """Gives the error on."""
        raise BrokenPipeError


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that show nothing."""

console = _Console(highlight=False)
stderr = _Console(stderr=True, highlight=False)


class CommandFailed(click.ClickException):
    """Ends the command with one sentence on stderr, with `--json` too: standard output then holds JSON or nothing."""

    def show(self, file: Any = None) -> None:
        """Prints it."""
        stderr.print(Text.assemble(("ratchet: ", "bold red"), visible(self.message)), soft_wrap=True)


def visible(text: str) -> str:
    """`text` from elsewhere as a terminal may have it: nothing in it acts on the terminal, hides, or turns its order.

    Kept are letters, marks, signs and spaces, tabs as spaces, and line feeds; other line ends become line feeds.
    """
    lines = text.replace("\r\n", "\n").translate({0x0D: "\n", 0x85: "\n", 0x2028: "\n", 0x2029: "\n", 0x09: " "})
    return "".join(c for c in lines if c == "\n" or (unicodedata.category(c) not in _UNSEEN and c not in _BLANK))


def named(name: str, value: str, width: int) -> None:
    """Prints `value` beside its `name`, or whole on a line of its own, so that it can be copied: it is never cut."""
    beside = width + 2 + cell_len(value) <= console.width
    console.print(Text(f"{name:<{width}}  {value}" if beside else f"{name}\n{value}"), soft_wrap=True)


def hanging(label: Text, text: Text, style: str = "") -> Table:
    """`text` beside its `label`; where it takes more lines, they begin below its beginning."""
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, width=label.cell_len, style=style)
    grid.add_column(ratio=1, overflow="fold", style=style)
    grid.add_row(label, text)
    return grid


@dataclass(frozen=True, slots=True)
class Flow:
    """Pieces side by side, as many on a line as it takes; none is broken that a line can hold."""

    pieces: Sequence[str]
    separator: str
    style: str = "dim"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich."""
        lines: list[str] = []
        for piece in self.pieces:
            longer = f"{lines[-1]}{self.separator}{piece}" if lines else piece
            if lines and cell_len(longer) <= options.max_width:
                lines[-1] = longer
            else:
                lines.append(piece)
        yield Text("\n".join(lines), style=self.style)


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
