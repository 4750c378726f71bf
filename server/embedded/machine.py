"""What the machine must be for the embedded binaries: Linux on x86-64 with glibc 2.35 and SSE 4.2."""

import os
import platform
from pathlib import Path

from server.embedded.errors import UnsupportedMachine

GLIBC = (2, 35)
PROCESSOR_FLAGS = {"sse4_2", "popcnt"}


def require_supported() -> None:
    """Raises UnsupportedMachine. Blocks."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UnsupportedMachine(
            f"The embedded parts run on Linux x86-64, and this is {platform.system()} {platform.machine()}: "
            "set DATABASE_URL, REDIS_URL and TRITON_URL to servers of your own."
        )
    if glibc_version() < GLIBC:
        raise UnsupportedMachine(
            f"Triton needs glibc 2.35 or newer, and this system has {_dotted(glibc_version()) or 'another C library'}: "
            "use Debian 12, Ubuntu 22.04 or newer, or set TRITON_URL to a Triton server of your own."
        )
    if missing := PROCESSOR_FLAGS - processor_flags():
        raise UnsupportedMachine(
            f"This processor lacks {' and '.join(sorted(missing))}, which the embedded binaries need: "
            "use a newer machine."
        )


def glibc_version() -> tuple[int, ...]:
    """Such as (2, 36); empty when the C library is another one."""
    try:
        name, _, number = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return ()
    return tuple(int(part) for part in number.split(".")) if name == "glibc" else ()


def processor_flags() -> set[str]:
    """The flags of the first processor; what we ask for when /proc does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set(PROCESSOR_FLAGS)
    flags = next((line for line in lines if line.startswith("flags")), "")
    return set(flags.partition(":")[2].split()) or set(PROCESSOR_FLAGS)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
