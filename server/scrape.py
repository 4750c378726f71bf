"""Serves Prometheus /metrics: this process's registry, or the sum over all server processes.

prometheus_client decides at its first import whether values are shared: `shared` comes before, so nothing here imports
it at the top.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from server.errors import ConfigurationError

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


@contextlib.contextmanager
def shared(parent: Path) -> Iterator[None]:
    """Has all processes started within share their metrics, in a directory of ours below `parent` that ends with it.

    Comes before server.metrics is imported. Raises ConfigurationError when `parent` can't be written.
    """
    with contextlib.ExitStack() as resources:
        try:
            os.environ[_DIRECTORY] = str(resources.enter_context(_directory(parent)))
        except OSError as error:
            raise ConfigurationError(
                f"{parent} can't hold the processes' metrics ({error.strerror or error}): "
                "set RATCHET_HOME to a directory that you may write to."
            ) from error
        yield


@contextlib.contextmanager
def _directory(parent: Path) -> Iterator[Path]:
    """A directory of our own below `parent`, locked so that others can tell it from one whose owner is gone."""
    parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as lock:
        with _locked(parent):
            _sweep(parent)
            directory = Path(tempfile.mkdtemp(dir=parent))
            lock.enter_context(_locked(directory))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Holds the directory until the end; the kernel drops the lock with the process, whatever ends it."""
    file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, how)
        yield
    finally:
        os.close(file)


def _sweep(parent: Path) -> None:
    """Removes the directories whose owners are gone."""
    for directory in filter(Path.is_dir, parent.iterdir()):
        with contextlib.suppress(OSError), _locked(directory, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(directory, ignore_errors=True)


def serve(address: str, resources: contextlib.AsyncExitStack) -> str:
    """Serves /metrics in a thread until `resources` close; gives its URL, or '' when it is off."""
    if address == "off":
        return ""
    from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector

    host, _, port = address.rpartition(":")
    registry = REGISTRY
    if _DIRECTORY in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise ConfigurationError(
            f"{address} can't serve /metrics ({error.strerror}): pass --metrics HOST:PORT, or 'off'."
        ) from error
    resources.callback(thread.join)
    resources.callback(server.shutdown)
    return f"http://{host}:{server.server_port}/metrics"


def forget(pid: int) -> None:
    """Takes a process that ended out of the live gauges."""
    from prometheus_client.multiprocess import mark_process_dead

    if _DIRECTORY in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
