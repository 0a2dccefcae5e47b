"""Exit codes of every process of this project. docs/semantics.md lists them for operators."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Result of a process; a supervisor decides by it whether to restart."""

    OK = 0
    # A check ran to its end and found something: a gap in the ledger, a failed test of a policy, an unknown image.
    FINDING = 1
    # The call or the settings are wrong, or a server is unreachable. The parser of the command line exits so too.
    REFUSED = 2
    # An error after which a restart continues from the last transaction.
    FAILED = 70
    # Too many dead letters. Supervisors do not restart after it: the dead letters would only grow.
    CEILING = 78
    # Ctrl-C ended the process, as shells count it: 128 and the number of the signal.
    INTERRUPTED = 130

    @classmethod
    def of_check(cls, passed: bool) -> ExitCode:
        """Return the exit code of a check that ran to its end."""
        return cls.OK if passed else cls.FINDING
