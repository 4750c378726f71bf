"""`./run bench`: measures Ratchet on this machine and prints a table; `--json FILE` keeps the figures."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import machine, ratchets, suites
from server.settings import STARTER

SUITES = ("start", "generate", "score", "score-noop")
console = Console(highlight=False)


def main() -> None:
    """Runs the chosen suites one after the other, each with a Ratchet of its own."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help=f"which to run; all of {', '.join(SUITES)}")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each load runs (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE; - for standard output")
    given = parser.parse_args()
    found: dict[str, Any] = {"machine": machine.describe()}
    with ratchets.a_home() as home:
        for name in given.suites or SUITES:
            with console.status(f"measuring {name}"):
                found[name] = measure(name, home, given.seconds)
    if str(given.json) != "-":
        report(found)
    if given.json:
        text = json.dumps(found, indent=2) + "\n"
        sys.stdout.write(text) if str(given.json) == "-" else given.json.write_text(text)


def measure(name: str, home: Path, seconds: float) -> Any:
    """The figures of one suite."""
    starter = STARTER / "reward-000001"
    match name:
        case "start":
            return suites.start(home)
        case "generate":
            return uvloop.run(suites.generate(home, seconds))
        case "score":
            return uvloop.run(suites.score(home, starter, seconds))
        case _:
            return uvloop.run(suites.score(home, suites.noop_release(starter, home), seconds))


def report(found: dict[str, Any]) -> None:
    """Prints the figures as tables, with the machine they hold for."""
    where = found["machine"]
    console.print(f"{where['processor']}, {where['cores']} cores, {where['memory_gb']} GB, commit {where['commit']}")
    console.print(f"load before: {where['load_before']}; {where['versions']}", style="dim")
    table = Table(header_style="dim", box=None, pad_edge=False)
    for column in ("measured", "calls/s", "p50 ms", "p95 ms", "p99 ms", "failures"):
        table.add_column(column, justify="left" if column == "measured" else "right")
    plain = [line for name in SUITES if name in found for line in _rows(name, found[name], table)]
    console.print(table)
    for line in plain:
        console.print(line)


def _rows(name: str, figures: dict[str, Any], table: Table, prefix: str = "") -> list[str]:
    """Adds each load as a row; gives everything else as lines."""
    lines = []
    for key, value in figures.items():
        label = f"{prefix or name}: {key}"
        if isinstance(value, dict) and "p95" in value:
            numbers = [f"{value[column]:.1f}" for column in ("per_second", "p50", "p95", "p99")]
            table.add_row(label, *numbers, str(value["failures"]))
        elif isinstance(value, dict) and ("ratchet" in value or "triton" in value):
            lines += _rows(name, value, table, label)
        else:
            lines.append(f"{label} = {_shown(value)}")
    return lines


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(each)}" for key, each in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
