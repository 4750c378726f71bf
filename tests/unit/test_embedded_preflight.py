"""What a machine lacks is said in one sentence, with what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.embedded import EmbeddedSettings, machine, preflight
from server.embedded.errors import EmbeddedError, NoLibpython, PartMissing, UnsupportedMachine
from server.embedded.process import LOG_LIMIT_BYTES, last_line, rotate
from server.embedded.triton_env import TritonEnv


def fake_env(folder: Path, *, library: bool = True, stub: str = "echo Expected 9 arguments; exit 1") -> Path:
    """An environment whose python3 is a script that answers, with a stub that is one too."""
    package = folder / "site" / "pytriton" / "tritonserver"
    write_script(package / "bin" / "tritonserver", "")
    write_script(package / "python_backend_stubs" / "3.12" / "triton_python_backend_stub", stub)
    facts = {
        "version": "3.12",
        "prefix": str(folder / "prefix"),
        "libdir": None,
        "multiarch": None,
        "site": str(folder / "site"),
    }
    write_script(folder / "bin" / "python3", f"echo '{json.dumps(facts)}'")
    (folder / "prefix" / "lib").mkdir(parents=True)
    if library:
        (folder / "prefix" / "lib" / "libpython3.12.so.1.0").touch()
    return folder


def write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_stub_s_environment_names_the_interpreter_s_own_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/cuda")
    env = TritonEnv.inspect(fake_env(tmp_path))
    variables = env.variables()
    assert variables["LD_LIBRARY_PATH"] == f"{tmp_path}/prefix/lib:/cuda"
    assert variables["PATH"].split(":")[0] == f"{tmp_path}/bin"
    assert "PYTHONPATH" not in variables
    env.check_stub()


def test_a_python_without_its_library_is_told_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(NoLibpython, match=r"apt install libpython3.12"):
        TritonEnv.inspect(fake_env(tmp_path, library=False))


def test_a_missing_environment_says_what_installs_it(tmp_path: Path) -> None:
    with pytest.raises(PartMissing, match=r"./run setup.*TRITON_URL"):
        TritonEnv.inspect(tmp_path / "absent")


@pytest.mark.parametrize(
    "stub", ["echo cannot open libpython; exit 127", "exit 1", "echo Expected 9 arguments", "kill $$"]
)
def test_a_stub_that_can_not_run_is_found_before_triton_hangs_on_it(tmp_path: Path, stub: str) -> None:
    with pytest.raises(PartMissing, match="stub can't run"):
        TritonEnv.inspect(fake_env(tmp_path, stub=stub)).check_stub()


def test_no_bash_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = TritonEnv.inspect(fake_env(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PartMissing, match="install bash"):
        env.check_stub()


def arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")


def old_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.confstr", lambda name: "glibc 2.31")


def musl(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> str:
        raise ValueError(name)

    monkeypatch.setattr("os.confstr", refuse)


def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "processor_flags", lambda: {"sse2", "popcnt"})


@pytest.mark.parametrize(
    ("change", "said"),
    [(arm, "aarch64"), (old_glibc, "has 2.31"), (musl, "another C library"), (old_processor, "lacks sse4_2")],
)
def test_an_unsupported_machine_is_named(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None], said: str
) -> None:
    change(monkeypatch)
    with pytest.raises(UnsupportedMachine, match=said) as refused:
        machine.require_supported()
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_this_machine_is_supported() -> None:
    machine.require_supported()


def test_the_checks_leave_out_what_a_url_replaces(tmp_path: Path) -> None:
    everything = EmbeddedSettings(home=tmp_path, database_url="d", redis_url="r", triton_url="t")
    assert preflight.run(everything) == []
    only_valkey = EmbeddedSettings(home=tmp_path, database_url="d", triton_url="t")
    assert [check.name for check in preflight.run(only_valkey)] == ["machine", "home", "disk", "valkey"]


def test_a_failed_check_says_what_to_do_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    settings = EmbeddedSettings(home=tmp_path / "new", database_url="d", redis_url="r", triton_env=tmp_path / "no")
    checks = {check.name: check for check in preflight.run(settings)}
    for name in ("disk", "triton", "shared memory"):
        assert not checks[name].ok
        assert checks[name].fix
    assert checks["disk"].detail.endswith("has 1 MB left and Ratchet needs 256 MB")
    assert not (tmp_path / "new").exists()


def test_every_error_of_this_room_is_told_apart() -> None:
    kinds = EmbeddedError.__subclasses__()
    assert len({kind.__doc__ for kind in kinds}) == len(kinds) >= 7


def test_a_log_keeps_one_older_file_and_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    rotate(log)
    assert last_line(log) == ""
    log.write_text("first\nlast words\n\n")
    assert last_line(log) == "last words"
    log.write_text("FATAL: no\nwent away\n")
    assert last_line(log) == "FATAL: no"
    assert last_line(log, after=log.stat().st_size) == ""
    log.write_bytes(b"x" * (LOG_LIMIT_BYTES + 1))
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "part.log.1").exists()
