"""`ratchet doctor`: what runs, versions, ports, settings, and what is wrong."""

import asyncio
import importlib.metadata
import platform
import sys
from dataclasses import asdict
from typing import Any

import click

from cli import output

PACKAGES = ("ratchet", "grpcio", "protobuf", "tritonclient", "tokenizers", "asyncpg", "redis")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON document.")
def command(as_json: bool) -> None:
    """Show what runs, versions, ports and settings, and what is wrong. Exits with 1 when something is."""
    with output.failures_as_sentences():
        found = findings()
    if as_json:
        output.as_json(found)
    else:
        _print(found)
    if not all(check["ok"] for check in found["checks"]):
        sys.exit(1)


def findings() -> dict[str, Any]:
    """Everything that the command shows."""
    from server import probes
    from server import settings as configuration
    from server.embedded import preflight, status

    settings = configuration.load()
    running = status.read(settings.home)
    pid, parts = running or (None, [])
    checks = preflight.run(settings.embedded()) if running is None else []
    checks += asyncio.run(probes.run(settings))
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "pid": pid,
        "parts": [{**asdict(part), "log": str(part.log or "")} for part in parts],
        "server": _health(settings.listen),
        "checks": [*(asdict(check) for check in checks), *_releases(settings.policy, settings.reward)],
        "settings": {configuration.variable(name): _shown(value) for name, value in settings},
    }


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _health(address: str) -> dict[str, str]:
    """What the health service at `address` says."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from cli.client import NO_PROXY

    with grpc.insecure_channel(address, options=[NO_PROXY]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return {"address": address, "health": "nothing answers"}
    return {"address": address, "health": health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}


def _releases(*sources: str) -> list[dict[str, Any]]:
    """Whether the releases to serve are whole; a Hugging Face name is not looked up."""
    from pathlib import Path

    from triton_models.manifest import MANIFEST, ReleaseError, verify

    found = []
    for source in sources:
        if Path(source).is_absolute() and not Path(source).is_dir():
            missing = {
                "name": "release",
                "ok": False,
                "detail": f"{source} does not exist",
                "fix": "name one that does",
            }
            found.append(missing)
            continue
        if not (Path(source) / MANIFEST).is_file():
            found.append({"name": "release", "ok": True, "detail": f"{source} is converted at start", "fix": ""})
            continue
        try:
            release = verify(Path(source))
            found.append({"name": release.kind, "ok": True, "detail": f"{release.id}, {release.base_model}", "fix": ""})
        except ReleaseError as error:
            found.append({"name": "release", "ok": False, "detail": str(error), "fix": "export or copy it again"})
    return found


def _shown(value: object) -> str | int | float | None:
    """A setting as shown: URLs without their passwords."""
    from server.redaction import redact

    if value is None or isinstance(value, int | float):
        return value
    return redact(str(value))


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = output.console
    console.print(", ".join(f"{name} {version}" for name, version in found["versions"].items()), style="dim")
    server = found["server"]
    console.print(
        f"[bold]Server[/] {server['address']}: {server['health']}"
        + (f", process {found['pid']}" if found["pid"] else "")
    )
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("part", "state", "version", "address", "pid", "restarts", "log"):
        table.add_column(column, overflow="fold")
    for part in found["parts"]:
        table.add_row(
            *(str(part[key] or "") for key in ("name", "state", "version", "address", "pid", "restarts", "log"))
        )
    if found["parts"]:
        console.print(table)
    for check in found["checks"]:
        mark, style = ("✓", "green") if check["ok"] else ("✗", "bold red")
        console.print(Text.assemble((f"{mark} ", style), f"{check['name']}: {check['detail']}"))
        if not check["ok"] and check["fix"]:
            console.print(f"  {check['fix']}", style="yellow")
    settings = Table(box=None, header_style="dim", pad_edge=False)
    settings.add_column("setting")
    settings.add_column("value", overflow="fold")
    for name, value in found["settings"].items():
        settings.add_row(name, "" if value is None else str(value))
    console.print(settings)
