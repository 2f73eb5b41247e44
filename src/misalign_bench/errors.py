"""The two ways in which a command stops before its end.

``UserError`` is input that a person must mend (exit code 2); ``OutsideWorld`` is a server, a disk
or a budget that said no (exit code 3, resumable). Both are printed as one line. What the outside
world does to a single row is never raised: it is a value (see ``records``).
"""

from __future__ import annotations


class UserError(Exception):
    """Bad input: what is wrong, where, and how to mend it.

    >>> print(UserError("prompts.csv has no column 'prompt'", mend="Name it: --prompt-column text"))
    prompts.csv has no column 'prompt'. Name it: --prompt-column text
    """

    exit_code = 2

    def __init__(self, what: str, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        head = f"{where}: {what}" if where else what
        line = f"{head.rstrip('.')}. {mend}" if mend else head
        super().__init__(" ".join(line.split()))


class OutsideWorld(UserError):
    """The outside world or a spent budget stopped the run; what is in the journal is kept."""

    exit_code = 3


class GateFailed(UserError):
    """A threshold that the caller asked for was not met (exit code 1)."""

    exit_code = 1
