"""Run a command that ends with its parent: `python -I -S guard.py PARENT_PID -- COMMAND…`.

On Linux the kernel kills the command when the parent dies, in whatever way. A separate program, not a function run
between fork and exec, because the parent may hold threads of TensorFlow or gRPC that must not be forked into.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the death signal, check that the parent did not die before, and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
