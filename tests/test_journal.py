"""The journal on real files: durability, first write wins, one clear line for every failure."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.journal import store
from misalign_bench.journal.database import open_for_writing
from misalign_bench.journal.store import Attempt, Entry, Journal, Totals

GUARD_SECONDS = 60
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals, limits or permissions")

WRITER = """
    import asyncio, os, sys
    from pathlib import Path
    from misalign_bench.errors import UserError
    from misalign_bench.journal.store import Entry, Journal

    def entry(key):
        body = {"text": os.urandom(700).hex()}
        return Entry(key, "judge", "openai/m", "t@1", {"key": key}, body, "ok",
                     1, 1, 0, None, 0.1, 1.0, 0, 0, 0)

    async def write(journal, name, count):
        for number in range(count):
            key = f"{name}-{number}"
            await journal.put(entry(key))
            os.write(1, f"{key}\\n".encode())

    async def main(path, prefix, workers, count):
        journal = Journal.open(Path(path))
        names = [f"{prefix}-{worker}" for worker in range(workers)]
        results = await asyncio.gather(
            *(write(journal, name, count) for name in names), return_exceptions=True)
        for result in results:
            if result is not None:
                os.write(2, f"{type(result).__name__} {result}\\n".encode())
        await journal.close()
"""


def entry(key: str = "k1", text: str = "yes", **changes: object) -> Entry:
    made = Entry(
        key=key,
        role="judge",
        model="openai/m",
        template="judge@1a2b",
        request={"messages": [["user", "Is it so?"]], "sampling": [0.7, 0.9, 512]},
        response={"text": text, "options": {"yes": -0.1, "no": float("-inf")}},
        status="ok",
        input_tokens=10,
        output_tokens=2,
        cached_tokens=4,
        cost=0.25,
        latency=0.5,
        created=1_700_000_000.5,
        round=1,
        index=2,
        epoch=3,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def attempt(kind: str = "timeout", **changes: object) -> Attempt:
    made = Attempt("k1", "openai/m", "judge", 1.5, kind, "no answer in 120 s", 120.0, None)
    return replace(made, **changes)  # type: ignore[arg-type]


def child(script: str, *, body: str = WRITER) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(body) + textwrap.dedent(script)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


async def test_an_answer_is_replayed_after_the_journal_was_closed(path: Path) -> None:
    journal = Journal.open(path)
    assert journal.get("k1") is None
    await journal.put(entry())
    assert journal.get("k1") == entry()
    await journal.close()

    with Journal.open(path) as journal:
        assert journal.get("k1") == entry()
        assert journal.keys() == {"k1"}
        assert journal.count() == 1


async def test_a_closed_journal_is_one_file(path: Path) -> None:
    journal = Journal.open(path)
    await journal.put(entry())
    await journal.close()
    await journal.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_put_returns_the_same_value_live_and_replayed(path: Path) -> None:
    with Journal.open(path) as journal:
        live = await journal.put(entry(response={"text": "a", "spans": (1, 2)}))
        assert live.response["spans"] == [1, 2]
        assert live == journal.get("k1")


async def test_of_two_concurrent_puts_the_first_written_wins_for_both(path: Path) -> None:
    with Journal.open(path) as journal:
        held = await asyncio.gather(journal.put(entry(text="one")), journal.put(entry(text="two")))
        assert held[0] == held[1] == journal.get("k1")
        assert held[0].response["text"] == "one"
        assert journal.count() == 1


async def test_two_journals_on_one_file_agree_on_the_first_write(path: Path) -> None:
    with Journal.open(path) as one, Journal.open(path) as other:
        await one.put(entry(text="one"))
        held = await other.put(entry(text="two"))
        assert held.response["text"] == "one"


async def test_many_puts_at_once_are_all_stored(path: Path) -> None:
    with Journal.open(path) as journal:
        held = await asyncio.gather(*(journal.put(entry(f"k{n}")) for n in range(350)))
        assert [one.key for one in held] == [f"k{n}" for n in range(350)]
        assert journal.keys() == {f"k{n}" for n in range(350)}


async def test_a_cancelled_put_disturbs_no_other(path: Path) -> None:
    with Journal.open(path) as journal:
        lost = asyncio.ensure_future(journal.put(entry("k1")))
        await asyncio.sleep(0)
        lost.cancel()
        assert (await journal.put(entry("k2"))).key == "k2"
        with pytest.raises(asyncio.CancelledError):
            await lost


def test_a_journal_serves_one_event_loop_after_another(path: Path) -> None:
    with Journal.open(path) as journal:
        asyncio.run(journal.put(entry("k1")))
        asyncio.run(journal.put(entry("k2")))
        assert journal.keys() == {"k1", "k2"}


@pytest.mark.parametrize(
    "text",
    ["half a pair \ud83d", "\ud83d\ude00", "nul \x00 inside", "\U0001f600 \u202e \uffff", ""],
)
async def test_any_text_comes_back_as_it_was(path: Path, text: str) -> None:
    with Journal.open(path) as journal:
        await journal.put(entry(text=text, request={"messages": [["user", text]]}))
    with Journal.open(path, read_only=True) as journal:
        held = journal.get("k1")
        assert held is not None
        assert held.response["text"] == text
        assert held.request["messages"] == [["user", text]]


async def test_attempts_are_kept_apart_from_answers(path: Path) -> None:
    with Journal.open(path) as journal:
        await journal.attempt(attempt())
        await journal.attempt(attempt("rate_limit", detail="slow down \ud83d", status=429))
        await journal.put(entry("k2"))
        assert journal.get("k1") is None
        assert journal.count() == 1
        assert [one.kind for one in journal.attempts()] == ["timeout", "rate_limit"]
        assert next(journal.attempts()) == attempt()
        assert [one.status for one in journal.attempts(kind="rate_limit")] == [429]


async def test_attempts_that_nobody_waited_for_are_there_after_closing(path: Path) -> None:
    journal = Journal.open(path)
    for _ in range(250):
        await journal.attempt(attempt())
    await journal.close()
    with Journal.open(path, read_only=True) as journal:
        assert sum(1 for _ in journal.attempts()) == 250


async def test_totals_sum_answers_and_attempts_by_role_and_model(path: Path) -> None:
    with Journal.open(path) as journal:
        await journal.attempt(attempt("timeout"))
        await journal.attempt(attempt("timeout"))
        await journal.attempt(attempt("ok"))
        await journal.attempt(attempt("http_500", role="target"))
        await journal.put(entry("k1"))
        await journal.put(entry("k2", cost=None))
        assert journal.totals() == {
            ("judge", "openai/m"): Totals(2, 20, 4, 8, 0.25, 1, 1.0, 3, {"timeout": 2}),
            ("target", "openai/m"): Totals(attempts=1, errors={"http_500": 1}),
        }


async def test_entries_come_in_the_order_of_writing_by_role_and_model(path: Path) -> None:
    with Journal.open(path) as journal:
        wanted = [
            entry(f"k{n:04}", role=("target", "judge")[n % 2], model=f"openai/{n % 3}")
            for n in range(1100)
        ]
        await asyncio.gather(*(journal.put(one) for one in wanted))
        assert list(journal.entries()) == wanted
        chosen = list(journal.entries(role="judge", model="openai/0"))
        assert chosen == [one for n, one in enumerate(wanted) if n % 2 and n % 3 == 0]


async def test_reading_entries_does_not_hide_what_is_written_meanwhile(path: Path) -> None:
    with Journal.open(path) as journal:
        await journal.put(entry("k1"))
        await journal.put(entry("k2"))
        reading = journal.entries()
        next(reading)
        await journal.put(entry("k3"))
        assert journal.get("k3") is not None


async def test_a_count_that_no_column_holds_fails_its_own_put_only(path: Path) -> None:
    with Journal.open(path) as journal:
        bad, good = await asyncio.gather(
            journal.put(entry("k1", input_tokens=10**30)),
            journal.put(entry("k2")),
            return_exceptions=True,
        )
        assert isinstance(bad, OutsideWorld)
        assert good == entry("k2")
        with pytest.raises(OutsideWorld, match="cannot be stored"):
            await journal.put(entry("k3", latency=float("nan")))
        assert journal.keys() == {"k2"}


@POSIX
def test_every_acknowledged_answer_survives_kill_nine(path: Path) -> None:
    acknowledged: set[str] = set()
    for run in range(3):
        script = f"asyncio.run(main({str(path)!r}, 'run{run}', 20, 100000))"
        with subprocess.Popen(child(script), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(100 + 150 * run)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        acknowledged |= {line.decode().strip() for line in lines if line.endswith(b"\n")}
    with Journal.open(path) as journal:
        assert len(acknowledged) >= 750
        assert acknowledged <= journal.keys()
        assert sum(1 for _ in journal.entries()) == journal.count()


@POSIX
def test_a_disk_that_takes_no_more_stops_every_put_and_loses_nothing(path: Path) -> None:
    script = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        asyncio.run(main({str(path)!r}, "full", 40, 100000))
    """
    done = subprocess.run(child(script), capture_output=True, timeout=GUARD_SECONDS, check=False)
    told = done.stderr.decode().splitlines()
    assert len(told) == 40, told
    assert {line.split()[0] for line in told} == {"OutsideWorld"}
    assert all("run the same command again" in line for line in told)
    acknowledged = set(done.stdout.decode().split())
    assert acknowledged
    with Journal.open(path) as journal:
        assert acknowledged <= journal.keys()


