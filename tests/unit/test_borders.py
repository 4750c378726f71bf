"""What must stay apart stays apart."""

import importlib.util
import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
ROOMS = ("server", "cli", "trainer", "exporters", "triton_models", "benchmarks", "ratchet")


SERVER = "import server.app, server.launcher, cli.serve, server.storage.opensearch"


@lru_cache
def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import json, sys; {statement}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))


def test_the_server_starts_without_torch_or_the_sidecar() -> None:
    assert not loaded_by(SERVER) & {
        "torch",
        "transformers",
        "trainer",
        "exporters",
    }


def test_what_is_pure_of_the_sidecar_loads_without_torch() -> None:
    pure = "trainer.data.ingest, trainer.reward.config, trainer.reward.evaluation, trainer.starter.copying"
    assert not loaded_by(f"import {pure}") & {"torch", "transformers", "sklearn", "matplotlib"}


def test_the_command_knows_its_subcommands_without_importing_them() -> None:
    assert not loaded_by("import cli.main") & {"grpc", "pydantic", "rich", "server", "numpy"}


@pytest.mark.parametrize("room", ROOMS)
def test_the_rooms_are_those_of_this_checkout(room: str) -> None:
    spec = importlib.util.find_spec(room)
    assert spec is not None
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    assert all(Path(str(place)).is_relative_to(CHECKOUT) for place in places)


def test_the_client_of_opensearch_waits_until_a_url_names_one() -> None:
    assert not loaded_by(SERVER) & {"opensearchpy", "opensearch"}
