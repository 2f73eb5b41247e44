"""A journal that was shortened, changed on the disk, copied while in use, or written long ago.

Whatever happened to the file: an answer that comes out is the one that went in, and a repair keeps
what is intact.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from misalign_bench.cli.main import main
from misalign_bench.errors import UserError
from misalign_bench.journal.database import TABLES
from misalign_bench.journal.folder import RunFolder
from misalign_bench.journal.repair import repair
from misalign_bench.journal.store import Attempt, Entry, Journal

pytestmark = pytest.mark.attack

ANSWERS = 240
FLIPS = 120
CUTS = 40


def entry(number: int) -> Entry:
    chance = random.Random(number)
    said = "".join(chance.choices("abcdefghij klmnop", k=chance.randint(50, 900)))
    return Entry(
        key=f"{chance.getrandbits(256):064x}",
        role="judge",
        model="openai/m",
        template="judge@1a2b",
        request={"messages": [["user", f"Is {said[:200]} so?"]], "seed": number},
        response={"text": said, "options": None, "served": ""},
        status="ok",
        input_tokens=number,
        output_tokens=2,
        cached_tokens=0,
        cost=0.25,
        latency=0.5,
        created=1_700_000_000.0 + number,
        round=0,
        index=number % 3,
        epoch=0,
    )


ENTRIES = {one.key: one for one in map(entry, range(ANSWERS))}


async def fill(path: Path) -> None:
    journal = Journal.open(path)
    for one in ENTRIES.values():
        await journal.attempt(Attempt(one.key, one.model, one.role, 1.5, "timeout"))
    await asyncio.gather(*map(journal.put, ENTRIES.values()))
    journal.watch_endpoint("openai/m", "http://127.0.0.1:1/v1", "served", False)
    await journal.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "journal.sqlite"
    asyncio.run(fill(path))
    return path.read_bytes()


def read_all(path: Path) -> tuple[dict[str, Entry], int]:
    """What a run gets from the journal, and how many of its questions end in a line for a person.

    Anything but an answer, none and such a line fails the test.
    """
    found: dict[str, Entry] = {}
    refused = 0
    try:
        journal = Journal.open(path)
    except UserError:
        return {}, len(ENTRIES)
    with journal:
        for key in ENTRIES:
            try:
                held = journal.get(key)
            except UserError:
                refused += 1
            else:
                found |= {key: held} if held is not None else {}
        for ask in (
            journal.totals,
            lambda: list(journal.entries()),
            lambda: list(journal.attempts()),
        ):
            try:
                said = ask()
            except UserError:
                refused += 1
            else:
                assert said is not None
    return found, refused


def flipped(content: bytes, seed: int) -> bytes:
    """The content with one bit changed: anywhere, every tenth time in the first page."""
    chance = random.Random(seed)
    place = chance.randrange(4096 if seed % 10 == 0 else len(content))
    changed = bytearray(content)
    changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(content: bytes, seed: int) -> bytes:
    """The content without its end; every other time cut between two pages."""
    length = random.Random(seed).randrange(4096, len(content))
    return content[: length // 4096 * 4096 if seed % 2 else length]


CASES = [*((flipped, seed) for seed in range(FLIPS)), *((cut, seed) for seed in range(CUTS))]
Change = Callable[[bytes, int], bytes]


def test_a_changed_or_shortened_journal_never_gives_a_wrong_answer(
    whole: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite"
    refused = 0
    for change, seed in CASES:
        path.write_bytes(change(whole, seed))
        found, lines = read_all(path)
        assert found == {key: ENTRIES[key] for key in found}, (change, seed)
        # What was cut off is always noticed; a changed bit is not where it lies in unused bytes.
        assert lines > 0 or change is flipped
        refused += lines > 0
        for file in tmp_path.iterdir():
            file.unlink()
    assert refused > len(CASES) / 2


@pytest.mark.parametrize(("change", "step"), [(flipped, 3), (cut, 2)])
def test_a_repair_keeps_all_that_is_intact_and_nothing_else(
    whole: bytes, tmp_path: Path, change: Change, step: int
) -> None:
    for seed in [seed for made, seed in CASES if made is change][::step]:
        folder = tmp_path / str(seed)
        folder.mkdir()
        content = change(whole, seed)
        (folder / "journal.sqlite").write_bytes(content)
        done = repair(folder)
        with Journal.open(folder / "journal.sqlite") as journal:
            found = {one.key: one for one in journal.entries()}
            assert found == {key: ENTRIES[key] for key in found}, seed
            assert len(found) == done.kept
            assert all(journal.get(key) == one for key, one in found.items())
        # One bit is one row. The first quarter of the file holds the attempts.
        share = len(content) / len(whole)
        least = ANSWERS - 1 if change is flipped else int(ANSWERS * (share - 0.35))
        assert done.kept >= least, (seed, done)
        assert (done.aside / "journal.sqlite").read_bytes() == content
        assert sorted(file.name for file in folder.iterdir()) == [
            ".lock",
            "journal.sqlite",
            "journal.sqlite.damaged-1",
        ]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE answers SET status = 'refused' WHERE id = 7",
        "UPDATE answers SET input_tokens = input_tokens + 1 WHERE id = 7",
        "UPDATE answers SET epoch = 1 WHERE id = 7",
        "UPDATE answers SET cost = NULL WHERE id = 7",
        "UPDATE answers SET model = CAST(X'ff' AS TEXT) WHERE id = 7",
        "UPDATE answers SET response = (SELECT response FROM answers WHERE id = 8) WHERE id = 7",
        "UPDATE answers SET checksum = NULL WHERE id = 7",
    ],
)
def test_a_row_that_is_not_as_it_was_written_is_one_line_and_a_repair_drops_it(
    whole: bytes, tmp_path: Path, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)
    with Journal.open(path) as journal:
        with pytest.raises(UserError, match=r"damaged.*misalign-bench repair"):
            list(journal.entries())
        with pytest.raises(UserError, match="damaged"):
            journal.totals()
    assert main(["repair", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        f"{ANSWERS - 1} answers kept, 1 damaged rows found and left out; the journal as it was is"
        f" in {path}.damaged-1\n"
    )
    with Journal.open(path) as journal:
        assert sum(1 for _ in journal.entries()) == ANSWERS - 1
        assert journal.totals()["judge", "openai/m"].calls == ANSWERS - 1


def test_an_index_that_points_to_another_answer_gives_no_wrong_one(
    whole: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite"
    one, other = (key.encode() for key in list(ENTRIES)[:2])
    places = [place for place in range(len(whole)) if whole.startswith(one, place)]
    # The key stands in the answer's row, in the index over the answers, and in the attempt's row.
    assert len(places) == 3
    for place in places:
        path.write_bytes(whole[:place] + other + whole[place + len(other) :])
        found, _ = read_all(path)
        assert found == {key: ENTRIES[key] for key in found}


def test_a_repair_takes_what_only_the_log_holds(tmp_path: Path) -> None:
    used, copied = tmp_path / "used", tmp_path / "copied"
    used.mkdir()
    with Journal.open(used / "journal.sqlite") as journal:
        asyncio.run(journal.put(entry(1)))
        shutil.copytree(used, copied)
    assert (copied / "journal.sqlite-wal").stat().st_size > 0
    with (copied / "journal.sqlite").open("r+b") as file:
        file.write(b"not SQLite")
    assert repair(copied).kept == 1
    with Journal.open(copied / "journal.sqlite") as journal:
        assert list(journal.entries()) == [entry(1)]


def test_a_repair_is_refused_while_the_run_goes_on_and_where_there_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["repair", str(tmp_path)]) == 2
    assert "there is no journal here" in capsys.readouterr().err
    folder = RunFolder.open(tmp_path, command="build", settings_dump={})
    Journal.open(folder.journal).__exit__()
    assert main(["repair", str(tmp_path)]) == 2
    assert "works in this run folder" in capsys.readouterr().err
    folder.close()
    assert main(["repair", str(tmp_path)]) == 0


def test_a_run_folder_copied_while_in_use_opens_with_every_answer(tmp_path: Path) -> None:
    used, copied = tmp_path / "used", tmp_path / "copied"
    with (
        RunFolder.open(used, command="build", settings_dump={"seed": 7}) as folder,
        Journal.open(folder.journal) as journal,
    ):
        asyncio.run(put_all(journal))
        shutil.copytree(used, copied)
    with RunFolder.open(copied, command="build", settings_dump={"seed": 7}) as folder:
        assert folder.manifest.status == "running"
        found, refused = read_all(folder.journal)
    assert (found, refused) == (ENTRIES, 0)


@pytest.mark.parametrize("first", ["journal.sqlite", "journal.sqlite-wal"])
@pytest.mark.parametrize("seed", range(6))
def test_a_copy_whose_files_are_of_two_moments_never_gives_a_wrong_answer(
    tmp_path: Path, first: str, seed: int
) -> None:
    used, copied = tmp_path / "used", tmp_path / "copied"
    used.mkdir()
    copied.mkdir()
    everything = list(ENTRIES.values())
    early = random.Random(seed).randrange(1, ANSWERS)
    with Journal.open(used / "journal.sqlite") as journal:
        asyncio.run(put_all(journal, everything[:early]))
        shutil.copy(used / first, copied)
        with closing(sqlite3.connect(journal.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        asyncio.run(put_all(journal, everything[early:]))
        for name in {"journal.sqlite", "journal.sqlite-wal"} - {first}:
            shutil.copy(used / name, copied)
    found, _ = read_all(copied / "journal.sqlite")
    assert found == {key: ENTRIES[key] for key in found}
    assert repair(copied).kept >= len(found)


@pytest.fixture
def old(whole: bytes, tmp_path: Path) -> Path:
    """A journal of schema 1, which had no checksums."""
    if sqlite3.sqlite_version_info < (3, 35):
        pytest.skip("this SQLite cannot drop a column")
    path = tmp_path / "journal.sqlite"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for table in TABLES:
            connection.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        connection.execute("UPDATE meta SET value = '1' WHERE name = 'schema_version'")
    return path


def test_a_journal_of_the_older_schema_is_read_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    with Journal.open(old, read_only=True) as journal:
        assert list(journal.entries()) == list(ENTRIES.values())
        assert [journal.get(key) for key in ENTRIES] == list(ENTRIES.values())
        assert journal.totals()["judge", "openai/m"].attempts == ANSWERS
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            journal._rows("DELETE FROM meta")
    assert old.read_bytes() == before


def test_a_journal_of_the_older_schema_is_brought_up_to_date_by_the_next_run(old: Path) -> None:
    for _ in range(2):
        assert read_all(old) == (ENTRIES, 0)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT value FROM meta").fetchone() == ("2",)
        held = connection.execute("SELECT COUNT(checksum) FROM answers").fetchone()
    assert held == (ANSWERS,)


def test_a_repair_brings_the_older_schema_up_to_date(old: Path) -> None:
    done = repair(old.parent)
    assert (done.kept, done.damaged) == (ANSWERS, 0)
    assert read_all(old) == (ENTRIES, 0)


def test_a_damaged_row_of_the_older_schema_is_not_sealed(old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("UPDATE answers SET response = X'00' WHERE id = 7")
    with (
        Journal.open(old, read_only=True) as journal,
        pytest.raises(UserError, match="damaged"),
    ):
        list(journal.entries())
    found, refused = read_all(old)
    assert found == {key: one for n, (key, one) in enumerate(ENTRIES.items()) if n != 6}
    assert refused > 0


@pytest.mark.parametrize("version", ["0", "-1", "two", ""])
def test_a_schema_that_never_was_is_damage(whole: bytes, tmp_path: Path, version: str) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (version,))
    for read_only in (False, True):
        with pytest.raises(UserError, match="damaged"):
            Journal.open(path, read_only=read_only)


async def put_all(journal: Journal, entries: Iterable[Entry] = ENTRIES.values()) -> None:
    for one in entries:
        await journal.put(one)
