"""Serves Prometheus /metrics: this process's registry, or the sum over all server processes.

prometheus_client decides at its first import whether values are shared: `prepare` comes before, so nothing here imports
it at the top.
"""

import contextlib
import os
from pathlib import Path

from server.errors import ConfigurationError

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


def prepare(directory: Path) -> None:
    """Has all processes started from here on share their metrics in `directory`. Before server.metrics is imported."""
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.db"):
        stale.unlink()
    os.environ[_DIRECTORY] = str(directory)


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
