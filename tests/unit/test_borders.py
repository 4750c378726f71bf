"""What must stay apart stays apart."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
ROOMS = ("server", "cli", "trainer", "exporters", "triton_models", "benchmarks", "ratchet")


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import json, sys; {statement}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))


def test_the_server_starts_without_torch_or_the_sidecar() -> None:
    assert not loaded_by("import server.app, server.launcher, cli.serve") & {
        "torch",
        "transformers",
        "trainer",
        "exporters",
    }


def test_the_command_knows_its_subcommands_without_importing_them() -> None:
    assert not loaded_by("import cli.main") & {"grpc", "pydantic", "rich", "server", "numpy"}


@pytest.mark.parametrize("room", ROOMS)
def test_the_rooms_are_those_of_this_checkout(room: str) -> None:
    spec = importlib.util.find_spec(room)
    assert spec is not None
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    assert all(Path(str(place)).is_relative_to(CHECKOUT) for place in places)


@pytest.mark.timeout(300)
def test_a_callers_code_passes_mypy_strict(tmp_path: Path) -> None:
    example = CHECKOUT / "docs" / "examples" / "ask.py"
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(CHECKOUT / "pyproject.toml")]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path), str(example)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