async def test_a_full_disk_is_named_and_nothing_is_acknowledged_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_few_pages(file: Path) -> sqlite3.Connection:
        connection = open_for_writing(file)
        connection.execute("PRAGMA max_page_count=40")
        return connection

    monkeypatch.setattr(store, "open_for_writing", with_few_pages)
    journal = Journal.open(path)
    puts = (journal.put(entry(f"k{n}", text=os.urandom(2000).hex())) for n in range(300))
    gathered = asyncio.gather(*puts, return_exceptions=True)
    results = await asyncio.wait_for(gathered, GUARD_SECONDS)
    stored = {one.key for one in results if isinstance(one, Entry)}
    refused = [one for one in results if isinstance(one, OutsideWorld)]
    assert len(stored) + len(refused) == 300
    assert len(refused) > 0
    assert {str(one) for one in refused} == {
        f"{path}: the disk is full. Free some space and run the same command again; what is"
        " stored so far is kept"
    }
    with pytest.raises(OutsideWorld, match="disk is full"):
        await journal.put(entry("small"))
    with pytest.raises(OutsideWorld, match="disk is full"):
        await journal.attempt(attempt())
    await asyncio.wait_for(journal.close(), GUARD_SECONDS)

    monkeypatch.undo()
    with Journal.open(path) as journal:
        assert journal.keys() == stored
        await journal.put(entry("small"))


