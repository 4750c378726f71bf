"""A whole Ratchet as a child process, started as a user would, for tests that need it to be killed."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 240
SHOWN = 25
"""Lines of a server's that a failed test shows."""
_open: "weakref.WeakSet[Serving]" = weakref.WeakSet()


class Serving:
    """`ratchet serve --json` from `home`. `events` are the lines it printed; `started` the one that says it serves.

    With `pipe_closed` its standard output has no reader any more once it serves.
    """

    def __init__(self, home: Path, *flags: str, pipe_closed: bool = False, **environment: str) -> None:
        command = [sys.executable, "-m", "cli.main", "serve", "--json", "--home", str(home), "--metrics", "127.0.0.1:0"]
        if "RATCHET_LISTEN" not in environment and not any(flag.startswith("--listen") for flag in flags):
            command += ["--listen", "127.0.0.1:0"]
        if "RATCHET_CONSOLE" not in environment and not any(flag.startswith("--console") for flag in flags):
            command += ["--console", "off"]
        self.process = subprocess.Popen(
            [*command, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A Triton that crashes under another test's load is no failure of this one.
            env=os.environ | {"RATCHET_POLICY_WAIT": "60"} | environment,
            start_new_session=True,
        )
        self.events: list[dict[str, Any]] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._pipe_closed = pipe_closed
        self._said: list[str] = []
        self._errors: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        _open.add(self)
        if pipe_closed:
            assert self.started
            self._reader.join(SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
            self._said.append(line)
            if self._pipe_closed and "serving" in json.loads(line):
                self.process.stdout.close()
                return
        self._lines.put("")

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors.append(line)
            self._said.append(line)

    @property
    def started(self) -> dict[str, Any]:
        """Waits until it serves; fails with what it said when it ends instead."""
        while True:
            line = self._lines.get(timeout=SECONDS)
            if not line:
                raise AssertionError(f"ratchet serve ended: {self.errors()}")
            self.events.append(json.loads(line))
            if "serving" in self.events[-1]:
                return self.events[-1]

    def rest(self) -> list[dict[str, Any]]:
        """What it printed that `started` has not read, once it ended."""
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return [json.loads(line) for line in iter(self._lines.get, "")]

    def errors(self) -> str:
        """What it wrote to standard error, once it ended."""
        self.process.wait(SECONDS)
        self._listener.join(SECONDS)
        return "".join(self._errors)

    @property
    def said(self) -> list[str]:
        """The beginnings of the last lines of both its outputs."""
        return [line.rstrip()[:300] for line in self._said[-SHOWN:]]

    def kill(self) -> None:
        """SIGKILL to the process itself: its children must notice by themselves."""
        self.process.kill()
        self.process.wait(SECONDS)

    def stop(self) -> int:
        """SIGTERM, as an init system sends it; gives the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def close(self) -> None:
        """Ends it in any case and closes its pipes."""
        if self.process.poll() is None:
            self.stop()
        _open.discard(self)
        for thread in (self._reader, self._listener):
            thread.join(SECONDS)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def what_was_said() -> list[tuple[str, str]]:
    """Sections for the report of a failed test: what each server that runs said last."""
    return [("what a running server said last", "\n".join(server.said)) for server in _open if server.said]


@contextlib.contextmanager
def serving(home: Path, *flags: str, pipe_closed: bool = False, **environment: str) -> Iterator[Serving]:
    """A Ratchet that is ended in any case."""
    found = Serving(home, *flags, pipe_closed=pipe_closed, **environment)
    try:
        yield found
    except BaseException:  # it is closed before the report of the test is made
        print("what the server said last:", *found.said, sep="\n", file=sys.stderr)
        raise
    finally:
        found.close()
