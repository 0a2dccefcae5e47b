"""Sandbox of a decoding child: no credentials, no network, no new programs; limits on memory, files and CPU.

Linux only, best effort by layer: `enter_network_jail` needs user namespaces or root, the system-call filter works in
containers too. The active layers are reported, so that the log can name them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from typing import Final

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_SIGKILL: Final = 9
# Numbers of system calls that a decoder never needs, by machine (linux/arch/*/include/uapi/asm/unistd*.h): sockets, new
# programs, tracing of other processes, and io_uring, which can do all this without a system call.
_REFUSED_CALLS: Final = {
    # socket, execve, ptrace, process_vm_readv, process_vm_writev, bpf, execveat, io_uring_setup
    "x86_64": (0xC000003E, (41, 59, 101, 310, 311, 321, 322, 425)),
    "aarch64": (0xC00000B7, (198, 221, 117, 270, 271, 280, 281, 425)),
}
# Memory in addition to one picture: growth of the interpreter and thread stacks.
_SLACK_BYTES: Final = 128 * 1024 * 1024
_OPEN_FILES: Final = 64
# Largest file that a child may write: its error output, which the parent reads if the child dies.
LOG_BYTES: Final = 256 * 1024


def enter_network_jail() -> bool:
    """Leave the network namespace. Return whether that succeeded. Call before any thread is started."""
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWUSER | _CLONE_NEWNET, _CLONE_NEWNET))


def die_with_parent() -> None:
    """Make the kernel end this process when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def limit_resources(memory_bytes: int) -> None:
    """Limit later allocations to `memory_bytes`, limit open and written files, and forbid core dumps.

    Raises ValueError or OSError if the process already has lower limits.
    """
    now = _address_space_bytes()
    ceiling = now + memory_bytes + _SLACK_BYTES
    for kind, value in (
        (resource.RLIMIT_AS, ceiling),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, LOG_BYTES),
    ):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def limit_cpu(seconds: float) -> None:
    """End this process (SIGXCPU) after `seconds` more of CPU time, in case its parent cannot kill it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def refuse_calls() -> bool:
    """Make the kernel refuse sockets, new programs and tracing with EPERM. Return whether the filter is active."""
    known = _REFUSED_CALLS.get(platform.machine())
    if known is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    instructions = _filter(*known)
    buffer = ctypes.create_string_buffer(b"".join(instructions))
    # struct sock_fprog: the number of instructions, then their address.
    program = struct.pack("HL", len(instructions), ctypes.addressof(buffer))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(program), 0, 0) == 0)


def _filter(architecture: int, calls: tuple[int, ...]) -> list[bytes]:
    """Return the classic BPF program of seccomp(2): another architecture or a listed call is refused with EPERM."""

    def instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    refuse, allow = 0x00050000 | errno.EPERM, 0x7FFF0000
    body = [
        instruction(load, 0, 0, 4),  # seccomp_data.arch
        instruction(jump_if_equal, 0, len(calls) + 2, architecture),
        instruction(load, 0, 0, 0),  # seccomp_data.nr
    ]
    body += [instruction(jump_if_equal, len(calls) - at, 0, call) for at, call in enumerate(calls)]
    return [*body, instruction(answer, 0, 0, allow), instruction(answer, 0, 0, refuse)]


def _address_space_bytes() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123 - nothing to resolve
        return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
