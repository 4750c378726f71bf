"""Free loopback ports, below the range that the kernel hands to outgoing connections."""

import json
import os
import random
import socket
from pathlib import Path

FIRST, LAST = 20000, 29999


def is_free(port: int) -> bool:
    """Whether the loopback port can be bound now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def pick(count: int) -> list[int]:
    """Free ports, all different. Somebody may still take one before it is used: be ready to pick again."""
    candidates = random.SystemRandom().sample(range(FIRST, LAST + 1), LAST - FIRST + 1)
    free = (port for port in candidates if is_free(port))
    return [next(free) for _ in range(count)]


def remembered(path: Path, count: int) -> list[int]:
    """The ports of the last run, written at `path`, when all are free, so that a home keeps them; else new ones."""
    try:
        ports = json.loads(path.read_text())
        known = isinstance(ports, list) and len(ports) == count and all(is_free(port) for port in ports)
    except (OSError, ValueError, TypeError, OverflowError):
        known = False
    return ports if known else renew(path, count)


def renew(path: Path, count: int) -> list[int]:
    """New ports, written to `path`."""
    ports = pick(count)
    staged = path.with_suffix(f".{os.getpid()}")
    staged.write_text(json.dumps(ports))
    staged.replace(path)
    return ports
