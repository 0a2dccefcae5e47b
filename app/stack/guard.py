"""Run a command that ends with its parent: `python -I -S guard.py PARENT_PID -- COMMAND…`.

On Linux the kernel kills the command when the parent dies, for whatever reason. This is a separate program, not a
function between fork and exec, because the parent may have threads of TensorFlow or gRPC, which forbid a fork.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Request the death signal, check that the parent still lives, and execute the command."""
    parent, command = int(sys.argv[1]), sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
