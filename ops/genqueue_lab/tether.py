"""Become a command that does not outlive its parent: `python tether.py PARENT COMMAND ARGUMENT...`.

Linux kills the command as soon as the thread that started it ends, however that comes about; elsewhere the command
runs without this tether. A program between the two, because code between fork and exec is unsafe beside threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: From linux/prctl.h: the signal this process gets when its parent dies. Kept across exec.
PR_SET_PDEATHSIG = 1


def main(parent: str, *command: str) -> None:
    """Tie this process to its parent and replace it by the command; exits with 127 when that cannot be run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit("the parent ended before its child began")
    try:
        os.execvp(command[0], command)  # noqa: S606 - there is no shell on purpose
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(*sys.argv[1:])
