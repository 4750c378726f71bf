"""A whole Ratchet as a child process, started as a user would, for tests that need it to be killed."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 240


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
            env=os.environ | environment,
            start_new_session=True,
        )
        self.events: list[dict[str, Any]] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._pipe_closed = pipe_closed
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if pipe_closed:
            assert self.started
            self._reader.join(SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
            if self._pipe_closed and "serving" in json.loads(line):
                self.process.stdout.close()
                return
        self._lines.put("")

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
        assert self.process.stderr is not None
        self.process.wait(SECONDS)
        return self.process.stderr.read()

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
        self._reader.join(SECONDS)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def serving(home: Path, *flags: str, pipe_closed: bool = False, **environment: str) -> Iterator[Serving]:
    """A Ratchet that is ended in any case."""
    found = Serving(home, *flags, pipe_closed=pipe_closed, **environment)
    try:
        yield found
    finally:
        found.close()
