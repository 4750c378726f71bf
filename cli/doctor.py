"""`ratchet doctor`: what runs, versions, ports, settings, and what is wrong."""

import asyncio
import importlib.metadata
import platform
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cli import output

if TYPE_CHECKING:
    from pathlib import Path

    from server.embedded.status import Running

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
    server = _server(running, settings.listen)
    checks = preflight.run(settings.embedded()) if running is None else []
    checks += asyncio.run(probes.run(settings))
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "pid": running.pid if running else None,
        "parts": [{**asdict(part), "log": str(part.log or "")} for part in running.parts] if running else [],
        "server": server,
        "checks": [
            *_serves(running, server),
            *(asdict(check) for check in checks),
            *_releases(settings.policy, settings.reward),
            *_spool(settings.spool_dir or settings.home / "spool"),
        ],
        "settings": {configuration.variable(name): _shown(value) for name, value in settings},
    }


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _server(running: "Running | None", listen: str) -> dict[str, str]:
    """Where the server of this home listens, and its health; without one, what answers where it would listen."""
    if running is not None and not running.address:
        return {"address": "", "health": "not serving: it starts, or replays"}
    return _health(running.address if running else listen)


def _serves(running: "Running | None", server: dict[str, str]) -> list[dict[str, Any]]:
    """Whether the server that runs answers; nothing where none says that it listens."""
    if running is None or not running.address:
        return []
    ok = server["health"] == "SERVING"
    detail = f"process {running.pid} at {server['address']}: {server['health']}"
    fix = "wait for it to start, or stop; else stop it and start it again"
    return [{"name": "server", "ok": ok, "detail": detail, "fix": "" if ok else fix}]


def _health(address: str) -> dict[str, str]:
    """What the health service at `address` says."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from cli import connection

    with connection.opened(address) as channel:
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


def _spool(directory: "Path") -> list[dict[str, Any]]:
    """What waits for Postgres, and whether something of it can't go there; nothing where nothing waits."""
    from server.storage import spool

    try:
        found = spool.holdings(directory)
    except OSError as error:
        return [{"name": "spool", "ok": False, "detail": str(error), "fix": "correct RATCHET_SPOOL_DIR"}]
    if found.aside:
        detail = (
            f"{len(found.aside)} files hold log rows that Postgres refused or that are damaged, first {found.aside[0]}"
        )
        fix = f"bring them to the log by hand, or remove them from {directory}"
        return [{"name": "spool", "ok": False, "detail": detail, "fix": fix}]
    if found.waiting:
        detail = f"{found.waiting} bytes of log rows wait for Postgres, the oldest for {found.age:.0f} s"
        return [{"name": "spool", "ok": True, "detail": detail, "fix": ""}]
    return []


def _shown(value: object) -> str | int | float | None:
    """A setting in JSON; as `settings.text_of` has it where it is neither a number nor none."""
    from server.settings import text_of

    return value if value is None or isinstance(value, int | float) else text_of(value)


def _print(found: dict[str, Any]) -> None:
    console = output.console
    console.print(output.Flow([f"{name} {version}" for name, version in found["versions"].items()], ", "))
    server = found["server"]
    process = f"process {found['pid']}" if found["pid"] else ""
    where = ", ".join(part for part in (server["address"], process) if part)
    console.print(f"[bold]Server[/] {where}: {server['health']}", soft_wrap=True)
    if found["parts"]:
        _print_parts(found["parts"])
    for check in found["checks"]:
        _print_check(check)
    width = max(len(name) for name in found["settings"])
    for name, value in found["settings"].items():
        output.named(name, "" if value is None else str(value), width)


def _print_parts(parts: list[dict[str, Any]]) -> None:
    """The parts, and below them what may be long, each on a line of its own."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("part", "state", "version", "pid", "restarts"):
        table.add_column(column)
    for part in parts:
        table.add_row(
            *("" if part[key] is None else str(part[key]) for key in ("name", "state", "version", "pid", "restarts"))
        )
    output.console.print(table)
    for part in parts:
        output.named(f"{part['name']} at", part["address"], 12)
        if part["log"]:
            output.named(f"{part['name']} log", part["log"], 12)


def _print_check(check: dict[str, Any]) -> None:
    from rich.text import Text

    mark, style = ("✓", "green") if check["ok"] else ("✗", "bold red")
    output.console.print(Text.assemble((f"{mark} ", style), f"{check['name']}: {check['detail']}"), soft_wrap=True)
    if not check["ok"] and check["fix"]:
        output.console.print(Text(f"  {check['fix']}", style="yellow"), soft_wrap=True)