@POSIX
def test_a_folder_that_may_not_be_written_is_one_line(open_to_all: Path) -> None:
    with Journal.open(open_to_all / "journal.sqlite") as journal:
        asyncio.run(journal.put(entry()))
    open_to_all.chmod(0o555)
    script = """
        import os
        from pathlib import Path
        from misalign_bench.errors import UserError
        from misalign_bench.journal.store import Journal
        folder = Path(FOLDER)
        if os.geteuid() == 0:
            os.setuid(65534)
        for name in ("journal.sqlite", "new.sqlite"):
            try:
                Journal.open(folder / name)
            except UserError as error:
                print(error.exit_code, error)
        with Journal.open(folder / "journal.sqlite", read_only=True) as journal:
            print(journal.count(), "read")
    """
    done = subprocess.run(
        child(script.replace("FOLDER", repr(str(open_to_all))), body=""),
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=False,
    )
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("the package's folder cannot be read by another user")
    assert done.stderr == ""
    old, new, read = done.stdout.splitlines()
    assert old.startswith(f"2 {open_to_all / 'journal.sqlite'}: it ")
    assert new.startswith(f"2 {open_to_all / 'new.sqlite'}: it ")
    assert read == "1 read"


def test_a_folder_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened") as raised:
        Journal.open(tmp_path / "missing" / "journal.sqlite")
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "content", [b"not a database", b"\x00" * 5000, b"SQLite format 3\x00" * 99]
)
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_was(
    path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(UserError, match="damaged, or no journal") as raised:
            Journal.open(path, read_only=read_only)
        assert raised.value.exit_code == 2
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_as_it_was(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (name TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="another program"):
        Journal.open(path)
    assert path.read_bytes() == before


def test_a_journal_of_a_newer_version_is_refused(path: Path) -> None:
    Journal.open(path).__exit__()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = '3' WHERE name = 'schema_version'")
    connection.execute("UPDATE meta SET value = '9.0' WHERE name = 'project_version'")
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match=r"written by misalign-bench 9\.0 \(schema 3;.*Upgrade"):
        Journal.open(path)


async def test_a_damaged_page_is_one_line_for_the_reader(path: Path) -> None:
    with Journal.open(path) as journal:
        for number in range(60):
            await journal.put(entry(f"k{number}", text=os.urandom(900).hex()))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)
    with (
        Journal.open(path, read_only=True) as journal,
        pytest.raises(UserError, match="damaged"),
    ):
        list(journal.entries())


