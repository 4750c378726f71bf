"""`./run` on machines that lack something: one sentence, and nothing half done. Nothing is installed here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    for name in ("run", "pyproject.toml", "constraints.txt", "triton_models/requirements.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, folder / name)
    settings = {"PATH": os.environ["PATH"], **environment}
    command = [str(folder / "run"), *arguments]
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60, check=False)


def python_that_says(folder: Path, verdict: str) -> str:
    """Stands for a Python of the given kind: the script asks it one question."""
    fake = folder / "python"
    fake.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo 3.12 || echo {verdict}\n')
    fake.chmod(0o755)
    return str(fake)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("novenv", "apt install python3-venv"),
        ("static", "apt install libpython3.12"),
        ("", "which is no working Python 3.11 or 3.12"),
    ],
)
def test_a_python_that_will_not_do_is_told_why(tmp_path: Path, verdict: str, said: str) -> None:
    done = run(tmp_path, "setup", RATCHET_PYTHON=python_that_says(tmp_path, verdict))
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".venv").exists()


def test_a_full_disk_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    df = tmp_path / "bin" / "df"
    df.parent.mkdir()
    df.write_text("#!/bin/sh\necho header\necho /dev/x 100 90 10 90% /\n")
    df.chmod(0o755)
    done = run(tmp_path, "setup", PATH=f"{df.parent}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "has 10 MB left and installing needs 1200" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_somebody_else_s_checkout_is_not_installed_into(tmp_path: Path) -> None:
    run(tmp_path, "--help")
    tmp_path.chmod(0o555)
    try:
        done = subprocess.run([str(tmp_path / "run"), "setup"], capture_output=True, text=True, timeout=60, check=False)
    finally:
        tmp_path.chmod(0o755)
    assert "clone Ratchet to a directory of your own" in done.stderr


def test_help_names_every_command_and_needs_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "--help", RATCHET_PYTHON="/nowhere")
    assert done.returncode == 0
    for command in ("setup", "serve", "test", "check", "bench", "starter", "doctor"):
        assert f" {command}" in done.stdout
