"""Whether a model has room: what its files will take, and what the machine and its control groups leave."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from server.rollout import memory
from server.rollout.memory import RESERVE, STUB, available, needed

GB = 1 << 30


def machine(root: Path, files: Mapping[str, str]) -> Path:
    """A root with such files, and 8 GB that are available."""
    for name, text in {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {8 << 20} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(place: str, most: str, used: int, files: int = 0) -> dict[str, str]:
    """A control group of version 2."""
    home = f"sys/fs/cgroup/{place}".rstrip("/")
    stat = f"anon 5\ninactive_file {files}\n"
    return {f"{home}/memory.max": most, f"{home}/memory.current": str(used), f"{home}/memory.stat": stat}


def test_a_machine_without_limits_has_what_it_says(tmp_path: Path) -> None:
    assert available(machine(tmp_path, {})) == 8 * GB - RESERVE
    assert available(machine(tmp_path, {"proc/self/cgroup": "0::/\n"})) == 8 * GB - RESERVE


def test_the_tightest_group_above_the_process_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/box\n",
        **group("pod/box", "max\n", 3 * GB),
        **group("pod", f"{4 * GB}\n", 3 * GB, GB // 2),
    }
    assert available(machine(tmp_path, files)) == 3 * GB // 2 - RESERVE


def test_a_container_that_sees_itself_as_the_root_has_its_limit(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", **group("", f"{2 * GB}", 3 * GB // 2)}
    assert available(machine(tmp_path, files)) == GB // 2 - RESERVE


def test_version_1_has_its_own_names(tmp_path: Path) -> None:
    home = "sys/fs/cgroup/memory/docker"
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/docker\n4:memory:/docker\n",
        f"{home}/memory.limit_in_bytes": str(GB),
        f"{home}/memory.usage_in_bytes": str(GB),
        f"{home}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GB // 4}\n",
    }
    assert available(machine(tmp_path, files)) == GB // 4 - RESERVE


def test_what_can_not_be_found_out_refuses_nothing(tmp_path: Path) -> None:
    assert available(tmp_path) > 1000 * GB
    assert available(machine(tmp_path, {"proc/self/cgroup": "0::/gone\n"})) == 8 * GB - RESERVE


def test_a_model_takes_twice_its_files_and_a_process_but_not_what_is_for_gpus(tmp_path: Path) -> None:
    for name, size in {
        "model.onnx": 1000,
        "model.fp16.onnx": 70,
        "model.cc90.plan": 7,
        "hf/model.safetensors": 9,
    }.items():
        (tmp_path / "1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "1" / name).write_bytes(b"x" * size)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 100)
    assert needed(tmp_path) == STUB + 2000


def test_this_machine_has_some() -> None:
    assert -RESERVE <= memory.available() < 1 << 60


@pytest.mark.parametrize("home", ["hf", "x.plan"])
def test_the_names_of_folders_above_say_nothing(tmp_path: Path, home: str) -> None:
    (tmp_path / home / "1").mkdir(parents=True)
    (tmp_path / home / "1" / "model.onnx").write_bytes(b"x" * 10)
    assert needed(tmp_path / home) == STUB + 20