def test_a_damaged_body_is_one_line_for_the_reader(path: Path) -> None:
    with Journal.open(path) as journal:
        asyncio.run(journal.put(entry()))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE answers SET response = X'00'")
    connection.commit()
    connection.close()
    with (
        Journal.open(path, read_only=True) as journal,
        pytest.raises(UserError, match="damaged"),
    ):
        journal.get("k1")


def test_there_is_nothing_to_read_without_a_journal(path: Path) -> None:
    with pytest.raises(UserError, match="there is no journal here"):
        Journal.open(path, read_only=True)
    assert not path.exists()


async def test_a_reader_sees_what_another_connection_writes(path: Path) -> None:
    with Journal.open(path) as journal, Journal.open(path, read_only=True) as reader:
        await journal.put(entry())
        assert reader.get("k1") == entry()


async def test_writing_to_a_closed_or_read_only_journal_is_a_defect(path: Path) -> None:
    journal = Journal.open(path)
    await journal.close()
    with pytest.raises(RuntimeError, match="closed"):
        await journal.put(entry())
    with Journal.open(path, read_only=True) as reader, pytest.raises(RuntimeError, match="read"):
        await reader.put(entry())


def test_a_changed_base_url_asks_for_a_revision_or_same_model(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.watch_endpoint("openai/m", "http://one/v1", "", False)
        journal.watch_endpoint("openai/m", "http://one/v1", "", False)
    with Journal.open(path) as journal:
        with pytest.raises(UserError, match="from http://one/v1 before") as raised:
            journal.watch_endpoint("openai/m", "http://two/v1", "", False)
        assert "`revision:`" in str(raised.value)
        assert "`same_model: true`" in str(raised.value)
        assert raised.value.exit_code == 2
        assert "\n" not in str(raised.value)
        journal.watch_endpoint("openai/m revision=2", "http://two/v1", "", False)


def test_a_changed_fingerprint_asks_for_a_revision_or_same_model(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.watch_endpoint("openai/m", "http://one/v1", "", False)
        journal.watch_endpoint("openai/m", "http://one/v1", "fp-1", False)
        journal.watch_endpoint("openai/m", "http://one/v1", "", False)
        with pytest.raises(UserError, match="served as fp-1 before and is served as fp-2 now"):
            journal.watch_endpoint("openai/m", "http://one/v1", "fp-2", False)


def test_a_change_that_the_user_vouched_for_is_recorded(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.watch_endpoint("openai/m", "http://one/v1", "fp-1", False)
        journal.watch_endpoint("openai/m", "http://two/v1", "fp-2", True)
    with Journal.open(path) as journal:
        journal.watch_endpoint("openai/m", "http://two/v1", "fp-1", False)
        with pytest.raises(UserError, match="http://one/v1 or http://two/v1 before"):
            journal.watch_endpoint("openai/m", "http://three/v1", "fp-1", False)


def test_credentials_in_a_base_url_are_not_stored(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.watch_endpoint("openai/m", "https://me:hunter2@host/v1?api-key=hunter2", "", False)
    assert b"host/v1" in path.read_bytes()
    assert b"hunter2" not in path.read_bytes()


async def test_a_request_with_other_key_order_packs_to_the_same_bytes(path: Path) -> None:
    with Journal.open(path) as journal:
        await journal.put(entry("k1", request={"a": 1, "b": [2]}))
        await journal.put(entry("k2", request={"b": [2], "a": 1}))
    connection = sqlite3.connect(path)
    bodies = [body for (body,) in connection.execute("SELECT request FROM answers")]
    connection.close()
    assert bodies[0] == bodies[1]


async def test_a_body_that_is_not_json_able_is_a_defect(path: Path) -> None:
    with Journal.open(path) as journal:
        with pytest.raises(TypeError):
            await journal.put(entry(response={"text": b"bytes"}))
        assert journal.count() == 0
