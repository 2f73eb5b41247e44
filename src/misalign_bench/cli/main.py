"""``misalign-bench``: finds the command, runs it, and turns how it ended into an exit code.

A command is a module of this package with ``NAME``, ``HELP``, ``add_arguments(parser)`` and
``run(arguments) -> exit code``. Only the module that is asked for is imported, and a command
imports what is heavy inside ``run``.

Exit codes (contract, section 5): 0 done, 1 a gate failed, 2 bad input, 3 the outside world or a
spent budget (resumable), 130 interrupted. Anything else that goes wrong is a defect of this
program and keeps its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn, Protocol, cast

from misalign_bench import __version__
from misalign_bench.cli.render import plain
from misalign_bench.errors import UserError
from misalign_bench.llm.secrets import redact
from misalign_bench.prompts.visible import visible

PROGRAM = "misalign-bench"
COMMANDS = (
    "demo",
    "build",
    "bench",
    "calibrate",
    "report",
    "plan",
    "validate",
    "export",
    "audit",
    "show",
    "repair",
    "stats",
    "domains",
    "classify",
    "fit",
    "agree",
    "dedup",
    "weights",
)
INTERRUPTED = 130
OUTSIDE_WORLD = 3
TRACEBACK = "MISALIGN_BENCH_TRACEBACK"


class Command(Protocol):
    """What a module of a command holds."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; the result is the exit code."""


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with code 2."""
        _say(f"{message}. See: {self.prog} --help")
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        arguments: as typed after the program's name; by default those of this process.
    """
    asked = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        sys.excepthook = _show_defect
    for stream in (sys.stdout, sys.stderr):
        # A model may write what the terminal's encoding cannot hold; it is shown escaped.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(asked)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        _say("interrupted. Run the same command again to continue")
        return INTERRUPTED
    except BrokenPipeError:
        _leave_stdout()
        return OUTSIDE_WORLD
    except (UserError, OSError) as error:
        if os.environ.get(TRACEBACK):
            raise
        if isinstance(error, UserError):
            _say(str(error))
            return error.exit_code
        _leave_stdout()
        _say(_explain(error))
        return OUTSIDE_WORLD


def parser(commands: Sequence[str] = COMMANDS) -> Parser:
    """The argument parser for these commands, with their modules imported."""
    top = Parser(
        prog=PROGRAM,
        description="Measure models, judges and guardrails on safety, value and culture at once.",
        epilog=f"{PROGRAM} COMMAND --help says what a command takes.",
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    choices = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands:
        module = command(name)
        about = (module.__doc__ or module.HELP).partition("\n\n")[0]
        own = choices.add_parser(
            name, help=module.HELP, description=" ".join(about.replace("``", "").split())
        )
        module.add_arguments(own)
        own.set_defaults(run=module.run)
    return top


def command(name: str) -> Command:
    """The module of one command."""
    return cast(Command, importlib.import_module(f"misalign_bench.cli.{name}"))


def _run(asked: list[str]) -> int:
    known = asked[:1] if asked and asked[0] in COMMANDS else COMMANDS
    arguments = parser(known).parse_args(asked)
    return cast(int, arguments.run(arguments))


def _say(text: str) -> None:
    print(f"{PROGRAM}: {plain(redact(text))}", file=sys.stderr)


def _explain(error: OSError) -> str:
    """One line for what the system refused, with the file if it names one."""
    said = error.strerror or str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{said}. Mend it and run the same command again"


def _show_defect(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """Print a traceback, with all that it was caused by, without keys and control sequences."""
    import traceback

    sys.stderr.write(visible(redact("".join(traceback.format_exception(kind, error, at)))))


def _leave_stdout() -> None:
    """Send what is still buffered to nowhere, or the interpreter's exit would fail on it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except OSError:
        # Standard output is no file, as in a test that captures it.
        pass
    finally:
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
