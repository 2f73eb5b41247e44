"""The command line's frame: exit codes, one line for every failure, progress, tables."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from misalign_bench import __version__
from misalign_bench.cli import main as frame
from misalign_bench.cli.progress import Progress
from misalign_bench.cli.render import json_out, table
from misalign_bench.errors import GateFailed, OutsideWorld, UserError
from misalign_bench.llm import secrets

Captured = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run_program(
    *arguments: str, stdout: IO[str] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "misalign_bench.cli.main", *arguments],
        check=False,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
    )


@pytest.fixture
def ends_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | int], int]:
    """Run a command that ends with the given exit code or exception."""

    def run(end: BaseException | int) -> int:
        class Ending:
            NAME = "stats"
            HELP = "ends"

            def add_arguments(self, parser: argparse.ArgumentParser) -> None:
                parser.add_argument("--number", type=int)

            def run(self, arguments: argparse.Namespace) -> int:
                if isinstance(end, BaseException):
                    raise end
                return end

        monkeypatch.setattr(frame, "command", lambda name: Ending())
        return frame.main(["stats"])

    return run


@pytest.mark.parametrize("name", frame.COMMANDS)
def test_every_command_has_a_name_and_a_line_of_help(name: str) -> None:
    module = frame.command(name)
    assert name == module.NAME
    assert module.HELP
    assert "\n" not in module.HELP


def test_help_names_every_command(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as left:
        frame.main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^    {name}(?: |$)", shown, re.MULTILINE) for name in frame.COMMANDS)


def test_the_version_is_printed(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as left:
        frame.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"misalign-bench {__version__}\n"


@pytest.mark.parametrize("typed", [[], ["stat"], ["domains", "--dimension", "size"]])
def test_a_mistyped_command_is_one_line_and_bad_input(typed: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as left:
        frame.main(typed)
    assert left.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"misalign-bench: .* See: misalign-bench.* --help\n", shown.err)


@pytest.mark.parametrize(
    ("end", "code", "line"),
    [
        (UserError("no column 'prompt'", "a.csv"), 2, "a.csv: no column 'prompt'"),
        (OutsideWorld("the server is gone", mend="Try again"), 3, "the server is gone. Try again"),
        (GateFailed("coverage 0.5 is under 0.9"), 1, "coverage 0.5 is under 0.9"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/a"),
            3,
            "out/a: No space left on device. Mend it and run the same command again",
        ),
        (KeyboardInterrupt(), 130, "interrupted. Run the same command again to continue"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    end: BaseException, code: int, line: str, ends_with: Callable[..., int], capsys: Captured
) -> None:
    assert ends_with(end) == code
    assert capsys.readouterr().err == f"misalign-bench: {line}\n"


@pytest.mark.parametrize("code", [0, 1])
def test_a_command_decides_its_exit_code(code: int, ends_with: Callable[..., int]) -> None:
    assert ends_with(code) == code


def test_a_defect_keeps_its_traceback(ends_with: Callable[..., int]) -> None:
    with pytest.raises(ZeroDivisionError):
        ends_with(ZeroDivisionError())


def test_a_failure_keeps_its_traceback_on_request(
    ends_with: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(frame.TRACEBACK, "1")
    with pytest.raises(UserError):
        ends_with(UserError("wrong"))


def test_an_error_line_holds_no_key_and_no_control_sequence(
    ends_with: Callable[..., int], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "planted-key-of-a-person")
    key = secrets.from_environment("PLANTED")
    ends_with(OutsideWorld(f"the server says {key} \x1b]0;owned\x07"))
    shown = capsys.readouterr().err
    assert shown == "misalign-bench: the server says [redacted] ⟦U+001B⟧]0;owned⟦U+0007⟧\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        ran = run_program("domains", stdout=full)
    assert ran.returncode == 3
    assert ran.stderr.count(b"\n") == 1
    assert ran.stderr.startswith(b"misalign-bench: No space left on device")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        ran = run_program("domains", "--json", stdout=pipe)
    assert ran.returncode == 3
    assert ran.stderr == b""


def test_text_that_the_output_cannot_encode_is_escaped(
    ends_with: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(held, encoding="ascii"))
    ends_with(0)
    print("caf\u00e9 \ud800")
    sys.stdout.flush()
    assert held.getvalue() == b"caf\\xe9 \\ud800\n"


def test_progress_off_a_terminal_is_a_closing_line_a_stage(capsys: Captured) -> None:
    report = Progress()
    with report.stage("classify", total=1200) as stage:
        for _ in range(1200):
            stage.advance(spend=0.001)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"classify: 1,200 of 1,200, \$1\.2000, took .* s\n", shown.err)


def test_progress_off_a_terminal_reports_again_after_some_seconds(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress().stage("respond", total=40) as stage:
        for _ in range(20):
            now[0] += 1.0
            stage.advance(2 if now[0] <= 110 else 1)
    assert capsys.readouterr().err.splitlines() == [
        "respond: 10 of 40, 2/s, 15 s left",
        "respond: 20 of 40, 2/s, 10 s left",
        "respond: 25 of 40, 1.7/s, 9.0 s left",
        "respond: 30 of 40, 1.5/s, 6.7 s left",
        "respond: 30 of 40, took 20 s",
    ]


def test_the_rate_forgets_what_was_replayed_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress(quiet=True).stage("respond", total=100_000) as stage:
        now[0] = 1.0
        stage.advance(90_000)
        for _ in range(60):
            now[0] += 1.0
            stage.advance()
        assert stage.status().split(", ")[1] == "1/s"


def test_quiet_progress_prints_nothing(capsys: Captured) -> None:
    report = Progress(quiet=True)
    report.line("hello")
    with report.stage("classify", total=2) as stage:
        stage.advance()
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_a_stage_with_nothing_to_do_leaves_no_line(capsys: Captured) -> None:
    with Progress().stage("calibrate"):
        pass
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_draws_a_bar_and_prints_no_foreign_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    report = Progress()
    with report.stage("classify [b]", total=2) as stage:
        stage.advance(2, note="\x1b]0;owned\x07 [red]")
        report.line("\x1b[2J gone [/nothing]")
    drawn = terminal.getvalue()
    assert "\x1b]0;" not in drawn
    assert "\x1b[2J" not in drawn
    assert "classify [b]" in drawn
    assert "2 of 2" in drawn
    assert "⟦U+001B⟧]0;owned⟦U+0007⟧ [red]" in drawn
    assert "⟦U+001B⟧[2J gone [/nothing]" in drawn


def test_a_stage_ends_its_bars_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(OutsideWorld), Progress().stage("classify", total=2):
        raise OutsideWorld("gone")
    # The cursor is shown again.
    assert terminal.getvalue().rstrip().endswith("\x1b[?25h")


def test_a_table_in_a_pipe_is_tab_separated(capsys: Captured) -> None:
    table([["a\tb\x1b[31m", 0.5, None], ["c", 2, True]], ["name", "share", "note"])
    assert capsys.readouterr().out == "name\tshare\tnote\na b⟦U+001B⟧[31m\t0.500\t\nc\t2\tTrue\n"


def test_a_table_on_a_terminal_shows_markup_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    table([["[red]a", 0.5]], ["name", "share"])
    assert "[red]a" in terminal.getvalue()
    assert "0.500" in terminal.getvalue()


def test_json_keeps_letters_and_refuses_what_json_has_no_word_for(capsys: Captured) -> None:
    json_out({"name": "é"})
    assert capsys.readouterr().out == '{\n  "name": "é"\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        json_out(float("nan"))
