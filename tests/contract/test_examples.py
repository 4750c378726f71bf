"""What is shown to callers works for them."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


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
