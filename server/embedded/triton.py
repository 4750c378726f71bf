"""tritonserver with the Python backend, on loopback ports, in explicit mode: it starts, and comes back, without models.

The binary and the stubs come from the nvidia-pytriton wheel in an environment of their own (numpy < 2).
"""

import asyncio
import json
import os
import signal
from pathlib import Path

from server.embedded import ports
from server.embedded.layout import Layout
from server.embedded.orphans import MARK
from server.embedded.process import Command, Stops
from server.embedded.triton_env import TritonEnv
from server.embedded.warden import sweep

EXIT_SECONDS = 5
STUB_SECONDS = 180
"""How long a model may take to load: converted models of users are larger than the starters."""


class Triton:
    """The service behind TRITON_URL."""

    name = "triton"
    # Leaving takes tritonserver up to EXIT_SECONDS for requests in flight, then about 2.5 s for its stubs.
    stops: Stops = ((signal.SIGTERM, EXIT_SECONDS + 5.0),)

    def __init__(self, layout: Layout, environment: Path) -> None:
        self.version = ""
        self._layout = layout
        self._folder = environment
        self._env: TritonEnv | None = None
        self._grpc = self._http = self._metrics = 0

    @property
    def address(self) -> str:
        """host:port of gRPC."""
        return f"127.0.0.1:{self._grpc}"

    @property
    def http_address(self) -> str:
        """host:port of HTTP."""
        return f"127.0.0.1:{self._http}"

    async def prepare(self) -> None:
        """Raises PartMissing or NoLibpython when the environment can't run a model."""
        self._env = await asyncio.to_thread(TritonEnv.inspect, self._folder)
        await asyncio.to_thread(self._env.check_stub)
        await asyncio.to_thread(self._link)
        self._grpc, self._http, self._metrics = await asyncio.to_thread(ports.remembered, self._port_file, 3)

    def command(self) -> Command:
        """The server itself, in the foreground."""
        assert self._env is not None
        flags = {**self._flags(), **_hardware_flags()}
        argv = [str(self._env.server), *(f"--{name}={value}" for name, value in flags.items())]
        # Our config.pbtxt are complete, and completing them starts each model's stub twice (1.3 s a load).
        argv.append("--disable-auto-complete-config")
        argv.append(f"--backend-config=python,shm-region-prefix-name={self._layout.shm_prefix}")
        argv.append(f"--backend-config=python,stub-timeout-seconds={STUB_SECONDS}")
        environment = {**self._env.variables(), MARK: str(self._layout.home)}
        return Command(tuple(argv), self._layout.run, environment)

    async def ready(self) -> bool:
        """Answers HTTP; gRPC listens by then."""
        status, _ = await _get(self._http, "/v2/health/ready")
        if status != 200:
            return False
        _, body = await _get(self._http, "/v2")
        try:
            self.version = json.loads(body)["version"]
        except (ValueError, KeyError):
            return False
        return True

    async def tidy(self) -> None:
        """Removes the shared memory of killed stubs."""
        await asyncio.to_thread(sweep, self._layout.shm_prefix)

    async def relocate(self) -> bool:
        """A port may be taken between picking and binding it."""
        if all([await asyncio.to_thread(ports.is_free, port) for port in (self._grpc, self._http, self._metrics)]):
            return False
        self._grpc, self._http, self._metrics = await asyncio.to_thread(ports.renew, self._port_file, 3)
        return True

    @property
    def _port_file(self) -> Path:
        return self._layout.home / "triton-ports.json"

    def _flags(self) -> dict[str, str]:
        local = "127.0.0.1"
        return {
            "model-control-mode": "explicit",
            "model-repository": str(self._layout.run / "models"),
            "backend-directory": str(self._layout.run / "backends"),
            "strict-readiness": "false",
            "exit-timeout-secs": str(EXIT_SECONDS),
            "log-info": "false",
            "log-format": "ISO8601",
            "grpc-address": local,
            "grpc-port": str(self._grpc),
            "http-address": local,
            "http-port": str(self._http),
            "metrics-address": local,
            "metrics-port": str(self._metrics),
        }

    def _link(self) -> None:
        """The backend directory (three links), and the repository under a path that a shell takes unquoted."""
        assert self._env is not None
        backend = self._layout.run / "backends" / "python"
        backend.mkdir(parents=True, exist_ok=True)
        for source in self._env.backend_files():
            _relink(backend / source.name, source)
        _relink(self._layout.run / "models", self._layout.models)


def _hardware_flags() -> dict[str, str]:
    """Without a GPU, looking for one costs 2 s at every start."""
    if Path("/dev/nvidiactl").exists():
        return {}
    return {"allow-gpu-metrics": "false", "pinned-memory-pool-byte-size": "0"}


def _relink(link: Path, target: Path) -> None:
    staged = link.with_name(f".{link.name}-{os.getpid()}")
    staged.unlink(missing_ok=True)
    staged.symlink_to(target)
    staged.replace(link)


async def _get(port: int, path: str) -> tuple[int, str]:
    """Status and body of one HTTP GET on loopback; status 0 when nobody answers within 2 s."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
            finally:
                writer.close()
        return int(head.split()[1]), body
    except (OSError, TimeoutError, ValueError, IndexError):
        return 0, ""
