"""A console as a child process, started as a user would."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

SECONDS = 60


def wait_for(url: str) -> None:
    """Until a console whose socket listens already answers: it has much to load first."""
    with urllib.request.urlopen(f"{url}/alerts", timeout=SECONDS) as answer:
        assert answer.status == 200


class Console:
    """`ratchet console --json` that talks to the server at `address`. `url` is where its pages are, without a path."""

    def __init__(self, address: str, home: Path, *flags: str, **environment: str) -> None:
        command = [sys.executable, "-m", "cli.main", "console", "--json", "--address", address]
        command += ["--listen", "127.0.0.1:0", "--home", str(home)]
        self._process = subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "ratchet console ended before it served"
        self.url = str(json.loads(line)["console"]).rstrip("/")
        wait_for(self.url)

    def close(self) -> None:
        """Ends it as an init system does, and closes its pipe."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def console(address: str, home: Path, *flags: str, **environment: str) -> Iterator[Console]:
    """A console that is ended in any case."""
    found = Console(address, home, *flags, **environment)
    try:
        yield found
    finally:
        found.close()
