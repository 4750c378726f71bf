"""How much memory is free where this process runs, and how much a model will take there.

Only of use for a Triton on the same machine, in the same control group: the embedded one.
"""

from collections.abc import Mapping
from pathlib import Path

from triton_models import contract

RESERVE = 256 << 20
"""Bytes that loading leaves free, for requests and for everybody else."""
STUB = 96 << 20
"""What the process of a model takes besides the model. Measured with the starters: 60 to 85 MB."""
TIMES = 2.0
"""What a model takes of its files' size while it is loaded: the file's content and what is made of it."""
_UNLIMITED = 1 << 60


def needed(directory: Path) -> int:
    """Bytes that loading the release in `directory` takes on CPUs, an estimate. Raises OSError. Blocks."""
    files = [path for path in (directory / contract.VERSION).rglob("*") if path.is_file()]
    of_cpus = (path for path in files if not _of_gpus(path.relative_to(directory)))
    return STUB + int(TIMES * sum(path.stat().st_size for path in of_cpus))


def _of_gpus(path: Path) -> bool:
    return path.suffix == ".plan" or path == Path(contract.HALF_GRAPH) or path.is_relative_to(contract.HF_WEIGHTS)


def available(root: Path = Path("/")) -> int:
    """Bytes that can still be had: the machine's, or less where a control group limits us. Blocks.

    0 or less means that there is nothing. What can't be found out counts as unlimited. Memory that holds files, which
    can be read again, counts as free.
    """
    return min(_of_machine(root), *_of_groups(root)) - RESERVE


def _of_machine(root: Path) -> int:
    fields = _fields(root / "proc/meminfo")
    return fields.get("MemAvailable:", _UNLIMITED >> 10) << 10


def _of_groups(root: Path) -> list[int]:
    """What each control group above this process leaves; version 2, and 1's memory controller."""
    found = [_UNLIMITED]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        inside = Path(place.lstrip("/"))
        found += [_of_group(base / each, version=1 if controllers else 2) for each in (inside, *inside.parents)]
    return found


def _of_group(group: Path, version: int) -> int:
    limit, usage, files = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
    except (OSError, ValueError):  # "max": no limit
        return _UNLIMITED
    return most - used + _fields(group / "memory.stat").get(files, 0)


def _fields(path: Path) -> Mapping[str, int]:
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
