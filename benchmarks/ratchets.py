"""Starts a whole Ratchet of its own for a benchmark, as a user would, and ends it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Running:
    """A Ratchet that serves. `start_seconds` is from the command to SERVING, the sample query answered."""

    address: str
    triton: str
    start_seconds: float
    pid: int

    def memory_mb(self) -> dict[str, float]:
        """Proportional set size of each process, in MB, by command, and their sum: shared pages count once."""
        found: dict[str, float] = {}
        root = psutil.Process(self.pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                size = process.memory_full_info().pss / 2**20
                found[process.name()] = round(found.get(process.name(), 0) + size, 1)
            except psutil.Error:
                continue
        return {**found, "total": round(sum(found.values()), 1)}


@contextmanager
def a_home() -> Iterator[Path]:
    """A RATCHET_HOME that is removed again."""
    home = Path(tempfile.mkdtemp(prefix="ratchet-bench-", dir="/tmp"))
    home.chmod(0o711)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def serving(home: Path, **settings: object) -> Iterator[Running]:
    """A Ratchet from `home`; `settings` are those of `ratchet serve`."""
    flags = {"listen": "127.0.0.1:0", "metrics": "off", "console": "off", **settings}
    command = [sys.executable, "-m", "cli.main", "serve", "--json", f"--home={home}"]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    log = (home / "bench.log").open("wb")
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        started = _await_serving(process, home)
        seconds = time.perf_counter() - began
        parts = {part["name"]: part["address"] for part in started["parts"]}
        yield Running(started["serving"], parts.get("triton", ""), seconds, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)
        log.close()


def _await_serving(process: "subprocess.Popen[bytes]", home: Path) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        found: dict[str, Any] = json.loads(line)
        if "serving" in found:
            return found
    raise RuntimeError(f"Ratchet did not start:\n{(home / 'bench.log').read_text()[-2000:]}")
