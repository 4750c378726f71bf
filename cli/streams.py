"""Reads streams of the API so that Ctrl-C ends them at once, wherever it comes."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any


@contextmanager
def messages(call: Any) -> Iterator[Iterator[Any]]:
    """The messages of a call, which is cancelled however the block ends. Reading them raises what the call raises."""
    with closing(_read(call)) as found:
        yield found


def _read(call: Any) -> Generator[Any, None, None]:
    """A thread of its own waits in gRPC: Ctrl-C is raised wherever the main thread is, and between two lines of gRPC's
    it would leave a lock held that the channel's end then waits for, for ever."""
    arrived = SimpleQueue[tuple[Any, Exception | None] | None]()

    def receive() -> None:
        try:
            for message in call:
                arrived.put((message, None))
        except Exception as error:  # whatever it is, the reader's to raise
            arrived.put((None, error))
        else:
            arrived.put(None)

    try:
        Thread(target=receive, name="stream", daemon=True).start()
        while (found := arrived.get()) is not None:
            message, error = found
            if error is not None:
                raise error
            yield message
    finally:
        call.cancel()
