"""The environment that Triton's Python stubs run in: what is in it, and whether a stub can run there.

The stub finds its interpreter as `python3` on PATH, and links libpython: LD_LIBRARY_PATH must name the interpreter's
own library directory, or another Python's library is mixed in silently. A stub that can't start leaves Triton hanging,
never ready.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from server.embedded.errors import NoLibpython, PartMissing

QUESTION = """
import json, sys, sysconfig
ask = sysconfig.get_config_var
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2], "prefix": sys.base_prefix, "libdir": ask("LIBDIR"),
    "multiarch": ask("MULTIARCH"), "site": sysconfig.get_path("purelib"),
}))
"""
DROPPED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
LOOK_SECONDS = 20
PACKAGE = Path("pytriton/tritonserver")


@dataclass(frozen=True, slots=True)
class TritonEnv:
    """`version` is major.minor of its Python, `library` the directory of its libpython, `site` that of its packages."""

    folder: Path
    version: str
    library: Path
    site: Path

    @classmethod
    def inspect(cls, folder: Path) -> "TritonEnv":
        """Asks the environment's own interpreter. Raises PartMissing or NoLibpython. Blocks."""
        facts = _ask(folder / "bin" / "python3")
        site = Path(facts["site"])
        if not (site / PACKAGE / "bin" / "tritonserver").is_file():
            raise PartMissing(
                f"{folder} has no tritonserver: run `./run setup`, or set TRITON_URL to a Triton server of your own."
            )
        return cls(folder, facts["version"], _find_library(facts), site)

    @property
    def server(self) -> Path:
        """The binary."""
        return self.site / PACKAGE / "bin" / "tritonserver"

    def backend_files(self) -> list[Path]:
        """What the backend directory must hold, one of them the stub for this Python. Raises PartMissing."""
        backend = self.site / PACKAGE / "backends" / "python"
        stub = self.site / PACKAGE / "python_backend_stubs" / self.version / "triton_python_backend_stub"
        if not stub.is_file():
            raise PartMissing(
                f"Triton has no stub for Python {self.version}: "
                f"make {self.folder} with Python 3.11 or 3.12 (`./run setup`)."
            )
        return [backend / "libtriton_python.so", backend / "triton_python_backend_utils.py", stub]

    def variables(self) -> dict[str, str]:
        """The environment of tritonserver and its stubs."""
        kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
        libraries = [str(self.library), *filter(None, [kept.get("LD_LIBRARY_PATH")])]
        path = [str(self.folder / "bin"), kept.get("PATH", os.defpath)]
        return {**kept, "PATH": ":".join(path), "LD_LIBRARY_PATH": ":".join(libraries), "LC_ALL": "C.UTF-8"}

    def check_stub(self) -> None:
        """Runs the stub alone: a healthy one complains about its arguments. Raises PartMissing. Blocks."""
        if shutil.which("bash") is None:
            raise PartMissing("Triton starts its models through bash, which is not on PATH: install bash.")
        stub = self.backend_files()[-1]
        try:
            done = subprocess.run(  # noqa: S603 - our own stub
                [stub],
                env=self.variables(),
                capture_output=True,
                text=True,
                timeout=LOOK_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PartMissing(f"Triton's Python stub can't run ({error}): run `./run setup` again.") from error
        said = (done.stdout + done.stderr).strip()
        if done.returncode != 1 or "Expected 9 arguments" not in said:
            last = said.splitlines()[-1] if said else f"status {done.returncode}"
            raise PartMissing(f"Triton's Python stub can't run ({last[:200]}): run `./run setup` again.")


def _ask(python: Path) -> dict[str, str]:
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [python, "-I", "-c", QUESTION], capture_output=True, text=True, timeout=LOOK_SECONDS, check=True
        )
        facts: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise PartMissing(
            f"There is no working Python at {python}: run `./run setup`, "
            "or set TRITON_URL to a Triton server of your own."
        ) from error
    return facts


def _find_library(facts: dict[str, str]) -> Path:
    name = f"libpython{facts['version']}.so.1.0"
    folders = list(_library_folders(facts))
    for folder in folders:
        if (folder / name).exists():
            return folder
    raise NoLibpython(
        f"Triton needs {name}, and the Python in {facts['prefix']} has none: install it (Debian and Ubuntu: "
        f"apt install libpython{facts['version']}), or run `RATCHET_PYTHON=/path/to/another/python3 ./run setup`."
    )


def _library_folders(facts: dict[str, str]) -> Iterable[Path]:
    """Only places of the interpreter's own: the same library of another Python would load, and misbehave."""
    prefix = Path(facts["prefix"])
    if facts["libdir"]:
        yield Path(facts["libdir"])
    yield from (prefix / "lib", prefix / "lib64")
    if facts["multiarch"]:
        yield prefix / "lib" / facts["multiarch"]
