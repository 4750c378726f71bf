"""A real tritonserver for tests that need nothing but it: no Postgres, no Valkey, no supervision."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tritonclient.grpc as triton

from server.embedded.triton_env import TritonEnv

ENVIRONMENT = Path(__file__).parents[1] / ".venv-triton"


@dataclass(frozen=True)
class Server:
    """A running tritonserver with an empty repository in explicit mode."""

    address: str
    repository: Path
    log: Path

    def load(self, name: str) -> None:
        """Loads the model `name` of the repository; an error carries the end of Triton's log."""
        with triton.InferenceServerClient(self.address) as client:
            try:
                client.load_model(name)
            except triton.InferenceServerException as error:
                raise AssertionError(f"{error}\n{self.log.read_text()[-3000:]}") from error


@contextmanager
def running(home: Path) -> Iterator[Server]:
    """Starts tritonserver below `home`, and stops it."""
    environment = TritonEnv.inspect(ENVIRONMENT)
    backend = home / "backends" / "python"
    backend.mkdir(parents=True)
    for file in environment.backend_files():
        (backend / file.name).symlink_to(file)
    repository, log = home / "models", home / "triton.log"
    repository.mkdir()
    grpc, http, metrics = _free_ports(3)
    ports = {"grpc-port": grpc, "http-port": http, "metrics-port": metrics}
    addresses = {name.replace("port", "address"): "127.0.0.1" for name in ports}
    flags = {
        "model-control-mode": "explicit",
        "model-repository": repository,
        "backend-directory": home / "backends",
        "backend-config": f"python,shm-region-prefix-name=ratchet-test-{grpc}",
        "allow-gpu-metrics": "false",
        "pinned-memory-pool-byte-size": 0,
        "exit-timeout-secs": 5,
        "log-info": "false",
        **ports,
        **addresses,
    }
    argv = [
        str(environment.server),
        "--disable-auto-complete-config",
        *(f"--{k}={v}" for k, v in flags.items()),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=environment.variables(), stdout=output, stderr=output)
    try:
        _await_ready(f"127.0.0.1:{grpc}", process, log)
        yield Server(f"127.0.0.1:{grpc}", repository, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _await_ready(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        for _ in range(300):
            if process.poll() is not None:
                break
            try:
                if client.is_server_ready():
                    return
            except triton.InferenceServerException:
                pass
            time.sleep(0.1)
    raise AssertionError(f"tritonserver did not start:\n{log.read_text()[-3000:]}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
