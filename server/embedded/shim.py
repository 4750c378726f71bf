"""Turns itself into an embedded part: drops root, asks the kernel for a signal when Ratchet dies, then execs.

Run as a script with `python -I -S`, so it imports nothing of the project. Arguments: signal number, pid of Ratchet,
uid, gid (-1 keeps the account), then the command. It exits with 126 when the command can't be run.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1


def main(signum: int, parent: int, uid: int, gid: int, command: list[str]) -> None:
    """Becomes the command; returns only when Ratchet is already gone."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # After the change of account: changing it clears the setting.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        return
    os.execv(command[0], command)  # noqa: S606 - that is its purpose


if __name__ == "__main__":
    try:
        signal_number, ratchet, user, group = (int(argument) for argument in sys.argv[1:5])
        main(signal_number, ratchet, user, group, sys.argv[5:])
    except OSError as error:
        print(f"can't run {sys.argv[5]}: {error.strerror}", file=sys.stderr)
        sys.exit(126)
