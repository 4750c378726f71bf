"""The process that reads documents: `python -m server.documents.worker`, started by `server.documents.reader`.

A hostile file may hang a parser or eat all memory, and a thread can't be killed: this process can. It limits its own
memory, ends when a document takes too long, and dies with its parent. Frames on standard input and output: two lengths
of four bytes, then a JSON object and the content; back comes one length and a JSON object.
"""

import ctypes
import json
import logging
import os
import resource
import signal
import struct
import sys
import traceback
from typing import Any, BinaryIO

from server.documents import words
from server.documents.extract import extract
from server.documents.formats import Format
from server.documents.passages import split
from server.errors import DocumentUnreadable

REQUEST = struct.Struct(">II")
RESPONSE = struct.Struct(">I")
MEMORY = 2 << 30
"""Bytes of address space."""
MOST_PASSAGES = 4_096
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main() -> None:
    """Answers until standard input ends."""
    requests, responses = _own_streams()
    _limit()
    while len(lengths := requests.read(REQUEST.size)) == REQUEST.size:
        head, body = (requests.read(length) for length in REQUEST.unpack(lengths))
        request = json.loads(head)
        # Without a handler the signal ends the process, also inside a parser that never comes back to Python.
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        answer = json.dumps(answer_to(request, body), ensure_ascii=False).encode()
        signal.setitimer(signal.ITIMER_REAL, 0)
        responses.write(RESPONSE.pack(len(answer)) + answer)
        responses.flush()


def answer_to(request: dict[str, Any], content: bytes) -> dict[str, Any]:
    """The passages as `{"kind", "title", "passages": [[title, text, words]]}`, or `{"unreadable": sentence}`.

    A "defect" beside that is the trace of a parser that failed.
    """
    said = Format(request["format"]) if request["format"] else None
    try:
        read = extract(content, request["name"], said, request["title"])
        tenant, passages = request["tenant"], []
        for passage in split(read.sections):
            passages.append([passage.title, passage.text, words.vector(tenant, passage.title, passage.text)])
            if len(passages) > MOST_PASSAGES:
                raise DocumentUnreadable(f"The document has more than {MOST_PASSAGES:,} passages: split it.")
    except DocumentUnreadable as error:
        return {"unreadable": str(error)}
    except MemoryError:
        return {"unreadable": "The document takes too much memory to read: split it."}
    except Exception as error:  # parsers of other people's files fail in every way
        sentence = f"The document can't be read: its parser failed ({type(error).__name__})."
        return {"unreadable": sentence, "defect": traceback.format_exc()}
    return {"kind": read.kind.value, "title": read.title, "passages": passages}


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for the frames alone: what a parser prints goes nowhere."""
    responses = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    logging.disable(logging.CRITICAL)
    return sys.stdin.buffer, responses


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the parent's to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
