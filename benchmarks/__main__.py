"""`./run bench`: measures Ratchet on this machine and prints a table; `--json FILE` keeps the figures."""

import argparse
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import (
    analytics,
    checks,
    early_stop,
    experiments,
    feedback,
    harmless,
    judged,
    loop,
    machine,
    ratchets,
    rollouts,
    stages,
    suites,
    swap,
    training,
)
from server.settings import STARTER

SUITES = ("start", "generate", "latency", "score", "score-noop", "feedback", "analytics", "checks", "early-stop")
LONG = ("judged", "harmless", "training", "loop", "experiments", "rollouts", "swap")
"""They train real models, simulate, or roll out with many users, for many minutes: only when they are named."""
OFFLINE = {
    "analytics": analytics,
    "checks": checks,
    "early-stop": early_stop,
    "judged": judged,
    "harmless": harmless,
    "training": training,
    "loop": loop,
    "experiments": experiments,
    "rollouts": rollouts,
    "swap": swap,
}
"""Suites that start what they need themselves, and have a table of their own."""
HELP = f"which to run; all of {', '.join(SUITES)}, but only when named {', '.join(LONG)}"
console = Console(highlight=False)


def main() -> None:
    """Runs the chosen suites one after the other, each with a Ratchet of its own."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, *LONG, []], help=HELP)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each load runs (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE; - for standard output")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table by stage to FILE")
    given = parser.parse_args()
    found: dict[str, Any] = {"machine": machine.describe()}
    for name in given.suites or SUITES:
        with ratchets.a_home() as home, console.status(f"measuring {name}"):
            found[name] = measure(name, home, given.seconds)
    if str(given.json) != "-":
        report(found)
    if given.markdown and "latency" in found:
        given.markdown.write_text(stages.markdown(found["latency"]["stages_ms"]))
    if given.json:
        text = json.dumps(found, indent=2) + "\n"
        sys.stdout.write(text) if str(given.json) == "-" else given.json.write_text(text)


def measure(name: str, home: Path, seconds: float) -> Any:
    """The figures of one suite."""
    if name in OFFLINE:
        return OFFLINE[name].measure()
    starter = STARTER / "reward-000001"
    if name == "start":
        return suites.start(home)
    measures: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "generate": lambda: suites.generate(home, seconds),
        "latency": lambda: suites.latency(home, seconds),
        "score": lambda: suites.score(home, starter, seconds),
        "score-noop": lambda: suites.score(home, suites.noop_release(starter, home), seconds),
        "feedback": lambda: feedback.measure(home, seconds),
    }
    return uvloop.run(measures[name]())


def report(found: dict[str, Any]) -> None:
    """Prints the figures as tables, with the machine they hold for."""
    where = found["machine"]
    console.print(f"{where['processor']}, {where['cores']} cores, {where['memory_gb']} GB, commit {where['commit']}")
    console.print(f"load before: {where['load_before']}; {where['versions']}", style="dim")
    table = Table(header_style="dim", box=None, pad_edge=False)
    for column in ("measured", "calls/s", "p50 ms", "p95 ms", "p99 ms", "failures"):
        table.add_column(column, justify="left" if column == "measured" else "right")
    plain = [
        line for name in SUITES if name in found and name not in OFFLINE for line in _rows(name, found[name], table)
    ]
    console.print(table)
    for name, suite in OFFLINE.items():
        if name in found:
            console.print(suite.table(found[name]))
    for line in plain:
        console.print(line)


def _rows(name: str, figures: dict[str, Any], table: Table, prefix: str = "") -> list[str]:
    """Adds each load as a row; gives everything else as lines."""
    lines = []
    for key, value in figures.items():
        if key == "stages_ms":
            lines.append(stages.markdown(value))
            continue
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
